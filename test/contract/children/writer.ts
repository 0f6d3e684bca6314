/**
 * Commits one backend after the other to the state in argv[2] and prints each
 * revision once commit() has returned; after argv[3] of them it holds the store and idles.
 * Meant to be killed.
 */
import { writeSync } from 'node:fs';
import { State } from '../../../src/state/io/state.ts';
import { changeOf } from './change-of.ts';

const state = State.open(process.argv[2] ?? '');
const commits = Number(process.argv[3] ?? Number.POSITIVE_INFINITY);
for (let count = 0; count < commits; count++) {
  const { revision } = state.snapshot();
  const { snapshot } = state.commit([changeOf(revision + 1)], Date.now());
  writeSync(1, `${snapshot.revision}\n`);
}
setInterval(() => undefined, 60_000);
