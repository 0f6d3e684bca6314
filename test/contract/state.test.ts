/** The state on a real disk: what others wrote, epochs, joins and leaves, and what happens when the disk is full. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { State } from '../../src/state/io/state.ts';
import { ProblemError } from '../../src/state/problem.ts';
import type { BackendRecord, Change } from '../../src/state/records.ts';
import {
  documentOf,
  Replica,
  SHARED,
  type Update,
  type Write,
} from '../../src/state/replica/replica.ts';
import { writeNode, type NodeRecord } from '../../src/state/replica/schema.ts';
import {
  asRoot,
  content,
  everything,
  fillUp,
  fresh,
  killedAfter,
  reopened,
  stored,
  withTmpfs,
} from './children/stores.ts';
import { backend, owner, putWeb, web } from '../harness/web.ts';

const NOW = 1_700_000_000_000;
const LATER = NOW + 10_000;

const owned: BackendRecord = { ...backend, address: '10.0.0.7', owner };
const putBackend: Change = { kind: 'put-backend', backend };
const putOwned: Change = { kind: 'put-backend', backend: owned };
const alpha: NodeRecord = {
  name: 'alpha',
  zone: 'a',
  version: '1',
  address: '10.0.0.7:7946',
  addresses: ['10.0.0.7'],
  signer: false,
};

/** Another member, with a writer of its own. */
function peer(node = 'alpha', writer = 5): Replica {
  return Replica.open({ node, writer });
}

/** The peer's writes come, are kept, and are followed. */
function hear(state: State, updates: readonly Update[]): void {
  for (const update of updates) {
    const { changed, notices } = state.replica.receive(update, NOW);
    const isEpoch = notices.some(({ type }) => type === 'epoch');
    state.keep(isEpoch ? [state.replica.whole(update.document)] : [update], isEpoch);
    state.follow(changed);
  }
}

function writeBy(
  replica: Replica,
  ...writes: [document: Write['document'], key: string, value: string][]
): readonly Update[] {
  return replica.transact(
    writes.map(([document, key, value]) => ({ document, key, value })),
    NOW,
  ).updates;
}

const nodeInfo = writeNode(alpha, undefined);
const backendKey = 'backend/web/http/10.0.0.7/8080';
const ownerText = JSON.stringify({ owner });

function rowsOf(directory: string, document: string): number {
  const db = new DatabaseSync(join(directory, 'state.db'), { readOnly: true });
  const row = db.prepare('SELECT count(*) AS n FROM updates WHERE document = ?').get(document);
  db.close();
  return Number(row?.['n']);
}

test('what others wrote is there when the state is opened again, and no revision is shown twice', () => {
  const directory = fresh();
  let state = State.open(directory);
  state.commit([putWeb], NOW);
  const other = peer();
  hear(state, writeBy(other, ['own', 'node/info', nodeInfo], ['own', backendKey, ownerText]));
  hear(state, writeBy(other, ['shared', 'kv/r:mode', '"night"']));
  assert.deepEqual(state.snapshot().backends.get('web'), [{ ...owned, node: 'alpha' }]);
  const { revision } = state.snapshot();
  assert.equal(revision, 2);
  // As kill -9 would leave it; by another process, which has locks of its own to drop.
  const left = fresh();
  execFileSync('cp', ['-r', directory, left]);
  assert.ok(reopened(left).revision >= revision);
  state.close();
  assert.deepEqual(stored(directory), everything(state));
  state = State.open(directory);
  assert.deepEqual([...state.view.nodes()], [['alpha', alpha]]);
  assert.equal(state.commit([putBackend], NOW).snapshot.revision, revision + 1);
  state.close();
});

test('how much the disk holds is told', () => {
  const directory = fresh();
  const state = State.open(directory);
  const before = state.storeSize;
  const { updates } = state.commit([putWeb, putOwned], NOW);
  const bytes = updates.reduce((sum, update) => sum + update.bytes.length, 0);
  assert.ok(bytes > 0);
  const { documents, updates: entries } = state.storeSize;
  assert.deepEqual(
    [documents - before.documents, entries - before.updates, state.storeSize.bytes - before.bytes],
    [2, 2, bytes],
  );
  const { storeSize } = state;
  state.close();
  const again = State.open(directory);
  assert.deepEqual(again.storeSize, storeSize);
  again.close();
});

