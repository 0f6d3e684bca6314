/** The store on a real disk: what was acknowledged is there, what is damaged is refused, never guessed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../src/state/changes.ts';
import { decide } from '../../src/state/commands.ts';
import { State } from '../../src/state/io/state.ts';
import { StoreError, type StoreReason } from '../../src/state/io/store-error.ts';
import type { AclRecord, Change, StateSnapshot } from '../../src/state/records.ts';
import { command, pools } from '../unit/state/generators.ts';
import { changeOf } from './children/change-of.ts';
import { makeOldStore } from './children/old-store.ts';
import {
  asRoot,
  content,
  everything,
  fillUp,
  fresh,
  killedAfter,
  reopened,
  root,
  stored,
  withTmpfs,
} from './children/stores.ts';

const NOW = 1_700_000_000_000;

function commit(state: State, changes: readonly Change[]): StateSnapshot {
  return state.commit(changes, NOW).snapshot;
}

/** Opening must fail for this reason, and say where and what to do. */
function refused(directory: string, reason: StoreReason, message: RegExp): void {
  assert.throws(
    () => State.open(directory).close(),
    (error) => {
      assert.ok(error instanceof StoreError, String(error));
      const [problem] = error.problems;
      assert.equal(error.reason, reason, error.message);
      assert.match(error.message, message);
      assert.ok(problem?.path?.startsWith(directory), problem?.path);
      assert.ok((problem?.hint ?? '').length > 20);
      return true;
    },
  );
}

const acl: AclRecord = {
  name: 'only-deploy-to-web',
  to: { kind: 'service', service: 'web' },
  from: [{ kind: 'user', value: 'deploy' }],
  action: 'allow',
};

/** A closed store with something in it, and what that is. */
function filled(): { directory: string; file: string; before: unknown } {
  const directory = fresh();
  const state = State.open(directory);
  for (let revision = 1; revision <= 60; revision++) commit(state, [changeOf(revision)]);
  commit(state, [{ kind: 'put-acl', acl }]);
  state.close();
  return { directory, file: join(directory, 'state.db'), before: everything(state) };
}

/** What random commands made of nothing, by the rules of decide() and applyChanges(). */
const snapshots = fc.array(command, { maxLength: 12 }).map((commands) => {
  let snapshot = EMPTY_SNAPSHOT;
  for (const one of commands)
    snapshot = applyChanges(snapshot, decide(snapshot, one, pools).changes).snapshot;
  return snapshot;
});

test('what random commands change is what applyChanges() makes of it, also when opened again', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 16 }), fc.nat(15), (commands, reopenAt) => {
      const directory = fresh();
      let state = State.open(directory);
      let expected = EMPTY_SNAPSHOT;
      for (const [index, one] of commands.entries()) {
        if (index === reopenAt) {
          state.close();
          state = State.open(directory);
        }
        const { changes } = decide(state.snapshot(), one, pools);
        const before = expected;
        expected = applyChanges(before, decide(before, one, pools).changes).snapshot;
        const { snapshot, changes: viewed } = state.commit(changes, NOW - index);
        assert.equal(snapshot, state.snapshot());
        assert.equal(snapshot.revision, expected.revision);
        assert.deepEqual(content(snapshot), content(expected));
        assert.deepEqual(content(applyChanges(before, viewed).snapshot), content(expected));
      }
      state.close();
      assert.deepEqual(stored(directory), everything(state));
    }),
    { numRuns: 60 },
  );
});

