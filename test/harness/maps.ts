/** The BPF maps and links as the kernel has them, read by bpftool and not by us. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './child.ts';
import type { TestHost } from './host.ts';

/** Counters and living sockets: they change while nobody changes anything. */
const RESTLESS = [
  'zh_svc_stats',
  'zh_bk_stats',
  'zh_counters',
  'zh_socks',
  'zh_socks_more',
  'zh_flows',
  'zh_acl', // has the agent's pid
  'zh_acl_cgroups',
  'zh_acl_places',
  'zh_acl_stats',
  'zh_acl_counts',
  'zh_acl_events',
];

/** The pins in one folder of the agent's, by name; without those of DNS, which each agent makes anew. */
function pins(host: TestHost, folder: 'maps' | 'links'): ReadonlyMap<string, string> {
  const path = join(host.pinDir, folder);
  const names = readdirSync(path).filter((name) => !/^(?:zh_)?dns_/.test(name));
  return new Map(names.map((name) => [name, join(path, name)]));
}

export function mapPath(host: TestHost, map: string): string {
  const path = pins(host, 'maps').get(map);
  if (path === undefined)
    throw new Error(`${map} is not pinned; there are ${[...pins(host, 'maps').keys()].join(', ')}`);
  return path;
}

export interface RawEntry {
  readonly key: readonly string[];
  readonly value: readonly string[];
}

/** By path: what a map is does not change. */
const arrays = new Map<string, boolean>();

async function isArray(path: string): Promise<boolean> {
  const known = arrays.get(path);
  if (known !== undefined) return known;
  const show = JSON.parse(await run(['bpftool', '-j', 'map', 'show', 'pinned', path])) as {
    type: string;
  };
  arrays.set(path, show.type === 'array');
  return show.type === 'array';
}

/** The entries of a map, as bytes; those of an array that are nothing but zeros are left out. */
export async function dumpMap(host: TestHost, map: string): Promise<RawEntry[]> {
  const path = mapPath(host, map);
  const dump = await run(['bpftool', '-j', 'map', 'dump', 'pinned', path]);
  const entries = JSON.parse(dump) as RawEntry[];
  if (!(await isArray(path))) return entries;
  return entries.filter((entry) => entry.value.some((byte) => Number(byte) !== 0));
}

/** What the agent wrote: all entries of all maps but counters and sockets, as text to compare. */
export async function dumpTables(host: TestHost): Promise<ReadonlyMap<string, readonly string[]>> {
  const names = [...pins(host, 'maps').keys()].filter((name) => !RESTLESS.includes(name));
  const tables = names.map(async (name): Promise<[string, string[]]> => {
    const lines = (await dumpMap(host, name)).map(({ key, value }) =>
      `${key.join(' ')} = ${value.join(' ')}`.replaceAll('0x', ''),
    );
    return [name, lines.toSorted((a, b) => (a < b ? -1 : 1))];
  });
  return new Map(await Promise.all(tables));
}

export interface LinkIds {
  readonly id: number;
  readonly prog_id: number;
}

/** Ids of the pinned links and their programs: the same ids mean that nothing was attached anew. */
export async function linkIds(host: TestHost): Promise<ReadonlyMap<string, LinkIds>> {
  const links = new Map<string, LinkIds>();
  for (const [name, path] of pins(host, 'links')) {
    const text = await run(['bpftool', '-j', 'link', 'show', 'pinned', path]);
    const { id, prog_id } = JSON.parse(text) as LinkIds;
    links.set(name, { id, prog_id });
  }
  return links;
}

export async function mapIds(host: TestHost): Promise<ReadonlyMap<string, number>> {
  const ids = new Map<string, number>();
  for (const [name, path] of pins(host, 'maps')) {
    const text = await run(['bpftool', '-j', 'map', 'show', 'pinned', path]);
    ids.set(name, (JSON.parse(text) as { id: number }).id);
  }
  return ids;
}

/** `bpftool map update|delete`, the way somebody else would break things. */
export async function setEntry(
  host: TestHost,
  map: string,
  key: readonly string[],
  value: readonly string[],
): Promise<void> {
  await run([
    'bpftool',
    'map',
    'update',
    'pinned',
    mapPath(host, map),
    'key',
    ...key,
    'value',
    ...value,
  ]);
}

export async function deleteEntry(
  host: TestHost,
  map: string,
  key: readonly string[],
): Promise<void> {
  await run(['bpftool', 'map', 'delete', 'pinned', mapPath(host, map), 'key', ...key]);
}
