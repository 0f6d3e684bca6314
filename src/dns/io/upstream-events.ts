/** What happens to questions that were sent to upstreams. */

export interface AttemptEvents {
  reply(attempt: number, bytes: Uint8Array): void;
  failed(attempt: number, why: 'unreachable' | 'local'): void;
}

/** No socket, port or memory is nobody's fault but ours. */
const LOCAL = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRINUSE', 'EADDRNOTAVAIL']);

export function failureOf(error: Error): 'unreachable' | 'local' {
  const { code } = error as NodeJS.ErrnoException;
  return code !== undefined && LOCAL.has(code) ? 'local' : 'unreachable';
}
