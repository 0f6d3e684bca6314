/**
 * Moves the state in argv[2] from node to node, n1, n2, …, and prints each number once rebase() has
 * returned. Meant to be killed.
 */
import { writeSync } from 'node:fs';
import { State } from '../../../src/state/io/state.ts';

const state = State.open(process.argv[2] ?? '');
for (let count = Number(/\d+$/.exec(state.node)?.[0] ?? 0) + 1; ; count++) {
  state.rebase({ node: `n${count}`, shared: 'keep', nowMs: Date.now() });
  writeSync(1, `${count}\n`);
}
