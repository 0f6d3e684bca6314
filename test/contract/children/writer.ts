/**
 * Commits one backend after the other to the store in argv[2] and prints each
 * revision once commit() has returned; after argv[3] of them it holds the store and idles.
 * Meant to be killed.
 */
import { writeSync } from 'node:fs';
import { applyChanges } from '../../../src/state/changes.ts';
import { openStore } from '../../../src/state/io/store.ts';
import { changeOf } from './change-of.ts';

const store = openStore(process.argv[2] ?? '');
const commits = Number(process.argv[3] ?? Number.POSITIVE_INFINITY);
for (let count = 0; count < commits; count++) {
  const before = store.snapshot();
  const changes = [changeOf(before.revision + 1)];
  const { snapshot } = applyChanges(before, changes);
  store.commit(changes, snapshot);
  writeSync(1, `${snapshot.revision}\n`);
}
setInterval(() => undefined, 60_000);
