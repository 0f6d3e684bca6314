/**
 * Patterns of units and cgroups as one automaton over the bytes of cgroup
 * paths, so that the kernel can tell which of them a new cgroup matches from
 * its parent's state and its name alone.
 *
 * Subset construction (Rabin and Scott, 1959) over one chain of nodes for each
 * pattern. A path is `/` and a name, again and again; the root is empty. What a
 * path matches, everything below it does too: it is passed on, not matched anew.
 */
import { anyByte, cgroupTagsMax, startState, type CgroupValue } from './abi.ts';
import type { Automaton } from './tables.ts';

export interface CgroupPattern {
  /** ≥ 1 */
  readonly tag: number;
  readonly kind: 'unit' | 'cgroup';
  readonly value: string;
}

interface Node {
  readonly steps: Map<number, number[]>;
  /** On every byte but `/`. */
  readonly any: number[];
  /** Nodes that one is at as well. */
  readonly also: number[];
  readonly tags: number[];
}

const SLASH = 0x2f;
const STAR = 0x2a;
const QUESTION = 0x3f;
const UNDERSCORE = 0x5f;

/** UTF-8; the pure part of the tree has no TextEncoder. */
export function utf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    const tail = (shift: number): number => 0x80 | ((code >> shift) & 0x3f);
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), tail(0));
    else if (code < 0x1_0000) bytes.push(0xe0 | (code >> 12), tail(6), tail(0));
    else bytes.push(0xf0 | (code >> 18), tail(12), tail(6), tail(0));
  }
  return Uint8Array.from(bytes);
}

class Nodes {
  readonly #nodes: Node[] = [];

  make(): number {
    this.#nodes.push({ steps: new Map(), any: [], also: [], tags: [] });
    return this.#nodes.length - 1;
  }

  at(index: number): Node {
    return this.#nodes[index] as Node;
  }

  step(from: number, byte: number, to: number): void {
    const { steps } = this.at(from);
    steps.set(byte, [...(steps.get(byte) ?? []), to]);
  }

  /** From `at` over one name that the glob matches; returns where that leads. */
  glob(start: number, glob: string): number {
    let at = start;
    for (const byte of utf8(glob)) {
      const next = this.make();
      if (byte === STAR) {
        this.at(at).also.push(next);
        this.at(next).any.push(next);
      } else if (byte === QUESTION) {
        this.at(at).any.push(next);
      } else {
        this.step(at, byte, next);
      }
      at = next;
    }
    return at;
  }

  /** `/` and a name that the glob matches. */
  component(from: number, glob: string): number {
    const start = this.make();
    this.step(from, SLASH, start);
    return this.glob(start, glob);
  }

  /** `/` and the cgroup of a unit: systemd puts `_` before names like `io.service` and `_a.service` (cg_escape()). */
  unit(from: number, glob: string): number {
    const name = this.component(from, '');
    const escaped = this.make();
    this.step(name, UNDERSCORE, escaped);
    if (!glob.startsWith('_')) this.at(name).also.push(escaped);
    return this.glob(escaped, glob);
  }

  /** Any number of components like this, from `at` back to it. */
  loop(at: number, glob: string): void {
    this.at(this.component(at, glob)).also.push(at);
  }

  /** Adds what one is at as well; sorted, so that equal sets look equal. */
  closure(nodes: Iterable<number>): number[] {
    const all = new Set(nodes);
    for (const node of all) for (const other of this.at(node).also) all.add(other);
    return [...all].toSorted((a, b) => a - b);
  }
}

/** The nodes to start from. */
function nodesOf(patterns: readonly CgroupPattern[], nodes: Nodes): number[] {
  const starts: number[] = [];
  const units = patterns.filter(({ kind }) => kind === 'unit');
  if (units.length > 0) {
    // One for all of them: only slices of the system's manager stand above its units.
    const top = nodes.make();
    starts.push(top);
    nodes.loop(top, '*.slice');
    for (const { tag, value } of units) nodes.at(nodes.unit(top, value)).tags.push(tag);
  }
  for (const { kind, tag, value } of patterns) {
    if (kind === 'unit') continue;
    const names = value === '/' ? [] : value.slice(1).split('/');
    // What is below a match is one anyway.
    while (names.at(-1) === '**') names.pop();
    let at = nodes.make();
    starts.push(at);
    for (const name of names) {
      if (name === '**') nodes.loop(at, '*');
      else at = nodes.component(at, name);
    }
    nodes.at(at).tags.push(tag);
  }
  return starts;
}

