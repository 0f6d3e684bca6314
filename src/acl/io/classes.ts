/**
 * zh_acl_cgroups: what every cgroup matches. The kernel's programs keep it for
 * cgroups that come and go; this fills it for those that are there already, and
 * looks after it.
 */
import type { CgroupValue } from '../abi.ts';
import { classify, classifyRoot } from '../automaton.ts';
import type { Automaton } from '../tables.ts';
import { type CgroupNode, walkCgroups } from './cgroups.ts';
import type { AclKernel, HeldCgroup } from './kernel.ts';

/**
 * A cgroup made before its parent had an entry is found by the next walk; each
 * walk reaches at least one level further. A guess at how deep a race can go.
 */
const walksMax = 8;

function sameClass(a: CgroupValue, b: CgroupValue): boolean {
  return a.state === b.state && a.overflow === b.overflow && a.tags.join() === b.tags.join();
}

/** Every cgroup below the mount with its class, parents first. */
function* classified(
  root: string,
  automaton: Automaton,
): Generator<{ node: CgroupNode; value: CgroupValue }, void, undefined> {
  const values = new Map<CgroupNode, CgroupValue>();
  for (const node of walkCgroups(root)) {
    const above = node.parent === undefined ? undefined : values.get(node.parent);
    const value =
      above === undefined ? classifyRoot(automaton) : classify(automaton, above, node.name);
    values.set(node, value);
    yield { node, value };
  }
}

export type Learn = (id: bigint, path: string) => void;

/** Gives every cgroup its entry. The tracepoints must be attached, and know the automaton. */
export function fillCgroups(
  kernel: AclKernel,
  number: number,
  automaton: Automaton,
  root: string,
  learn: Learn,
): number {
  const done = new Set<bigint>();
  let writes = 0;
  for (let walks = 0; walks < walksMax; walks++) {
    const missing: HeldCgroup[] = [];
    for (const { node, value } of classified(root, automaton)) {
      if (done.has(node.id)) continue;
      done.add(node.id);
      learn(node.id, node.path);
      missing.push({ key: { id: node.id, automaton: number }, value });
    }
    if (missing.length === 0) break;
    writes += kernel.setCgroups(missing);
  }
  return writes;
}

/** Compares with the tree and puts right; one line for each cgroup that was wrong. */
export function repairCgroups(
  kernel: AclKernel,
  number: number,
  automaton: Automaton,
  root: string,
  learn: Learn,
): { readonly found: number; readonly reasons: string[] } {
  // Read before the walk: what is held and not found has been removed since, or was long ago.
  const held = new Map(
    kernel
      .cgroups()
      .filter(({ key }) => key.automaton === number)
      .map(({ key, value }) => [key.id, value]),
  );
  const reasons: string[] = [];
  const wrong: HeldCgroup[] = [];
  const found = new Set<bigint>();
  for (const { node, value } of classified(root, automaton)) {
    found.add(node.id);
    learn(node.id, node.path);
    const key = { id: node.id, automaton: number };
    // One that is newer than the dump is asked for by itself.
    const has = held.get(node.id) ?? kernel.cgroup(key);
    if (has !== undefined && sameClass(has, value)) continue;
    wrong.push({ key, value });
    reasons.push(`cgroup ${node.path}: ${has === undefined ? 'not known' : 'other selectors'}`);
  }
  const stale = [...held.keys()].filter((id) => !found.has(id));
  // A cgroup may have gone between the two; its entry has gone with it.
  const gone = kernel.deleteCgroups(stale.map((id) => ({ id, automaton: number })));
  if (gone > 0) reasons.push(`${gone} cgroups that are no more`);
  kernel.setCgroups(wrong);
  return { found: found.size, reasons };
}
