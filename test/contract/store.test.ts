/** The store on a real disk: what was acknowledged is there, what is damaged is refused, never guessed. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../src/state/changes.ts';
import { StoreError, type StoreReason } from '../../src/state/io/store-error.ts';
import { openStore } from '../../src/state/io/store.ts';
import type { Change, StateSnapshot, StateStore } from '../../src/state/records.ts';
import { change } from '../unit/state/generators.ts';
import { changeOf } from './children/change-of.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-store-'));
after(() => rmSync(root, { recursive: true, force: true }));

let directories = 0;
function fresh(): string {
  return join(root, `data-${directories++}`);
}

function commit(store: StateStore, changes: readonly Change[]): StateSnapshot {
  const { snapshot } = applyChanges(store.snapshot(), changes);
  store.commit(changes, snapshot);
  return store.snapshot();
}

function content(snapshot: StateSnapshot): unknown {
  return {
    revision: snapshot.revision,
    services: [...snapshot.services],
    backends: [...snapshot.backends],
    acls: [...snapshot.acls],
  };
}

function reopened(directory: string): StateSnapshot {
  const store = openStore(directory);
  store.close();
  return store.snapshot();
}

/** Opening must fail for this reason, and say where and what to do. */
function refused(directory: string, reason: StoreReason, message: RegExp): void {
  assert.throws(
    () => openStore(directory).close(),
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

/** A closed store with something in it, and what that is. */
function filled(): { directory: string; file: string; before: StateSnapshot } {
  const directory = fresh();
  const store = openStore(directory);
  for (let revision = 1; revision <= 60; revision++) commit(store, [changeOf(revision)]);
  commit(store, [
    {
      kind: 'put-acl',
      acl: {
        name: 'only-deploy-to-web',
        to: { kind: 'service', service: 'web' },
        from: [{ kind: 'user', value: 'deploy' }],
        action: 'allow',
      },
    },
  ]);
  store.close();
  return { directory, file: join(directory, 'state.db'), before: store.snapshot() };
}

/** Runs `work` on a tmpfs of so many KiB; needs root. */
async function withTmpfs(
  kib: number,
  work: (directory: string, remount: (options: string) => void) => Promise<void> | void,
): Promise<void> {
  const mount = fresh();
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'tmpfs', mount]);
  try {
    await work(mount, (options) => execFileSync('mount', ['-o', `remount,${options}`, mount]));
  } finally {
    execFileSync('umount', ['-l', mount]);
  }
}

const asRoot = { skip: process.getuid?.() === 0 ? false : 'mounting needs root' };

test('what was committed is there when the store is opened again', () => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 5 }), (lists) => {
      // A backend without its service is no state that commands make.
      const services = ['web', 'api', 'dns', 'db.shop'].map((name): Change => ({
        kind: 'put-service',
        service: {
          name,
          vips: ['240.0.0.1'],
          ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
        },
      }));
      const directory = fresh();
      const store = openStore(directory);
      for (const list of lists) commit(store, [...list, ...services]);
      store.close();
      assert.deepEqual(content(reopened(directory)), content(store.snapshot()));
    }),
    { numRuns: 40 },
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
    const writer = spawn(
      process.execPath,
      [join(import.meta.dirname, 'children/writer.ts'), directory],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let acknowledged = 0;
    // Killed at another point of a commit each time: right when the n-th line is read.
    const lines = 5 + round * 7;
    let count = 0;
    for await (const line of createInterface({ input: writer.stdout })) {
      acknowledged = Number(line);
      if (++count === lines) writer.kill('SIGKILL');
    }
    if (writer.exitCode === null && writer.signalCode === null) await once(writer, 'exit');
    assert.ok(count >= lines, 'the writer ended by itself');
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
  'a full disk refuses the change, loses nothing, and goes on once there is room',
  asRoot,
  async () => {
    await withTmpfs(512, (mount) => {
      const directory = join(mount, 'data');
      const store = openStore(directory);
      commit(store, [changeOf(1)]);
      const ballast = join(mount, 'ballast');
      assert.throws(() => writeFileSync(ballast, Buffer.alloc(1024 * 1024)), /ENOSPC/);
      let good = store.snapshot();
      const fill = (): void => {
        for (let revision = good.revision + 1; revision < 2000; revision++)
          good = commit(store, [changeOf(revision)]);
      };
      assert.throws(
        fill,
        (error) =>
          error instanceof StoreError &&
          error.reason === 'full' &&
          /the disk is full/.test(error.message),
      );
      assert.equal(store.snapshot(), good);
      rmSync(ballast);
      good = commit(store, [changeOf(good.revision + 1)]);
      store.close();
      assert.deepEqual(content(reopened(directory)), content(good));
    });
  },
);

