/**
 * What differs between two versions of a map whose values are never written to.
 */
import { BucketMap } from '../state/bucket-map.ts';

/** Keys whose values are not the same object in both. Of BucketMaps, it costs what may differ. */
export function differingKeys<V>(
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
): Set<string> {
  const keys = new Set<string>();
  if (before === after) return keys;
  if (before instanceof BucketMap && after instanceof BucketMap) {
    for (const [i, bucket] of (after as BucketMap<V>).buckets.entries()) {
      const was = (before as BucketMap<V>).buckets[i];
      if (was !== undefined && was !== bucket) addDiffering(keys, was, bucket);
    }
  } else {
    addDiffering(keys, before, after);
  }
  return keys;
}

function addDiffering<V>(
  keys: Set<string>,
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
): void {
  for (const [key, value] of after) if (before.get(key) !== value) keys.add(key);
  for (const key of before.keys()) if (!after.has(key)) keys.add(key);
}

/** Of plain values whose fields are always written in one order. */
export function sameJson(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
