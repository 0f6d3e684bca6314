/** What the Catalog of this host depends on beside the records. */
import type { CatalogContext } from '../catalog/context.ts';
import type { Gone } from '../cluster/departures.ts';
import type { Config } from '../config/schema.ts';
import type { NodeRecord } from '../state/replica/schema.ts';

/** What this host knows of the others, beside what they write. */
export interface Reachability {
  /** Node ids. */
  readonly unreachable: ReadonlySet<string>;
  /** Nodes that are gone for good, by id: who is at their addresses is no more. */
  readonly gone: ReadonlyMap<string, Gone>;
}

export const ALL_REACHABLE: Reachability = {
  unreachable: new Set(),
  gone: new Map(),
};

export interface ContextSources {
  readonly config: Pick<Config, 'vipCidr4' | 'vipPrefix6'>;
  readonly self: string;
  readonly nodes: ReadonlyMap<string, NodeRecord>;
  readonly known: Reachability;
  readonly unhealthy: ReadonlySet<string>;
}

export function contextOf(sources: ContextSources): CatalogContext {
  const { config, self, nodes, unhealthy } = sources;
  const { unreachable, gone } = sources.known;
  const pools = { v4: config.vipCidr4, v6: config.vipPrefix6 };
  if (gone.size === 0) return { pools, self, nodes, unreachable, unhealthy };
  return {
    pools,
    self,
    nodes: new Map<string, Pick<NodeRecord, 'addresses'>>([...gone, ...nodes]),
    unreachable: new Set([...unreachable, ...gone.keys()]),
    unhealthy,
  };
}
