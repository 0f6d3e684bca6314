/**
 * `GET /metrics` over TCP, for a Prometheus that cannot read a Unix socket, where the configuration
 * asks for it. Serves nothing else, and answers everybody who can connect. A port that cannot be had
 * does not keep the agent from its work: it is said, and tried again.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { http } from '../../api/io/http.ts';
import { METRICS_TYPE } from '../metrics.ts';

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  readonly log: {
    info(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
  readonly limits?: Partial<MetricsLimits>;
}

/** As api/io/server.ts has them, but for clients that nobody let in. All guesses. */
export interface MetricsLimits {
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly connectionsMax: number;
  readonly headerBytesMax: number;
  /** Whoever asks within this after another gets the same text: a reading costs with every rule. */
  readonly sameTextMs: number;
  /** Between two tries to listen. */
  readonly retryMs: number;
}

const LIMITS: MetricsLimits = {
  headersTimeoutMs: 5000,
  idleTimeoutMs: 30_000,
  keepAliveTimeoutMs: 5000,
  connectionsMax: 32,
  headerBytesMax: 8192,
  sameTextMs: 1000,
  retryMs: 10_000,
};

export interface MetricsServer {
  /** Where it listens; undefined while it cannot. */
  port(): number | undefined;
  close(): Promise<void>;
}

function answer(response: ServerResponse, status: number, text: string, more: object = {}): void {
  response.writeHead(status, {
    'content-type': status === 200 ? METRICS_TYPE : 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...more,
  });
  response.end(text);
}

/** What is read once serves everybody for a moment. */
function shared(read: () => Promise<string>, forMs: number): () => Promise<string> {
  let last: { readonly atMs: number; readonly text: Promise<string> } | undefined;
  return () => {
    const nowMs = performance.now();
    if (last === undefined || nowMs - last.atMs >= forMs) last = { atMs: nowMs, text: read() };
    return last.text;
  };
}

export function startMetrics(
  read: () => Promise<string>,
  options: MetricsServerOptions,
): MetricsServer {
  const { host, port, log } = options;
  const limits = { ...LIMITS, ...options.limits };
  const text = shared(read, limits.sameTextMs);
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // A body, or what may follow it, is not read.
    if (request.method !== 'GET') {
      answer(response, 405, 'only GET\n', { allow: 'GET', connection: 'close' });
    } else if (request.url?.split('?', 1)[0] !== '/metrics') {
      answer(response, 404, 'only /metrics is here\n');
    } else {
      answer(response, 200, await text());
    }
  };
  const server = http().createServer(
    {
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.headersTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(1000, limits.headersTimeoutMs),
      maxHeaderSize: limits.headerBytesMax,
    },
    (request, response) => {
      handle(request, response).catch((error: unknown) => {
        log.error({ error }, 'metrics could not be read');
        if (response.headersSent) response.destroy();
        else answer(response, 500, 'the agent met a bug; its log has the details\n');
      });
    },
  );
  server.maxConnections = limits.connectionsMax;
  server.setTimeout(limits.idleTimeoutMs);
  return listen(server, { host, port, log, retryMs: limits.retryMs });
}

function listen(
  server: Server,
  {
    host,
    port,
    log,
    retryMs,
  }: Pick<MetricsServerOptions, 'host' | 'port' | 'log'> & { retryMs: number },
): MetricsServer {
  let retry: NodeJS.Timeout | undefined;
  let said = false;
  const begin = (): void => {
    if (!server.listening) server.listen({ host, port });
  };
  server.on('listening', () => log.info({ address: server.address() }, 'metrics are served'));
  server.on('error', (error) => {
    const details = { error, host, port, retryMs };
    if (!said) log.error(details, 'metrics cannot be served at metrics.listen; tried again');
    said = true;
    clearTimeout(retry);
    retry = setTimeout(begin, retryMs).unref();
  });
  begin();
  return {
    port: () => {
      const bound = server.address();
      return typeof bound === 'object' ? bound?.port : undefined;
    },
    close: async () => {
      clearTimeout(retry);
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}