/** Where each byte leads from a set of nodes; an entry for `anyByte` holds for all others but `/`. */
function stepsOf(nodes: Nodes, from: readonly number[]): Map<number, number[]> {
  const any: number[] = [];
  const exact = new Map<number, number[]>();
  for (const index of from) {
    const node = nodes.at(index);
    any.push(...node.any);
    for (const [byte, to] of node.steps) {
      const all = exact.get(byte);
      if (all === undefined) exact.set(byte, [...to]);
      else all.push(...to);
    }
  }
  const steps = new Map<number, number[]>();
  if (any.length > 0) steps.set(anyByte, nodes.closure(any));
  for (const [byte, to] of [...exact].toSorted(([a], [b]) => a - b)) {
    steps.set(byte, nodes.closure(byte === SLASH ? to : [...to, ...any]));
  }
  return steps;
}

export const NO_AUTOMATON: Automaton = { globs: new Map(), emits: new Map() };

/** The automaton of all patterns, or undefined when it has more than `stepsMax` steps. */
export function buildAutomaton(
  patterns: readonly CgroupPattern[],
  stepsMax: number,
): Automaton | undefined {
  if (patterns.length === 0) return NO_AUTOMATON;
  const nodes = new Nodes();
  const globs = new Map<string, number>();
  const emits = new Map<number, readonly number[]>();
  const states = new Map<string, number>();
  const queue: number[][] = [];
  const stateOf = (set: number[]): number => {
    const key = set.join(' ');
    let state = states.get(key);
    if (state === undefined) {
      state = startState + states.size;
      states.set(key, state);
      queue.push(set);
      const tags = new Set(set.flatMap((node) => nodes.at(node).tags));
      if (tags.size > 0)
        emits.set(
          state,
          [...tags].toSorted((a, b) => a - b),
        );
    }
    return state;
  };
  stateOf(nodes.closure(nodesOf(patterns, nodes)));
  for (let index = 0; index < queue.length; index++) {
    const state = startState + index;
    const steps = stepsOf(nodes, queue[index] ?? []);
    const otherwise = steps.get(anyByte);
    const otherwiseState = otherwise === undefined ? undefined : stateOf(otherwise);
    for (const [byte, to] of steps) {
      const next = stateOf(to);
      if (byte !== anyByte && byte !== SLASH && next === otherwiseState) continue;
      globs.set(`${state} ${byte}`, next);
      if (globs.size > stepsMax) return undefined;
    }
  }
  return { globs, emits };
}

/** As the kernel adds them: of a state's tags only those that fit into its entry are looked at. */
function emitted(automaton: Automaton, state: number, inherited: readonly number[]): CgroupValue {
  const own = automaton.emits.get(state) ?? [];
  const tags = [...new Set([...inherited, ...own.slice(0, cgroupTagsMax)])];
  const overflow = own.length > cgroupTagsMax || tags.length > cgroupTagsMax;
  return { state, tags: tags.slice(0, cgroupTagsMax), overflow };
}

/** The entry of the cgroup root. */
export function classifyRoot(automaton: Automaton): CgroupValue {
  return emitted(automaton, automaton === NO_AUTOMATON ? 0 : startState, []);
}

/** The entry of a cgroup from its parent's, as the kernel makes it when one is created. */
export function classify(
  automaton: Automaton,
  parent: CgroupValue,
  name: string | Uint8Array,
): CgroupValue {
  let state = automaton.globs.get(`${parent.state} ${SLASH}`) ?? 0;
  for (const byte of typeof name === 'string' ? utf8(name) : name) {
    if (state === 0) break;
    state =
      automaton.globs.get(`${state} ${byte}`) ?? automaton.globs.get(`${state} ${anyByte}`) ?? 0;
  }
  const own = emitted(automaton, state, parent.tags);
  return parent.overflow ? { ...own, overflow: true } : own;
}

/** The entry of a path from the root, such as `/system.slice/web.service`. */
export function classifyPath(automaton: Automaton, path: string): CgroupValue {
  let at = classifyRoot(automaton);
  for (const name of path.split('/')) if (name !== '') at = classify(automaton, at, name);
  return at;
}