test('a disk without room for a first start says so', asRoot, async () => {
  await withTmpfs(16, (mount) => {
    assert.throws(() => writeFileSync(join(mount, 'ballast'), Buffer.alloc(1024 * 1024)), /ENOSPC/);
    refused(join(mount, 'data'), 'full', /full/);
  });
});

test('a read-only file system is refused', asRoot, async () => {
  await withTmpfs(512, (mount, remount) => {
    const directory = join(mount, 'data');
    openStore(directory).close();
    remount('ro');
    refused(directory, 'read-only', /cannot be written/);
    assert.throws(
      () => openStore(join(mount, 'other')),
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
  openStore(directory).close();
  const newer = new DatabaseSync(file);
  newer.exec('PRAGMA user_version = 99');
  newer.close();
  refused(directory, 'newer', /its schema is 99, this one knows 2/);
});

test('a file made before there were rules is brought up to date, with all that is in it', () => {
  const { directory, file, before } = filled();
  const old = new DatabaseSync(file);
  old.exec('DROP TABLE acls; PRAGMA user_version = 1;');
  old.close();
  const store = openStore(directory);
  assert.deepEqual(content(store.snapshot()), { ...(content(before) as object), acls: [] });
  const acl = {
    name: 'nobody-to-web',
    to: { kind: 'service', service: 'web' },
    from: [],
    action: 'deny',
  } as const;
  commit(store, [{ kind: 'put-acl', acl }]);
  store.close();
  assert.deepEqual([...reopened(directory).acls.values()], [acl]);
});

test('a rule whose bytes were changed is refused by its name', () => {
  const { directory, file } = filled();
  const store = openStore(directory);
  const to = { kind: 'cidr', cidr: '10.0.0.0/8', ports: [] } as const;
  commit(store, [{ kind: 'put-acl', acl: { name: 'block-ten', to, from: [], action: 'deny' } }]);
  store.close();
  const other = new DatabaseSync(file);
  other.exec(`UPDATE acls SET rule = replace(rule, 'deny', 'audit')`);
  other.close();
  refused(directory, 'damaged', /the record of rule "block-ten"/);
});

test('a bit that flipped anywhere in the file is refused or harmless, never another state', () => {
  const { file, before } = filled();
  const bits = statSync(file).size * 8;
  const directory = fresh();
  mkdirSync(directory);
  const copy = join(directory, 'state.db');
  let damaged = 0;
  fc.assert(
    fc.property(fc.nat({ max: bits - 1 }), (bit) => {
      const bytes = readFileSync(file);
      const index = bit >> 3;
      bytes[index] = (bytes[index] ?? 0) ^ (1 << (bit & 7));
      rmSync(`${copy}-wal`, { force: true });
      writeFileSync(copy, bytes);
      try {
        assert.deepEqual(content(reopened(directory)), content(before));
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
    assert.throws(() => openStore(directory), StoreError, `${length} of ${size} bytes`);
  }
  copyFileSync(whole, file);
  assert.deepEqual(content(reopened(directory)), content(before));
});

test('10,000 services with 10 backends each are opened as they were', () => {
  const directory = fresh();
  const store = openStore(directory);
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
  const good = commit(store, changes);
  store.close();
  const again = openStore(directory);
  again.close();
  assert.deepEqual(again.snapshot(), good);
});
