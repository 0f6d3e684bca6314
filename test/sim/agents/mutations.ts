/**
 * Is it found when an agent is broken? Each mutation changes one place of a copy of the sources, which
 * then runs through short tortures until a check fails. One that survives is a hole in the checks.
 */
import { findBreak, type Break, type Found } from '../broken.ts';

export const MUTATIONS: readonly Break[] = [
  {
    what: 'a write is acknowledged before it is stored',
    file: 'test/sim/agents/agent.ts',
    from: `    if (plan.updates.length > 0) {
      disk.begin({ updates: plan.updates, clock: plan.clock, clear: [] });
      yield diskMs();
    }
    const { updates, changed } = replica.commit(plan);`,
    to: `    const { updates, changed } = replica.commit(plan);
    done();
    if (plan.updates.length > 0) {
      disk.begin({ updates: plan.updates, clock: plan.clock, clear: [] });
      yield diskMs();
    }`,
  },
  {
    what: 'summaries are not compared',
    file: 'src/cluster/replication.ts',
    from: 'if (ours.high === theirs.high && ours.low === theirs.low) return',
    to: 'if (ours.high >= 0) return',
  },
  {
    what: 'documents of nodes that are gone for good are welcome',
    file: 'src/cluster/replication.ts',
    from: 'this.#isWelcome = options.isWelcome ?? (() => true);',
    to: 'this.#isWelcome = () => true;',
  },
  {
    what: 'what others wrote is not stored',
    file: 'src/cluster/replication.ts',
    from: 'else this.#store([update], false);',
    to: 'else void 0;',
  },
  {
    what: 'what is written here may be lost in a power cut, as what others wrote may',
    file: 'test/sim/agents/disk.ts',
    from: `    this.#lazy.push(this.#pending);
    this.#pending = undefined;
    this.#sync();`,
    to: `    this.#lazy.push(this.#pending);
    this.#pending = undefined;`,
  },
  {
    what: 'a node that is alive again stays unreachable',
    file: 'src/cluster/liveness.ts',
    from: "return this.#set(id, standing !== 'alive');",
    to: "return standing !== 'alive' && this.#set(id, true);",
  },
  {
    what: 'the catalog does not follow who is unreachable',
    file: 'src/catalog/context.ts',
    from: 'const nodes = difference(before.unreachable, after.unreachable);',
    to: 'const nodes = new Set<string>();',
  },
  {
    what: 'a VIP that another service takes is not taken from the one that had it',
    file: 'src/catalog/catalog.ts',
    from: 'const touched = new Set([...names, ...changed]);',
    to: 'const touched = names;',
  },
  {
    what: 'a digest outlives an update',
    file: 'src/state/replica/log-document.ts',
    from: 'this.#digest = undefined;',
    to: 'void 0;',
  },
  {
    what: 'what a newer epoch lacks is not carried over',
    file: 'src/state/replica/replica.ts',
    from: 'const carried = isMine ? carryOver(before, after, this.#isGone) : NOTHING;',
    to: 'const carried = isMine && this.writer < 0 ? carryOver(before, after, this.#isGone) : NOTHING;',
  },
  {
    what: 'an epoch is told to others before it is durable',
    file: 'test/sim/agents/agent.ts',
    from: `    disk.begin({ updates: plan.updates, clock: plan.clock, clear: [document] });
    yield diskMs();`,
    to: '    this.#keep(plan.updates, plan.clock, true);',
  },
  {
    what: 'what a killed process was storing is told to others before it is durable',
    file: 'test/sim/agents/disk.ts',
    from: `    this.#sync();
    return this.#durable;`,
    to: '    return this.saved();',
  },
  {
    what: 'a host that starts again gives out the places of its log from the first one',
    file: 'test/sim/agents/fleet.ts',
    from: 'disk: place.disk,',
    to: 'disk: place.life > 1 ? new Disk(place.disk.writer) : place.disk,',
  },
  {
    what: 'a backend whose service was removed is forgotten',
    file: 'src/state/replica/view.ts',
    from: 'if (unseen.size > 0) this.#unseen.set(name, unseen);',
    to: 'if (unseen.size > 1000) this.#unseen.set(name, unseen);',
  },
];

const RUNNER = `
import { torture } from './test/sim/agents/torture.ts';
import { SHORT } from './test/sim/agents/mutations.ts';
for (let seed = 1; seed <= Number(process.argv[2]); seed++) {
  try { torture(seed, SHORT); } catch (error) {
    console.log(seed + '\\t' + String(error.cause?.message ?? error.message).split('\\n')[0]);
    process.exit(1);
  }
}
`;

/** Enough of everything in two seconds. */
export const SHORT = { hosts: 8, forMs: 60_000, writeMs: 200 };
/** Seeds that a mutation may live through. */
export const SEEDS_MAX = 40;

const FOLDERS = ['src', 'test/sim'];

export interface Verdict extends Found {
  readonly what: string;
}

export function tryMutation(mutation: Break, seeds: number): Verdict {
  const search = { folders: FOLDERS, runner: RUNNER, args: [String(seeds)] };
  return { what: mutation.what, ...findBreak(mutation, search) };
}
