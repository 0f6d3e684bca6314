/**
 * The command line's side of the API: HTTP over the agent's Unix socket with
 * nothing but node:http, so that commands start quickly.
 */
import { ProblemError, type Problem } from '../../state/problem.ts';
import type { ErrorAnswer } from '../schemas.ts';
import type { Method } from '../route.ts';
import { http } from './http.ts';

/** The agent cannot be reached: exit code 3. */
export class UnreachableError extends ProblemError {
  override readonly name = 'UnreachableError';
}

/** Longer than the agent takes for 100,000 backends; a guess. */
const ANSWER_TIMEOUT_MS = 60_000;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

function unreachable(socketPath: string, error: NodeJS.ErrnoException): UnreachableError {
  const [message, hint] = whyUnreachable(socketPath, error);
  const problem: Problem = { code: 'unavailable', message, path: socketPath, hint };
  return new UnreachableError([problem], { cause: error });
}

function whyUnreachable(
  path: string,
  error: NodeJS.ErrnoException,
): [message: string, hint: string] {
  const start =
    'start it with `systemctl start zerohop` or `zerohop agent`, or name its socket with --socket';
  switch (error.code ?? '') {
    case 'ENOENT':
      return [`no agent is running: there is no socket ${path}`, start];
    case 'ECONNREFUSED':
      return [`no agent is running: nobody listens on ${path}`, start];
    case 'EACCES':
    case 'EPERM':
      return [`you may not use the agent's socket ${path}`, 'use sudo, or join the group zerohop'];
    case 'ENOTSOCK':
      return [`${path} is not a socket`, "name the agent's with --socket"];
    default:
      return [
        `the agent on ${path} does not answer: ${error.message}`,
        'its log may say why: journalctl -u zerohop',
      ];
  }
}

export interface Reply {
  readonly status: number;
  readonly text: string;
}

function exchange(
  socketPath: string,
  method: Method,
  path: string,
  body: string | undefined,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    // Node cuts a longer path silently and would connect somewhere else.
    if (Buffer.byteLength(socketPath) > 107) {
      reject(
        Object.assign(new Error('the path is longer than the 107 bytes of sun_path'), {
          code: 'ENAMETOOLONG',
        }),
      );
      return;
    }
    const outgoing = http().request(
      { socketPath, method, path, headers, agent: false },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () =>
          resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
        answer.on('error', reject);
      },
    );
    outgoing.setTimeout(ANSWER_TIMEOUT_MS, () => {
      outgoing.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** Calls `visit` with each line of a stream until the agent ends it. */
function readLines(
  socketPath: string,
  path: string,
  visit: (line: string) => void,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = http().request({ socketPath, method: 'GET', path, agent: false }, (answer) => {
      const status = answer.statusCode ?? 0;
      const streams = status === 200;
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (!streams) return;
        const lines = text.split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) if (line !== '') visit(line);
      });
      answer.on('end', () => resolve({ status, text }));
      answer.on('error', reject);
    });
    outgoing.setTimeout(ANSWER_TIMEOUT_MS, () => {
      outgoing.destroy(new Error(`silent for ${ANSWER_TIMEOUT_MS / 1000} s`));
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

function queryString(query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined);
  if (pairs.length === 0) return '';
  return `?${new URLSearchParams(pairs.map(([key, value]): [string, string] => [key, String(value)])).toString()}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isErrorAnswer(value: unknown): value is ErrorAnswer {
  return typeof value === 'object' && value !== null && 'error' in value;
}

export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * The answer to one request. `T` is the schema of the route (api/schemas.ts); the
   * agent is trusted to keep it. Throws UnreachableError or ProblemError.
   */
  async call<T>(method: Method, path: string, query: Query = {}, body?: unknown): Promise<T> {
    let reply: Reply;
    try {
      const text = body === undefined ? undefined : JSON.stringify(body);
      reply = await exchange(this.#socketPath, method, `${path}${queryString(query)}`, text);
    } catch (error) {
      throw unreachable(this.#socketPath, error as NodeJS.ErrnoException);
    }
    const answer = parseJson(reply.text);
    if (reply.status >= 200 && reply.status < 300 && answer !== undefined) return answer as T;
    throw this.#refusal(reply.status, answer);
  }

  /** Each line of a stream (application/x-ndjson) as it comes; resolves when the agent ends it. */
  async lines(path: string, query: Query, visit: (line: string) => void): Promise<void> {
    let reply: Reply;
    try {
      reply = await readLines(this.#socketPath, `${path}${queryString(query)}`, visit);
    } catch (error) {
      throw unreachable(this.#socketPath, error as NodeJS.ErrnoException);
    }
    if (reply.status !== 200) throw this.#refusal(reply.status, parseJson(reply.text));
  }

  #refusal(status: number, answer: unknown): ProblemError {
    if (isErrorAnswer(answer)) return new ProblemError(answer.error.problems as readonly Problem[]);
    return new ProblemError([
      {
        code: 'unavailable',
        message: `the agent answered ${status} without a reason`,
        path: this.#socketPath,
        hint: "is it another program's socket?",
      },
    ]);
  }
}

/** One step of a path: `[fd00::1]:80` → `%5Bfd00%3A%3A1%5D%3A80`. */
export function step(text: string): string {
  return encodeURIComponent(text);
}
