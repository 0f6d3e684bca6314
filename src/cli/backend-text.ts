/** Backends in words, for people. Pure. */
import type { BackendAnswer } from '../api/schemas.ts';

export const FAILED_OPEN =
  'all that would take connections are down: they get them all the same (fail open)';

export const BACKEND_HEADERS = ['STATE', 'NODE', 'OWNER'] as const;

/** The cells under BACKEND_HEADERS. */
export function backendCells(backend: BackendAnswer): readonly [string, string, string] {
  const { owner, node = '', nodeName = node } = backend;
  // In no cluster there is one host alone, and nothing to tell apart.
  return [
    stateText(backend),
    nodeName === 'local' ? '' : nodeName,
    owner === undefined ? '' : `${owner.command} (run by ${owner.pid})`,
  ];
}

function stateText({ state, down, elsewhere }: BackendAnswer): string {
  if (elsewhere === true) return `${state}, on its own host only`;
  if (down === undefined) return state;
  return state === 'active' ? `down (${down})` : `${state}, down (${down})`;
}