test('an update that waits for another is kept, and an epoch takes the place of all before it', () => {
  const directory = fresh();
  let state = State.open(directory);
  const other = peer();
  const first = writeBy(other, ['shared', 'kv/r:a', '1']);
  const second = writeBy(other, ['shared', 'kv/r:b', '2']);
  hear(state, second);
  assert.equal(state.kv.get(['b'], 'register'), undefined);
  state.close();
  state = State.open(directory);
  hear(state, first);
  assert.equal(state.kv.all().length, 2);
  const epoch = other.compact(SHARED);
  hear(state, [epoch]);
  state.close();
  assert.equal(rowsOf(directory, SHARED), 1);
  state = State.open(directory);
  assert.deepEqual(state.replica.vector(SHARED).epoch, epoch.epoch);
  assert.deepEqual(state.replica.digest(SHARED), other.digest(SHARED));
  state.close();
});

test("another node's backend is for that node to change, unless its port is gone", () => {
  const state = State.open(fresh());
  state.commit([putWeb], NOW);
  hear(state, writeBy(peer(), ['own', 'node/info', nodeInfo], ['own', backendKey, ownerText]));
  const [seen] = state.snapshot().backends.get('web') ?? [];
  assert.ok(seen !== undefined);
  const before = everything(state);
  const { service, portName, address, port } = seen;
  const removal: Change = { kind: 'remove-backend', service, portName, address, port };
  for (const change of [
    removal,
    { kind: 'put-backend', backend: { ...seen, weight: 9 } },
    // As a command makes it that adds the backend by hand: the process stays the one it had.
    { kind: 'put-backend', backend: { ...owned, weight: 9 } },
    { kind: 'put-backend', backend: { ...owned, weight: 9, node: 'local' } },
  ] as const) {
    assert.equal(state.problems([change]).length, 1);
    assert.throws(
      () => state.commit([putBackend, change], NOW),
      (error) =>
        error instanceof ProblemError &&
        /backend web:http 10\.0\.0\.7:8080 .* alpha \(node alpha\)/.test(error.message) &&
        /alpha/.test(error.problems[0]?.hint ?? ''),
    );
  }
  assert.deepEqual(everything(state), before);
  const onlyDns: Change = { kind: 'put-service', service: { ...web, ports: web.ports.slice(1) } };
  state.commit([onlyDns, removal], NOW);
  assert.equal(state.snapshot().backends.size, 0);
  state.commit([putWeb], NOW);
  assert.deepEqual(state.snapshot().backends.get('web'), [seen]);
  state.close();
});

test('writes over a limit are a problem and change nothing', () => {
  const state = State.open(fresh());
  state.commit([putWeb], NOW);
  const before = everything(state);
  const value = JSON.stringify('x'.repeat(70_000));
  assert.throws(
    () =>
      state.write(
        [
          { document: 'shared', key: 'kv/r:a', value: '1' },
          { document: 'shared', key: 'kv/r:b', value },
        ],
        NOW,
      ),
    (error) => error instanceof ProblemError && error.problems[0]?.code === 'limit',
  );
  assert.deepEqual(everything(state), before);
  state.close();
});

// On a tmpfs, which has nothing to wait for: these are 2,100 commits.
test('a long log becomes a whole copy with the next update', asRoot, async () => {
  await withTmpfs(32 * 1024, (mount) => {
    const directory = join(mount, 'data');
    const state = State.open(directory);
    for (let i = 0; i < 1050; i++)
      state.write(state.kv.writes([{ do: 'set', path: ['a'], value: i }]), NOW);
    const other = peer();
    for (let i = 0; i < 1050; i++) hear(state, writeBy(other, ['own', 'node/x', `${i}`]));
    state.close();
    // At 1,001 rows: the copy and one update, or only the copy, which has what others wrote.
    assert.equal(rowsOf(directory, SHARED), 50);
    assert.equal(rowsOf(directory, documentOf('alpha')), 49);
    assert.deepEqual(stored(directory), everything(state));
  });
});

test('of many logs none of which is long the longest becomes a copy', asRoot, async () => {
  await withTmpfs(64 * 1024, (mount) => {
    const directory = join(mount, 'data');
    const state = State.open(directory);
    const peers = Array.from({ length: 13 }, (_, i) => peer(`n${i}`, i + 5));
    for (const [index, one] of peers.entries()) {
      const updates = Array.from({ length: 790 + index }, (_, i) =>
        writeBy(one, ['own', 'node/x', `${i}`]),
      ).flat();
      for (const update of updates) state.follow(state.replica.receive(update, NOW).changed);
      // All in one step, as they may come in.
      state.keep(updates, false);
    }
    const [first] = peers;
    assert.ok(first !== undefined);
    hear(state, writeBy(first, ['own', 'node/x', '"more"']));
    state.close();
    assert.equal(rowsOf(directory, documentOf('n12')), 1);
    assert.equal(rowsOf(directory, documentOf('n0')), 791);
    assert.deepEqual(stored(directory), everything(state));
  });
});

