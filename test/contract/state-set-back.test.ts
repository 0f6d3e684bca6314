/** A data directory that was set back to what it was: nothing that others have is lost, nor what is written since. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { State } from '../../src/state/io/state.ts';
import { Replica, SHARED, type Update } from '../../src/state/replica/replica.ts';
import { putWeb } from '../harness/web.ts';
import { everything, fresh } from './children/stores.ts';

const NOW = 1_700_000_000_000;

/** As the replicator has it stored. */
function hear(state: State, update: Update): void {
  const { changed, notices } = state.replica.receive(update, NOW);
  const isEpoch = notices.some(({ type }) => type === 'epoch');
  state.keep(isEpoch ? [state.replica.whole(update.document)] : [update], isEpoch);
  state.follow(changed);
}

/** Everything that a member and another one have, each asking the other until nothing is news. */
function meet(state: State, other: Replica): void {
  for (let round = 0; round < 4; round++)
    for (const id of new Set([...state.replica.documents(), ...other.documents()])) {
      const theirs = other.diff(state.replica.vector(id));
      if (theirs !== undefined) hear(state, theirs);
      const ours = state.replica.diff(other.vector(id));
      if (ours !== undefined) other.receive(ours, NOW);
    }
}

/** Of a host that a backup was put back on, which writes before it meets `other` again. */
function writesWhenSetBack(directory: string): { state: State; other: Replica; lost: string } {
  let state = State.open(directory);
  const other = Replica.open({ node: 'alpha', writer: 5 });
  state.commit([putWeb], NOW);
  meet(state, other);
  state.close();
  const file = join(directory, 'state.db');
  execFileSync('cp', ['-a', file, `${file}.backup`]);
  const lost = 'kv/r:lost';
  state = State.open(directory);
  state.write([{ document: 'shared', key: lost, value: '1' }], NOW);
  state.write([{ document: 'own', key: 'node/x', value: '1' }], NOW);
  meet(state, other);
  state.write([{ document: 'own', key: 'node/x', value: undefined }], NOW);
  meet(state, other);
  state.close();
  execFileSync('sh', ['-c', 'rm -f "$0" "$0-wal"; cp -a "$0.backup" "$0"', file]);
  state = State.open(directory);
  return { state, other, lost };
}

test('a file put back from a backup goes on with a new writer: nothing is lost, here or elsewhere', () => {
  const directory = fresh();
  const first = State.open(directory);
  const { writer } = first.replica;
  first.close();
  const { state, other, lost } = writesWhenSetBack(directory);
  // As the keeper, before it met anybody.
  state.write([{ document: 'shared', key: 'kv/r:new', value: '2' }], NOW);
  state.write([{ document: 'own', key: 'node/y', value: '2' }], NOW);
  meet(state, other);
  const { replica } = state;
  for (const one of [replica, other])
    assert.deepEqual(
      [lost, 'kv/r:new', 'service/web'].map((key) => one.get(SHARED, key) !== undefined),
      [true, true, true],
    );
  assert.deepEqual(other.digests(), replica.digests());
  assert.equal(other.get(replica.own, 'node/y'), '2');
  assert.equal(state.isCopy, true);
  assert.notEqual(state.replica.writer, writer);
  state.close();
  const again = State.open(directory);
  assert.deepEqual([again.isCopy, everything(again)], [false, everything(state)]);
  again.close();
});

test('a copy in which nothing is written yet costs no id; a file that is moved is no copy', () => {
  const directory = fresh();
  let state = State.open(directory);
  state.commit([putWeb], NOW);
  const { writer } = state.replica;
  state.close();
  const moved = fresh();
  execFileSync('mv', [directory, moved]);
  state = State.open(moved);
  assert.deepEqual([state.isCopy, state.replica.writer], [false, writer]);
  state.close();
  const copied = fresh();
  execFileSync('cp', ['-a', moved, copied]);
  for (let time = 0; time < 2; time++) {
    state = State.open(copied);
    assert.deepEqual([state.isCopy, state.replica.writer === writer], [true, false]);
    state.close();
  }
});
