/**
 * Places in the key-value store as people write them: names with `/` between them, as in
 * `config/motd`. Within a name a slash is %2F and a percent sign %25 (RFC 3986, 2.1). No imports but
 * types: the command line loads it at once.
 */
import type { KvChange, KvType, KvValue, Path } from './replica/kv.ts';

/** What is found by its name and its type. */
export type KvLeafType = Exclude<KvType, 'map'>;
export type KvLeaf = Exclude<KvValue, { readonly type: 'map' }>;

export interface KvEntry {
  readonly path: Path;
  readonly value: KvLeaf;
}

export const LEAF_TYPES: readonly KvLeafType[] = ['register', 'set', 'flag', 'counter'];

/** Why a text is no path, in a message. */
export const PATH_HINT =
  'write names with one slash between them, like config/motd; within a name %2F is a slash and %25 a percent sign';

/** undefined if it is none: an empty name, or a percent sign that escapes nothing. */
export function parsePath(text: string): Path | undefined {
  try {
    const names = text.split('/').map((name) => decodeURIComponent(name));
    return names.includes('') ? undefined : names;
  } catch {
    return undefined;
  }
}

/** As parsePath() takes it, without blanks or control characters, so that lists stay lists. */
export function formatPath(path: Path): string {
  return path.map((name) => name.replaceAll(/[%/\s\p{C}]/gu, (char) => escapeChar(char))).join('/');
}

function escapeChar(char: string): string {
  try {
    return encodeURIComponent(char);
  } catch {
    // Half a character; the store has none.
    return '%EF%BF%BD';
  }
}

/** Whether `path` is `root` or below it. */
export function isBelow(path: Path, root: Path): boolean {
  return root.length <= path.length && root.every((name, i) => name === path[i]);
}

/** Whether what is at or below `root` is meant by a type: one at `root` itself; `map`: all below. */
export function isOfType(
  path: Path,
  leaf: KvLeafType,
  root: Path,
  type: KvType | undefined,
): boolean {
  if (type === undefined) return true;
  return type === 'map' ? path.length > root.length : path.length === root.length && leaf === type;
}

/** One value in one line: text in quotes, the elements of a set in order. */
export function valueText(value: KvValue | undefined): string {
  switch (value?.type) {
    case undefined:
      return '(none)';
    case 'register':
      return JSON.stringify(value.value);
    case 'set':
      return JSON.stringify(value.elements);
    case 'flag':
      return 'enabled';
    case 'counter':
      return String(value.value);
    case 'map':
      return `{${value.fields.map((field) => field.name).join(', ')}}`;
  }
}

/** `register config/motd: "old" → "new"` */
export function changeText({ path, type, before, after }: KvChange): string {
  return `${type} ${formatPath(path)}: ${valueText(before)} → ${valueText(after)}`;
}
