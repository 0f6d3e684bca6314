/** One HTTP request with JSON over a Unix socket. */
import { request } from 'node:http';
import { patience } from './eventually.ts';

export interface ApiAnswer {
  readonly status: number;
  readonly text: string;
  json(): unknown;
}

const TIMEOUT_MS = 20_000 * patience;

export function apiCall(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const payload =
      body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    const headers =
      payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) };
    // No connection is used again: on a slow machine the agent may have closed it meanwhile.
    const options = { socketPath, method, path, headers, timeout: TIMEOUT_MS, agent: false };
    const call = request(options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part));
      answer.on('error', reject);
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, text, json: () => JSON.parse(text) as unknown }),
      );
    });
    call.on('error', reject);
    call.on('timeout', () =>
      call.destroy(new Error(`${method} ${path}: no answer in ${TIMEOUT_MS} ms`)),
    );
    call.end(payload);
  });
}
