/** A change is on disk together with its revision: of every kind of record. */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { test } from 'node:test';
import { State } from '../../src/state/io/state.ts';
import type { Change } from '../../src/state/records.ts';
import { changeOf } from './children/change-of.ts';
import { fresh, reopened } from './children/stores.ts';

const acl = {
  name: 'no-mail',
  to: { kind: 'ports', ports: [{ port: 25, protocol: 'tcp' }] },
  from: [],
  action: 'deny',
} as const;
const record = { name: 'a.example', type: 'A', data: ['192.0.2.1'] } as const;
const changes: readonly Change[] = [
  changeOf(1),
  { kind: 'put-acl', acl },
  { kind: 'put-record', record },
];

test('a change of any kind is on disk with its revision, also if the agent is killed right after', () => {
  for (const change of changes) {
    const [directory, copy] = [fresh(), fresh()];
    const state = State.open(directory);
    assert.equal(state.commit([change], 1).snapshot.revision, 1);
    cpSync(directory, copy, { recursive: true });
    assert.equal(reopened(copy).revision, 1, change.kind);
    state.close();
  }
});