test('a few large updates become a whole copy as well', () => {
  const directory = fresh();
  const state = State.open(directory);
  for (let i = 0; i < 20; i++) {
    const value = JSON.stringify('x'.repeat(10_000));
    state.write([{ document: 'own', key: 'node/x', value: `[${i},${value}]` }], NOW);
  }
  state.close();
  assert.ok(rowsOf(directory, documentOf('local')) < 10);
  assert.deepEqual(stored(directory), everything(state));
});

test('a document with many remains is written afresh, and the disk has it', () => {
  const directory = fresh();
  const state = State.open(directory);
  // Each second entry stays: what is between them cannot become one item.
  const key = (i: number): string => `node/${i}`;
  const put = (i: number): Write => ({ document: 'own', key: key(i), value: '1' });
  state.write(
    Array.from({ length: 200 }, (_, i) => put(i)),
    NOW,
  );
  assert.deepEqual(state.compactIfDue(NOW, true), []);
  for (let i = 0; i < 200; i += 2)
    state.write([{ document: 'own', key: key(i), value: undefined }], NOW);
  assert.ok(state.replica.compactionDue(state.replica.own, NOW));
  const [update, ...more] = state.compactIfDue(NOW, true);
  assert.deepEqual([update?.document, update?.whole, more], [documentOf('local'), true, []]);
  assert.equal(state.replica.compactionDue(state.replica.own, NOW), false);
  const taker = peer();
  assert.ok(update !== undefined);
  taker.receive(update, NOW);
  assert.equal(taker.digest(state.replica.own), state.replica.digest(state.replica.own));
  state.close();
  assert.deepEqual(stored(directory), everything(state));
  assert.equal(rowsOf(directory, documentOf('local')), 1);
});

test(
  'what others wrote counts also while the disk is full, and is stored as a whole once there is room',
  asRoot,
  async () => {
    await withTmpfs(512, (mount) => {
      const directory = join(mount, 'data');
      const state = State.open(directory);
      state.commit([putWeb], NOW);
      const makeRoom = fillUp(mount);
      const other = peer();
      const info = 'x'.repeat(60_000);
      for (let i = 0; state.unsaved === 0; i++)
        hear(state, writeBy(other, ['own', `node/${i}`, `"${info}"`]));
      assert.equal(state.refusal?.reason, 'full');
      hear(state, writeBy(other, ['own', backendKey, ownerText]));
      hear(state, [other.compact(other.own)]);
      assert.deepEqual(state.snapshot().backends.get('web'), [{ ...owned, node: 'alpha' }]);
      assert.deepEqual(state.compactIfDue(NOW), []);
      state.saveUnsaved();
      assert.equal(state.unsaved, 1);
      makeRoom();
      state.saveUnsaved();
      assert.deepEqual([state.unsaved, state.refusal], [0, undefined]);
      state.close();
      assert.deepEqual(stored(directory), everything(state));
    });
  },
);

test(
  'a write to a document that the disk lacks a part of brings the whole of it along, or is refused',
  asRoot,
  async () => {
    await withTmpfs(1024, (mount) => {
      const directory = join(mount, 'data');
      const state = State.open(directory);
      const other = peer();
      state.commit([putWeb], NOW);
      const makeRoom = fillUp(mount);
      const text = 'x'.repeat(60_000);
      for (let i = 0; state.unsaved === 0; i++)
        hear(state, writeBy(other, ['shared', `kv/r:${i}`, `"${text}"`]));
      // A newer epoch, which the disk does not have either.
      hear(state, [other.compact(SHARED)]);
      const before = everything(state);
      assert.throws(() => state.commit([putBackend], NOW), /the disk is full/);
      assert.deepEqual(everything(state), before);
      makeRoom();
      state.commit([putBackend], NOW);
      assert.equal(state.unsaved, 0);
      state.close();
      assert.equal(rowsOf(directory, SHARED), 2);
      assert.deepEqual(stored(directory), everything(state));
    });
  },
);

