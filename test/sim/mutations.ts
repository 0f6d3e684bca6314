// Is a broken protocol found? Each mutation is one change to one line of hyparview-ts; the mutated copy is run through
// chaos until a check fails. A mutation that survives is a hole in the checks.
import { findBreak, type Break, type Found } from './broken.ts';

/** `file` is below src/hyparview-ts. */
export const MUTATIONS: readonly Break[] = [
  {
    what: 'a full active view drops nobody',
    file: 'hyparview.ts',
    from: 'while (this.active.size >= this.config.activeMax) {',
    to: 'while (this.active.size >= 2 * this.config.activeMax) {',
  },
  {
    what: 'a full passive view drops nobody',
    file: 'hyparview.ts',
    from: 'while (this.passive.size >= this.config.passiveMax) {',
    to: 'while (this.passive.size >= 2 * this.config.passiveMax) {',
  },
  {
    what: 'a stranger that pings is not told that it is one',
    file: 'node.ts',
    from: 'this.views.onStrangersPing(from, now);',
    to: 'void 0;',
  },
  {
    what: 'a link is never declared failed',
    file: 'detector.ts',
    from: 'this.#hooks.linkFailed(link.peer.id, this.#clock.real(now));',
    to: 'void 0;',
  },
  {
    what: 'lost links are not repaired',
    file: 'hyparview.ts',
    from: 'if (missing > 0 && this.passive.size > 0) {',
    to: 'if (missing > 99 && this.passive.size > 0) {',
  },
  {
    what: 'the dead are never probed again',
    file: 'rejoin.ts',
    from: 'this.#waiting.push(...turn.filter(({ id }) => !waiting.has(id)));',
    to: 'if (waiting.size >= 0) return;',
  },
  {
    what: 'a broadcast seen before is delivered again',
    file: 'plumtree.ts',
    from: 'if (this.#seen.has(message.id)) {',
    to: 'if (this.#seen.has(message.id) && message.hop > 3) {',
  },
  {
    what: 'a node does not contradict an old state of its own',
    file: 'members.ts',
    from: 'if (version.id !== this.#self.id) continue;',
    to: "if (version.id !== '') continue;",
  },
  {
    what: 'broadcast ids do not tell the lives of a node apart',
    file: 'floors.ts',
    from: 'return `${incarnation.toString(36)}-${random.toString(36)}`;',
    to: "return '1';",
  },
  {
    what: 'a timer that fires early is not asked for again',
    file: 'effects.ts',
    from: "this.#outputs.push({ type: 'schedule', key, atMs: at });\n      return false;",
    to: 'return false;',
  },
  {
    what: 'nobody says for how long the dead are dead',
    file: 'members.ts',
    from: 'if (since === undefined) return 0;',
    to: 'if (since !== -1) return 0;',
  },
  {
    what: 'changed links are not published',
    file: 'members.ts',
    from: 'if (!this.#config.linkState || this.#left) return;',
    to: 'if (this.#sequence > 3) return;',
  },
  {
    what: 'digests are not compared',
    file: 'sync.ts',
    from: 'if ((times >= 3 || isNew) && now >= this.#nextAt) this.#begin(from, now);',
    to: 'void isNew;',
  },
  {
    what: 'leaving keeps the timers',
    file: 'node.ts',
    from: 'this.#effects.cancelAll();',
    to: 'void 0;',
  },
  {
    what: 'orphans of a removed link keep their paths',
    file: 'routes.ts',
    from: 'if (orphans.length > 0) this.#detach(orphans, queue);',
    to: 'void orphans;',
  },
  {
    what: 'a neighbour that is dropped stays in the passive view as well as in the active one',
    file: 'hyparview.ts',
    from: 'this.passive.delete(peer.id);\n    this.active.add(peer);',
    to: 'this.active.add(peer);',
  },
];

const RUNNER = `
import { chaos } from './test/sim/chaos.ts';
const [from, to] = process.argv.slice(2).map(Number);
for (let seed = from; seed <= to; seed++) {
  try { chaos(seed); } catch (error) { console.log(seed + '\\t' + String(error.cause?.message ?? error.message).split('\\n')[0]); process.exit(1); }
}
`;

/** Seeds of chaos that a mutation may live through; the hardest was found at 352. */
export const SEEDS_MAX = 600;

const FOLDERS = ['src/hyparview-ts', 'test/sim'];

/** Runs one mutation through chaos with seeds from 1 to `seeds`. */
export function tryMutation(mutation: Break, seeds: number): Found {
  const file = `src/hyparview-ts/${mutation.file}`;
  const search = { folders: FOLDERS, runner: RUNNER, args: ['1', String(seeds)] };
  return findBreak({ ...mutation, file }, search);
}