test('the data directory and the file are for root only', () => {
  const { directory, file } = filled();
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('every acknowledged change survives kill -9 of the writer, and no half of one appears', async () => {
  const directory = fresh();
  let kept = 0;
  for (let round = 0; round < 12; round++) {
    // Killed at another point of a commit each time: right when the n-th line is read.
    const acknowledged = Number(await killedAfter('writer.ts', directory, 5 + round * 7));
    const snapshot = reopened(directory);
    assert.ok(
      snapshot.revision >= acknowledged,
      `${acknowledged} was acknowledged, ${snapshot.revision} is there`,
    );
    // One commit may have been under way.
    assert.ok(snapshot.revision <= acknowledged + 1);
    assert.ok(snapshot.revision > kept);
    kept = snapshot.revision;
    let expected = EMPTY_SNAPSHOT;
    for (let revision = 1; revision <= kept; revision++)
      expected = applyChanges(expected, [changeOf(revision)]).snapshot;
    assert.deepEqual(content(snapshot), content(expected));
  }
});

test('a second agent on the directory is refused, and told which process has it', async () => {
  const directory = fresh();
  const writer = spawn(
    process.execPath,
    [join(import.meta.dirname, 'children/writer.ts'), directory, '1'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(writer.stdout, 'data');
  writer.stdout.resume();
  try {
    refused(directory, 'in-use', new RegExp(`another agent uses it \\(process ${writer.pid}\\)`));
  } finally {
    writer.kill('SIGKILL');
    await once(writer, 'exit');
  }
  assert.ok(reopened(directory).revision > 0);
});

test(
  'a full disk refuses the change, changes nothing in memory or on disk, and goes on once there is room',
  asRoot,
  async () => {
    await withTmpfs(512, (mount) => {
      const directory = join(mount, 'data');
      const state = State.open(directory);
      commit(state, [changeOf(1)]);
      state.write(state.kv.writes([{ do: 'add', path: ['s'], element: 'e' }]), NOW);
      const makeRoom = fillUp(mount);
      let good = everything(state);
      const fill = (): void => {
        for (let revision = state.snapshot().revision + 1; revision < 20_000; revision++) {
          commit(state, [changeOf(revision)]);
          good = everything(state);
        }
      };
      const isFull = (error: unknown): boolean =>
        error instanceof StoreError &&
        error.reason === 'full' &&
        /the disk is full/.test(error.message);
      assert.throws(fill, isFull);
      assert.deepEqual(everything(state), good);
      // A later time, and keys of another kind: the clock has not moved either.
      const writes = state.kv.writes([{ do: 'increment', path: ['c'], by: 1 }]);
      assert.throws(() => state.write(writes, NOW + 5000), isFull);
      assert.throws(
        () => state.rebase({ node: 'other', shared: 'keep', nowMs: NOW + 5000 }),
        isFull,
      );
      assert.deepEqual(everything(state), good);
      assert.equal(state.unsaved, 0);
      makeRoom();
      commit(state, [changeOf(state.snapshot().revision + 1)]);
      state.close();
      assert.deepEqual(stored(directory), everything(state));
    });
  },
);

test('a disk without room for a first start says so', asRoot, async () => {
  await withTmpfs(16, (mount) => {
    fillUp(mount);
    refused(join(mount, 'data'), 'full', /full/);
  });
});

test('a read-only file system is refused', asRoot, async () => {
  await withTmpfs(512, (mount, remount) => {
    const directory = join(mount, 'data');
    State.open(directory).close();
    remount('ro');
    refused(directory, 'read-only', /cannot be written/);
    assert.throws(
      () => State.open(join(mount, 'other')),
      (error) => error instanceof StoreError && error.reason === 'read-only',
    );
  });
});

test('a directory whose parent is missing, or that is a file, is refused', () => {
  refused(join(root, 'no/such/place'), 'missing', /does not exist/);
  const file = fresh();
  writeFileSync(file, '');
  refused(file, 'missing', /it is a file/);
});

test('an empty file, and a log without its file, are damage and not a first start', () => {
  const { directory, file } = filled();
  truncateSync(file, 0);
  refused(directory, 'damaged', /the file is empty/);
  rmSync(file);
  writeFileSync(`${file}-wal`, 'x');
  refused(directory, 'damaged', /its log state\.db-wal is there/);
});

test('a first start that was interrupted is started again', () => {
  const directory = fresh();
  mkdirSync(directory);
  writeFileSync(join(directory, 'state.db.new'), 'half');
  assert.equal(reopened(directory).revision, 0);
});

test("a file that is no database, another program's, or a newer one is refused and left as it is", () => {
  const { directory, file } = filled();
  writeFileSync(file, 'this is not a database, whatever its name says'.repeat(100));
  refused(directory, 'damaged', /not a database/);
  rmSync(file);
  const other = new DatabaseSync(file);
  other.exec('CREATE TABLE t (x); PRAGMA user_version = 1;');
  other.close();
  const bytes = readFileSync(file);
  refused(directory, 'damaged', /another program/);
  assert.deepEqual(readFileSync(file), bytes);
  rmSync(file);
  State.open(directory).close();
  const newer = new DatabaseSync(file);
  newer.exec('PRAGMA user_version = 99');
  newer.close();
  refused(directory, 'newer', /its schema is 99, this one knows 3/);
});

test('a file of schema 1 or 2 is brought up to date, with all that is in it and its revision', () => {
  fc.assert(
    fc.property(snapshots, fc.constantFrom(1 as const, 2 as const), (snapshot, schema) => {
      const directory = fresh();
      makeOldStore(directory, schema, snapshot);
      // What those versions had no table for.
      const lacking = { records: new Map(), ...(schema === 1 ? { acls: new Map() } : {}) };
      const there = { ...snapshot, ...lacking };
      for (let time = 0; time < 2; time++) {
        const { revision, ...rest } = reopened(directory);
        assert.equal(revision, snapshot.revision);
        assert.deepEqual(content({ revision, ...rest }), content(there));
      }
      const state = State.open(directory);
      const own = [...snapshot.backends.values()].flat().filter(({ owner }) => owner !== undefined);
      assert.equal([...state.replica.winners('node:local')].length, own.length);
      assert.ok(commit(state, [{ kind: 'put-acl', acl }]).revision > snapshot.revision);
      state.close();
      assert.deepEqual(stored(directory), everything(state));
    }),
    { numRuns: 40 },
  );
});

test('an old record whose bytes were changed is refused by its name, and stays in the old file', () => {
  const service = changeOf(1);
  const [backend, put] = [changeOf(2), { kind: 'put-acl', acl } as const];
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, [service, backend, put]);
  const damages: [sql: string, message: RegExp][] = [
    [`UPDATE services SET vips = '["240.0.0.2"]'`, /the record of service "web"/],
    [`UPDATE backends SET weight = 7`, /the record of backend 10\.0\.0\.3 port 80 of "web"/],
    [`UPDATE acls SET rule = replace(rule, 'allow', 'audit')`, /the record of rule "only-deploy/],
    [`UPDATE meta SET revision = 7`, /its revision/],
  ];
  for (const [sql, message] of damages) {
    const directory = fresh();
    const file = makeOldStore(directory, 2, snapshot);
    const db = new DatabaseSync(file);
    db.exec(sql);
    db.close();
    refused(directory, 'damaged', message);
    const again = new DatabaseSync(file);
    assert.equal(again.prepare('PRAGMA user_version').get()?.['user_version'], 2);
    assert.equal(again.prepare('SELECT count(*) AS n FROM services').get()?.['n'], 1);
    again.close();
  }
});

test('an old file on a full disk is left as it is', asRoot, async () => {
  await withTmpfs(512, (mount) => {
    const directory = join(mount, 'data');
    const { snapshot } = applyChanges(
      EMPTY_SNAPSHOT,
      Array.from({ length: 200 }, (_, i) => changeOf(i + 1)),
    );
    makeOldStore(directory, 2, snapshot);
    const makeRoom = fillUp(mount);
    refused(directory, 'full', /the disk is full/);
    makeRoom();
    assert.deepEqual(content(reopened(directory)), content(snapshot));
  });
});

test('rows of the log that were changed, lost, or are older ones are refused', () => {
  const { directory, file, before } = filled();
  const whole = join(directory, 'whole');
  copyFileSync(file, whole);
  const damages: [sql: string, message: RegExp][] = [
    [`UPDATE updates SET bytes = zeroblob(length(bytes)) WHERE seq = 7`, /update 7 of its log/],
    [`UPDATE updates SET document = 'node:local' WHERE seq = 7`, /update 7 of its log/],
    [`UPDATE updates SET epoch = 1 WHERE seq = 7`, /update 7 of its log/],
    [`UPDATE updates SET seq = 100 WHERE seq = 7`, /update 100 of its log/],
    [`DELETE FROM updates WHERE seq = 7`, /updates of its log are missing/],
    [`DELETE FROM updates WHERE seq = 61`, /updates of its log are missing/],
    [`DELETE FROM updates`, /updates of its log are missing/],
    [`UPDATE meta SET writer = writer + 1`, /its revision/],
    [`UPDATE meta SET clock = '1.0'`, /its revision/],
    [`DELETE FROM meta`, /its revision/],
    [`INSERT INTO meta SELECT * FROM meta`, /its revision/],
    [`DROP TABLE meta`, /no such table: meta/],
    [`ALTER TABLE updates RENAME bytes TO text`, /no such column: bytes/],
  ];
  for (const [sql, message] of damages) {
    copyFileSync(whole, file);
    const db = new DatabaseSync(file);
    db.exec(sql);
    db.close();
    refused(directory, 'damaged', message);
  }
  rmSync(`${file}-wal`, { force: true });
  copyFileSync(whole, file);
  assert.deepEqual(stored(directory), before);
});

test('a bit that flipped anywhere in the file is refused or harmless, never another state', () => {
  const { directory, file, before } = filled();
  const whole = readFileSync(file);
  const bits = whole.length * 8;
  let damaged = 0;
  fc.assert(
    fc.property(fc.nat({ max: bits - 1 }), (bit) => {
      const bytes = Buffer.from(whole);
      const index = bit >> 3;
      bytes[index] = (bytes[index] ?? 0) ^ (1 << (bit & 7));
      rmSync(`${file}-wal`, { force: true });
      // In its place: a copy would have a new writer id.
      writeFileSync(file, bytes);
      try {
        assert.deepEqual(stored(directory), before);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        damaged += 1;
      }
    }),
    { numRuns: 600 },
  );
  assert.ok(damaged > 20, 'hardly any flip was noticed: does the test still hit the data?');
});

test('a file that lost its end is refused', () => {
  const { directory, file, before } = filled();
  const size = statSync(file).size;
  const whole = join(directory, 'whole');
  copyFileSync(file, whole);
  for (const length of [1, 100, 512, 4095, 4096, 8192, size - 4096, size - 1]) {
    copyFileSync(whole, file);
    truncateSync(file, length);
    assert.throws(() => State.open(directory), StoreError, `${length} of ${size} bytes`);
  }
  copyFileSync(whole, file);
  assert.deepEqual(stored(directory), before);
});

test('10,000 services with 10 backends each are opened as they were', () => {
  const directory = fresh();
  const state = State.open(directory);
  const changes: Change[] = [];
  for (let i = 0; i < 10_000; i++) {
    const name = `s${i}`;
    const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const }];
    changes.push({
      kind: 'put-service',
      service: { name, vips: [`240.0.${i >> 8}.${i & 255}`], ports },
    });
    for (let j = 1; j <= 10; j++) {
      changes.push({
        kind: 'put-backend',
        backend: {
          service: name,
          portName: 'http',
          address: `10.${i >> 8}.${i & 255}.${j}`,
          port: 80,
          weight: 1,
          state: 'active',
        },
      });
    }
  }
  commit(state, changes);
  state.close();
  assert.deepEqual(stored(directory), everything(state));
});

test('a damaged state is set aside as it is, and a new one begun', () => {
  const { directory, file } = filled();
  const writer = State.open(directory);
  const old = writer.replica.writer;
  writer.close();
  truncateSync(file, statSync(file).size - 4096);
  refused(directory, 'damaged', /state\.db/);
  writeFileSync(`${file}-wal`, 'log');
  const bytes = readFileSync(file);
  const moved = State.setAside(directory, new Date('2026-11-21T12:00:00Z'));
  const aside = `${file}.damaged-2026-11-21T12-00-00.000Z`;
  assert.deepEqual(moved, [aside, `${aside}-wal`]);
  assert.deepEqual(readFileSync(aside), bytes);
  const state = State.open(directory);
  state.close();
  assert.equal(state.snapshot().revision, 0);
  assert.notEqual(state.replica.writer, old);
  assert.deepEqual(State.setAside(fresh()), []);
});