test(
  'an epoch that the disk refuses is not begun, and is tried again a minute later',
  asRoot,
  async () => {
    await withTmpfs(1024, (mount) => {
      const directory = join(mount, 'data');
      const state = State.open(directory);
      const value = `"${'x'.repeat(2000)}"`;
      const put = (i: number): Write => ({ document: 'own', key: `node/${i}`, value });
      const all = Array.from({ length: 100 }, (_, i) => put(i));
      state.write(all, NOW);
      // Each on its own, so that what is removed stays apart.
      for (const [i, write] of all.entries())
        if (i % 2 === 0) state.write([{ ...write, value: undefined }], NOW);
      assert.ok(state.replica.compactionDue(state.replica.own, NOW));
      const makeRoom = fillUp(mount);
      const before = everything(state);
      assert.deepEqual(state.compactIfDue(NOW), []);
      assert.deepEqual(everything(state), before);
      makeRoom();
      assert.deepEqual(state.compactIfDue(NOW + 1000), []);
      assert.equal(state.compactIfDue(NOW + 60_000).length, 1);
      state.close();
      assert.deepEqual(stored(directory), everything(state));
    });
  },
);

test('a node that is gone is forgotten on disk as well', () => {
  const directory = fresh();
  const state = State.open(directory);
  state.commit([putWeb], NOW);
  hear(state, writeBy(peer(), ['own', 'node/info', nodeInfo], ['own', backendKey, ownerText]));
  const { changes, touchedNodes, changed } = state.forget('alpha');
  assert.deepEqual([changes.length, [...touchedNodes], changed.length], [1, ['alpha'], 2]);
  assert.deepEqual([state.snapshot().backends.size, state.view.nodes().size], [0, 0]);
  state.close();
  assert.deepEqual(stored(directory), everything(state));
  assert.equal(rowsOf(directory, documentOf('alpha')), 0);
});

/** A host with something of every kind, that has also heard of another node. */
function lived(directory: string): State {
  const state = State.open(directory);
  state.commit([putWeb, putBackend, putOwned], NOW);
  // Unseen: its port is not there.
  state.write(
    [
      { document: 'shared', key: 'backend/web/ftp/10.0.0.3/21', value: '{}' },
      { document: 'own', key: 'backend/gone/http/10.0.0.3/80', value: ownerText },
      { document: 'shared', key: 'service/new', value: '{"ofNewerVersion":true}' },
    ],
    NOW,
  );
  state.write(
    state.kv.writes([
      { do: 'increment', path: ['hits'], by: 3 },
      { do: 'add', path: ['set'], element: 'mine' },
      { do: 'enable', path: ['flag'] },
      { do: 'set', path: ['mode'], value: 'mine' },
    ]),
    NOW,
  );
  hear(state, writeBy(peer(), ['own', 'node/info', nodeInfo]));
  // A clock that was set back since.
  state.write([{ document: 'own', key: 'node/x', value: '1' }], LATER);
  state.write([{ document: 'own', key: 'node/x', value: undefined }], NOW);
  return state;
}

for (const shared of ['keep', 'oldest', 'drop'] as const) {
  test(`rebase, ${shared}: the own document moves, a new writer has all that is left, and the disk too`, () => {
    const directory = fresh();
    const state = lived(directory);
    const [writer, clock] = [state.replica.writer, state.replica.clockState()];
    const entries = (id: string): unknown =>
      new Map([...state.replica.winners(id)].map(({ key }) => [key, state.replica.get(id, key)]));
    const [ofAll, own] = [entries(SHARED), entries(documentOf('local'))];
    const before = state.snapshot();
    const kv = state.kv.all();
    const viewed = state.rebase({ node: 'n1', shared, nowMs: NOW + 1 });
    assert.deepEqual(
      [state.node, state.replica.documents().toSorted()],
      ['n1', ['node:n1', SHARED]],
    );
    assert.deepEqual(entries(SHARED), shared === 'drop' ? new Map() : ofAll);
    assert.deepEqual(entries(documentOf('n1')), own);
    assert.notEqual(state.replica.writer, writer);
    for (const id of state.replica.documents())
      for (const entry of state.replica.winners(id)) {
        assert.equal(entry.writer, state.replica.writer);
        assert.equal(entry.ms, id === SHARED && shared === 'oldest' ? 0 : LATER);
      }
    assert.ok(state.replica.clockState() > clock);
    assert.equal(viewed.snapshot, state.snapshot());
    assert.deepEqual([...viewed.touchedNodes], ['alpha']);
    assert.equal(viewed.snapshot.revision, before.revision + 1);
    if (shared === 'drop') {
      assert.deepEqual([viewed.snapshot.services.size, state.kv.all().length], [0, 0]);
      assert.equal(state.view.unseenCount, 2);
    } else {
      assert.deepEqual(state.kv.all(), kv);
      assert.deepEqual(viewed.snapshot.backends.get('web'), [backend, { ...owned, node: 'n1' }]);
      assert.deepEqual([state.view.unseenCount, state.view.unreadable().size], [2, 1]);
    }
    // What is written next is newer than all of it.
    const { changes } = state.commit(
      [{ ...putWeb, service: { ...web, vips: ['240.0.0.81'] } }],
      NOW,
    );
    assert.equal(changes.length > 0, true);
    state.close();
    assert.deepEqual(stored(directory), everything(state));
  });
}

