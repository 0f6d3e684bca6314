/**
 * What the BPF maps of several hosts say of their services, compared. Ids,
 * slots and counters are each host's own; VIPs, backends, weights and shares
 * must be the same. Pure: cluster.ts reads the maps.
 */
import type { DumpFrontend } from '../../src/datapath/dump.ts';

type Backend = Pick<
  DumpFrontend['backends'][number],
  'address' | 'weight' | 'state' | 'sharePercent'
>;
export type Frontend = Pick<DumpFrontend, 'service' | 'port' | 'vip' | 'protocol' | 'state'> & {
  readonly backends: readonly Backend[];
};

/** `web:http 240.0.0.1:80/tcp serving` → its backends, in words. */
export type Said = ReadonlyMap<string, readonly string[]>;

export function said(frontends: readonly Frontend[]): Said {
  return new Map(
    frontends.map(({ service, port, vip, protocol, state, backends }) => [
      `${service}:${port} ${vip}/${protocol} ${state}`,
      backends
        .map((at) => `${at.address} ${at.state} weight ${at.weight} share ${at.sharePercent} %`)
        .toSorted(),
    ]),
  );
}

/** In words, what the hosts do not agree on; none when all say the same. */
export function differences(hosts: ReadonlyMap<string, readonly Frontend[]>): string[] {
  const all = [...hosts].map(([name, frontends]) => ({ name, says: said(frontends) }));
  const keys = new Set(all.flatMap(({ says }) => [...says.keys()]));
  return [...keys].toSorted().flatMap((key) => {
    const versions = new Map<string, string[]>();
    for (const { name, says } of all) {
      const text = says.get(key)?.join(', ') ?? 'not there';
      versions.set(text, [...(versions.get(text) ?? []), name]);
    }
    if (versions.size === 1) return [];
    const told = [...versions].map(([text, names]) => `  ${names.join(', ')}: ${text || 'nobody'}`);
    return [`${key}\n${told.join('\n')}`];
  });
}
