/**
 * Serves the routes over HTTP/1.1 on a Unix socket. Every limit that keeps a
 * slow, large or broken client from harming anybody is here.
 */
import type { RequestListener, Server } from 'node:http';
import { fastify, type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import { ProblemError } from '../../state/problem.ts';
import type { Engine } from '../engine.ts';
import { replyOfHttp, replyOfProblems, type ErrorReply } from '../errors.ts';
import { openApi } from '../openapi.ts';
import type { Route } from '../route.ts';
import { ROUTES } from '../routes.ts';
import { http } from './http.ts';
import { listenOn } from './socket.ts';
import { Streams } from './stream.ts';

/** The part of pino that is used here. */
export interface ApiLog {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ApiOptions {
  readonly socketPath: string;
  readonly version: string;
  readonly log: ApiLog;
  readonly limits?: Partial<ApiLimits>;
}

/** All guesses, set so that a person with curl never meets one. */
export interface ApiLimits {
  /** Time for the header block. */
  readonly headersTimeoutMs: number;
  /** Time for the whole request, body included. */
  readonly requestTimeoutMs: number;
  /** A connection on which nothing moves, not even the answer. */
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  /** Connections beyond this are closed at once. */
  readonly connectionsMax: number;
  readonly headerBytesMax: number;
  /** How long requests under way may take when the server stops. */
  readonly stopTimeoutMs: number;
}

const LIMITS: ApiLimits = {
  headersTimeoutMs: 5000,
  requestTimeoutMs: 30_000,
  idleTimeoutMs: 60_000,
  keepAliveTimeoutMs: 5000,
  connectionsMax: 256,
  headerBytesMax: 8192,
  stopTimeoutMs: 2000,
};

export interface ApiServer {
  /** Takes no new requests, lets those under way finish for a moment, removes the socket file. */
  close(): Promise<void>;
}

function createHttpServer(handler: RequestListener, limits: ApiLimits): Server {
  const server = http().createServer(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      // How often the two timeouts above are looked at.
      connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutMs),
      maxHeaderSize: limits.headerBytesMax,
    },
    handler,
  );
  server.maxConnections = limits.connectionsMax;
  server.setTimeout(limits.idleTimeoutMs);
  return server;
}

const HTTP_CODES: Readonly<
  Record<number, readonly [code: string, message: string, hint?: string]>
> = {
  400: ['invalid', 'the request is malformed'],
  404: ['not-found', 'there is no such path', 'GET /v1/openapi.json describes them all'],
  408: ['timeout', 'the request took too long to arrive'],
  413: [
    'too-large',
    'the body is too large',
    'split it: apply takes 16 MiB, everything else 1 MiB',
  ],
  415: ['unsupported-media-type', 'the body is not JSON', 'send content-type: application/json'],
  431: ['too-large', 'the header is too large'],
};

function replyOfStatus(status: number, detail?: string): ErrorReply {
  const [code, message, hint] = HTTP_CODES[status] ?? ['invalid', 'the request is malformed'];
  return replyOfHttp(status, code, detail === undefined ? message : `${message}: ${detail}`, hint);
}

function replyOfError(error: unknown, log: ApiLog): ErrorReply {
  if (error instanceof ProblemError) return replyOfProblems(error.problems);
  const status = (error as Partial<FastifyError>).statusCode;
  if (error instanceof Error && status !== undefined && status >= 400 && status < 500) {
    return replyOfStatus(status, error.message);
  }
  log.error({ error }, 'a request met a bug');
  return replyOfHttp(
    500,
    'internal',
    'the agent met a bug',
    'its log has the details (journalctl -u zerohop); please report it',
  );
}

async function send(reply: FastifyReply, answer: ErrorReply): Promise<void> {
  await reply.code(answer.status).send(answer.body);
}

function addRoute(app: FastifyInstance, engine: Engine, route: Route, streams: Streams): void {
  app.route({
    method: route.method,
    url: route.path.replaceAll(/\{([a-z]+)\}/g, ':$1'),
    bodyLimit: route.bodyBytesMax,
    handler: async (request, reply) => {
      const { params, query, body } = request;
      if (route.body === undefined && body !== undefined && body !== null) {
        throw new ProblemError([
          { code: 'invalid', message: `${route.method} ${route.path} takes no body` },
        ]);
      }
      const raw = { params, query, body };
      const { stream } = route;
      if (stream !== undefined && streams.start(reply, (sink) => stream(engine, raw, sink))) {
        return reply;
      }
      const answer = await route.run(engine, raw);
      if (route.contentType !== undefined) reply.type(route.contentType);
      return await reply.code(route.status).send(answer);
    },
  });
}

const notUsed = (): never => {
  throw new Error('bug: a route with a schema of fastify');
};

function createApp(
  engine: Engine,
  options: ApiOptions,
  limits: ApiLimits,
  streams: Streams,
): FastifyInstance {
  const app = fastify({
    serverFactory: (handler) => createHttpServer(handler, limits),
    routerOptions: { maxParamLength: 300, ignoreTrailingSlash: true },
    exposeHeadRoutes: false,
    // No route has a schema for fastify to compile: its compilers (ajv) are not even loaded.
    schemaController: { compilersFactory: { buildValidator: notUsed, buildSerializer: notUsed } },
    // What the router itself refuses: undecodable or overlong parameters.
    frameworkErrors: (error, _request, reply) => void send(reply, replyOfError(error, options.log)),
    clientErrorHandler: (error, socket) => {
      // Not HTTP, or too slow: the parser is lost, so answer by hand and hang up.
      if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy();
      const codes: Readonly<Record<string, number>> = {
        ERR_HTTP_REQUEST_TIMEOUT: 408,
        HPE_HEADER_OVERFLOW: 431,
      };
      const { status, body } = replyOfStatus(codes[error.code ?? ''] ?? 400);
      const text = JSON.stringify(body);
      socket.end(
        `HTTP/1.1 ${status} Refused\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
        () => socket.destroy(),
      );
      return undefined;
    },
  });
  app.removeContentTypeParser('text/plain');
  app.setErrorHandler((error, _request, reply) => send(reply, replyOfError(error, options.log)));
  app.setNotFoundHandler((request, reply) =>
    send(reply, replyOfStatus(404, `${request.method} ${request.url.slice(0, 200)}`)),
  );
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.addHook('onResponse', async (request, reply) => {
    const { method, url } = request;
    options.log.debug(
      { method, url, status: reply.statusCode, tookMs: reply.elapsedTime },
      'request',
    );
  });
  for (const route of ROUTES) addRoute(app, engine, route, streams);
  let description: string | undefined;
  app.get('/v1/openapi.json', async (_request, reply) => {
    description ??= JSON.stringify(openApi(options.version));
    return await reply.type('application/json').send(description);
  });
  return app;
}

/** Listens, or rejects with ProblemError (another agent, no directory, no right). */
export async function startApi(engine: Engine, options: ApiOptions): Promise<ApiServer> {
  const limits = { ...LIMITS, ...options.limits };
  const streams = new Streams();
  const app = createApp(engine, options, limits, streams);
  await app.ready();
  await listenOn(app.server, options.socketPath);
  app.server.on('error', (error) => options.log.error({ error }, 'the API socket failed'));
  return {
    close: () => {
      streams.close();
      return stop(app, limits.stopTimeoutMs);
    },
  };
}

async function stop(app: FastifyInstance, timeoutMs: number): Promise<void> {
  const { server } = app;
  const force = setTimeout(() => server.closeAllConnections(), timeoutMs);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(force);
  await app.close();
}
