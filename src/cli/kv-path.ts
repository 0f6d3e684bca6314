/** A path of the key-value store as it is typed. */
import { parsePath, PATH_HINT } from '../state/kv-text.ts';
import type { Path } from '../state/replica/kv.ts';
import { UsageError } from './output.ts';

export function pathOf(text: string): Path {
  const path = parsePath(text);
  if (path === undefined) throw new UsageError(`"${text}" is no path`, PATH_HINT);
  return path;
}
