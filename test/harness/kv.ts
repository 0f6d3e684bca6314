/** The key-value store through the agent's API. */
import type { TestHost } from './host.ts';

export interface KvEntrySeen {
  readonly path: readonly string[];
  readonly value: {
    readonly type: string;
    readonly value?: unknown;
    readonly elements?: readonly string[];
  };
}

/** All operations or none; as POST /v1/kv takes them. */
export async function kvWrite(host: TestHost, ...operations: readonly object[]): Promise<void> {
  const answer = await host.api('POST', '/v1/kv', { operations });
  if (answer.status >= 300) throw new Error(`kv: ${answer.status} ${answer.text}`);
}

export const kvSet = (host: TestHost, path: readonly string[], value: unknown): Promise<void> =>
  kvWrite(host, { do: 'set', path, value });

/** What is at `path` and below, with names that have no slash; nothing if nothing is there. */
export async function kvEntries(
  host: TestHost,
  path: readonly string[] = [],
): Promise<readonly KvEntrySeen[]> {
  const answer = await host.api('GET', `/v1/kv?path=${encodeURIComponent(path.join('/'))}`);
  if (answer.status === 404) return [];
  if (answer.status !== 200) throw new Error(`kv: ${answer.status} ${answer.text}`);
  return (answer.json() as { entries: KvEntrySeen[] }).entries;
}

/** The register there; undefined if there is none. */
export async function kvGet(host: TestHost, path: readonly string[]): Promise<unknown> {
  const entries = await kvEntries(host, path);
  const here = entries.filter((entry) => entry.path.length === path.length);
  return here.find(({ value }) => value.type === 'register')?.value.value;
}