test('after an oldest rebase whatever a cluster has wins, and what only this host has is there', () => {
  const state = lived(fresh());
  const cluster = peer();
  // Long ago, by any clock.
  const writes: Write[] = [
    {
      document: 'shared',
      key: 'service/web',
      value: JSON.stringify({ ...web, vips: ['240.9.9.9'] }),
    },
    { document: 'shared', key: 'kv/r:mode', value: '"theirs"' },
    { document: 'shared', key: 'kv/s:set/theirs', value: '1' },
  ];
  cluster.transact(writes, 1);
  state.rebase({ node: 'n1', shared: 'oldest', nowMs: NOW });
  cluster.receive(state.replica.whole(SHARED), NOW);
  hear(state, [cluster.whole(SHARED)]);
  assert.equal(cluster.digest(SHARED), state.replica.digest(SHARED));
  assert.deepEqual(state.snapshot().services.get('web')?.vips, ['240.9.9.9']);
  assert.deepEqual(state.kv.get(['mode'], 'register'), { type: 'register', value: 'theirs' });
  assert.deepEqual(state.kv.get(['set'], 'set'), { type: 'set', elements: ['mine', 'theirs'] });
  assert.deepEqual(state.kv.get(['hits'], 'counter'), { type: 'counter', value: 3 });
  assert.deepEqual(state.snapshot().backends.get('web'), [backend, { ...owned, node: 'n1' }]);
  state.close();
});

test('a rebase to the same node keeps the documents of the others; what is of members goes with the cluster', () => {
  const directory = fresh();
  const state = lived(directory);
  state.write(
    [
      { document: 'shared', key: 'gone/beta', value: '{}' },
      { document: 'shared', key: 'revocation/beta', value: '{}' },
      { document: 'own', key: 'node/info', value: nodeInfo },
    ],
    NOW,
  );
  state.rebase({ node: 'local', shared: 'keep', nowMs: NOW });
  assert.deepEqual([...state.view.nodes().keys()].toSorted(), ['alpha', 'local']);
  assert.equal(state.replica.get(SHARED, 'gone/beta'), '{}');
  state.rebase({ node: 'n2', shared: 'keep', nowMs: NOW });
  assert.deepEqual([...state.view.nodes()], []);
  for (const key of ['gone/beta', 'revocation/beta'])
    assert.equal(state.replica.get(SHARED, key), undefined);
  state.close();
  assert.deepEqual(stored(directory), everything(state));
});

test('kill -9 during a rebase leaves all of the old or all of the new', async () => {
  const directory = fresh();
  const first = lived(directory);
  const expected = content(first.snapshot());
  first.close();
  const asOf = (node: string): unknown =>
    JSON.parse(
      JSON.stringify(expected).replaceAll(`"command":"c"}}`, `"command":"c"},"node":"${node}"}`),
    );
  let moved = 0;
  for (let round = 0; round < 10; round++) {
    moved = Number(await killedAfter('rebaser.ts', directory, 1 + round * 3));
    const state = State.open(directory);
    // One may have been under way.
    assert.ok([`n${moved}`, `n${moved + 1}`].includes(state.node), state.node);
    assert.deepEqual(state.replica.documents().toSorted(), [documentOf(state.node), SHARED]);
    for (const id of state.replica.documents())
      for (const { writer } of state.replica.winners(id))
        assert.equal(writer, state.replica.writer);
    assert.deepEqual(content(state.snapshot()), asOf(state.node));
    state.close();
  }
  rmSync(directory, { recursive: true });
});
