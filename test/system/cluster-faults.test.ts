/** Faults: killed agents, full disks, clocks that are wrong and jump, lossy networks. Nothing acknowledged is lost. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { TestCluster } from '../harness/cluster.ts';
import { addService, expectedOn, serveOn } from '../harness/cluster-services.ts';
import { ask } from '../harness/clients.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import type { TestHost } from '../harness/host.ts';
import { kvEntries, kvGet, kvSet, kvWrite } from '../harness/kv.ts';
import { Dice, testSeed } from '../harness/random.ts';
import { putBackend, putService } from '../harness/services.ts';

const KILLS = 12;

/** Writes keys, one after the other, until told to stop; what was acknowledged is in `done`. */
class Writer implements Disposable {
  readonly done: string[] = [];
  readonly #end: Promise<void>;
  readonly #stop = new AbortController();

  constructor(host: TestHost, name: string) {
    this.#end = (async () => {
      for (let i = 0; !this.#stop.signal.aborted; i++) {
        const key = `${name}-${i}`;
        try {
          await kvWrite(
            host,
            { do: 'set', path: ['writes', key], value: i },
            { do: 'add', path: ['names'], element: key },
            { do: 'increment', path: ['count', name], by: 1 },
          );
          this.done.push(key);
        } catch {
          await pause(20); // the agent is dead or comes up
        }
      }
    })();
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async stop(): Promise<readonly string[]> {
    this.#stop.abort();
    await this.#end;
    return this.done;
  }
}

function writersOn(cluster: TestCluster, stack: DisposableStack): Writer[] {
  return cluster.hosts.map((host, at) => stack.use(new Writer(host, cluster.nameOf(at))));
}

async function keysOf(host: TestHost): Promise<readonly string[]> {
  return (await kvEntries(host, ['writes'])).map(({ path }) => path[1] ?? '');
}

/** Everything that was acknowledged is on every host; what the hosts have is the same. */
async function nothingLost(cluster: TestCluster, acknowledged: readonly string[]): Promise<void> {
  await cluster.settled('to have all that was acknowledged', async (host) => {
    const keys = new Set(await keysOf(host));
    const lost = acknowledged.filter((key) => !keys.has(key));
    if (lost.length === 0) return true;
    throw new Error(`${lost.length} of ${acknowledged.length} lost: ${lost.slice(0, 5).join(' ')}`);
  });
  const same = async (): Promise<true> => {
    const [first, ...others] = await cluster.everywhere(async (host) => [
      await kvEntries(host),
      await cluster.catalogOf(host),
    ]);
    for (const other of others) assert.deepEqual(other, first);
    return true;
  };
  await cluster.settled('the same state', same, [0]);
  await cluster.sameMaps();
}

function noErrors(cluster: TestCluster): void {
  for (const at of cluster.living) {
    const errors = cluster
      .host(at)
      .agent.log()
      .filter((line) => line['level'] === 'error');
    assert.deepEqual(errors, [], cluster.nameOf(at));
  }
}

test(`kill -9 of any agent at any time, ${KILLS} times, while all hosts write: nothing acknowledged is lost`, async (t) => {
  const dice = new Dice(testSeed(t));
  await using cluster = await TestCluster.formed(3);
  const server = await serveOn(cluster, 1);
  const vip = await addService(cluster, 0, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  using stack = new DisposableStack();
  const writers = writersOn(cluster, stack);
  for (let kill = 0; kill < KILLS; kill++) {
    const at = dice.pick(cluster.places);
    // Every other time nobody else has heard of what it was writing: its disk alone knows.
    if (kill % 2 === 0) await cluster.cut(at);
    await pause(dice.below(500)); // the moment is what counts
    await cluster.host(at).agent.kill('SIGKILL');
    await cluster.heal();
    const seen = await ask(cluster.host(at), 'C', 'tcp', vip, 80);
    assert.match(seen.reply ?? `${seen.error}`, /^h2 /, 'its kernel goes on');
    await cluster.start([at]);
  }
  const written = await Promise.all(writers.map((writer) => writer.stop()));
  t.diagnostic(`acknowledged: ${written.map((keys) => keys.length).join(', ')}`);
  await cluster.allAlive();
  await nothingLost(cluster, written.flat());
  const entries = await kvEntries(cluster.host(0));
  for (const [at, keys] of written.entries()) {
    assert.ok(keys.length > 0);
    const counted = entries.find(({ path }) => path.join('/') === `count/${cluster.nameOf(at)}`);
    // A write may be stored and its answer lost with the agent, once for each kill.
    const count = counted?.value.value as number;
    assert.ok(count >= keys.length && count <= keys.length + KILLS, `${count} of ${keys.length}`);
  }
  assert.ok(server.running);
});

test('an agent that lost its data directory comes back as a new host, and harms nobody', async () => {
  await using cluster = await TestCluster.formed(3);
  await addService(cluster, 2, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  await cluster.host(2).agent.kill('SIGKILL');
  rmSync(cluster.host(2).dataDir, { recursive: true });
  await cluster.start([2]);
  assert.equal((await cluster.membersOf(cluster.host(2))).length, 0);
  assert.deepEqual(cluster.backendsOn(0, 'web'), expectedOn(cluster, [1]));
});

test('a state file with broken bytes is set aside, said so, and healed by the others', async () => {
  await using cluster = await TestCluster.formed(3);
  await addService(cluster, 2, 'web', [1]);
  await kvSet(cluster.host(2), ['kept'], 'yes');
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  await cluster.settled('to have the key', async (host) => (await kvGet(host, ['kept'])) === 'yes');
  await cluster.host(2).agent.kill('SIGKILL');
  // The log of the last writes too: SQLite mends from there what it has.
  for (const name of ['state.db', 'state.db-wal']) {
    const file = join(cluster.host(2).dataDir, name);
    const broken = ['if=/dev/urandom', `of=${file}`, 'bs=4096', 'count=4', 'conv=notrunc'];
    execFileSync('dd', broken, { stdio: 'ignore' });
  }
  await cluster.start([2]);
  await cluster.allAlive();
  await cluster.settled('to have the key', async (host) => (await kvGet(host, ['kept'])) === 'yes');
  await cluster.sameMaps();
  const said = cluster
    .host(2)
    .agent.log()
    .map((line) => JSON.stringify(line));
  assert.ok(said.some((line) => /state\.db/.test(line) && /"level":"(warn|error)"/.test(line)));
  // It writes under a name that nobody knows yet, and is understood.
  await kvSet(cluster.host(2), ['after'], 'too');
  await cluster.settled('to have what it wrote after', async (host) => {
    return (await kvGet(host, ['after'])) === 'too';
  });
});

test('a full disk refuses writes of its own and goes on applying those of others', async () => {
  await using cluster = await TestCluster.create(3);
  const full = cluster.host(2);
  const disk = join(full.dir, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
  const data = join(disk, 'data');
  await cluster.start([0, 1]);
  await cluster.start([2], { data });
  await cluster.form();
  await serveOn(cluster, 0);
  await addService(cluster, 0, 'web', [0]);
  await cluster.backendsBecome('web', expectedOn(cluster, [0]));
  const fill = join(disk, 'fill');
  execFileSync('sh', ['-c', `dd if=/dev/zero of=${fill} bs=4k 2>/dev/null || true`]);
  truncateSync(fill, statSync(fill).size - 64 * 1024);

  let refused;
  const mine: string[] = [];
  for (let i = 0; i < 500 && refused === undefined; i++) {
    const body = { operations: [{ do: 'set', path: ['mine', `${i}`], value: 'x'.repeat(100) }] };
    const answer = await full.api('POST', '/v1/kv', body);
    if (answer.status < 300) mine.push(`${i}`);
    else refused = answer;
  }
  assert.ok(refused !== undefined && mine.length > 0, `${mine.length} taken`);
  assert.match(refused.text, /full|space/);
  // The others write on; its kernel follows.
  const wanted = [1, 2, 3, 4, 5, 6, 7, 8].map((i) => ({ address: `10.77.1.${i}`, port: 80 }));
  for (const backend of wanted) await putBackend(cluster.host(0), 'web', backend);
  const backends = [...expectedOn(cluster, [0]), ...wanted.map(({ address }) => `${address}:80`)];
  await cluster.backendsBecome('web', backends.toSorted());
  await putService(cluster.host(1), 'other', { ports: [{ port: 80 }] });
  await cluster.sameMaps();
  const status = async (): Promise<{ unsavedDocuments: number }> =>
    (await full.api('GET', '/v1/cluster')).json() as { unsavedDocuments: number };
  assert.ok((await status()).unsavedDocuments > 0);

  rmSync(fill);
  await cluster.settled(
    'to have saved it',
    async () => (await status()).unsavedDocuments === 0,
    [2],
  );
  await full.agent.kill('SIGKILL');
  await cluster.cut(2);
  // Alone, from its own disk.
  await cluster.start([2], { data });
  const keys = (await kvEntries(full, ['mine'])).map(({ path }) => path[1] ?? '');
  assert.deepEqual(keys.toSorted(), mine.toSorted());
  const { backends: stored } = (await full.api('GET', '/v1/backends?service=web')).json() as {
    backends: object[];
  };
  assert.equal(stored.length, wanted.length + 2);
});

test('clocks five minutes apart, and one that jumps: everything is heard of, later writes win, nobody dies', async () => {
  await using cluster = await TestCluster.create(3);
  const clocks = [0, 300, -300].map((ahead, at) => new FakeClock(cluster.host(at), ahead));
  const env = (at: number): NodeJS.ProcessEnv => clocks[at]?.env ?? {};
  for (const at of cluster.places) await cluster.start([at], { env: env(at) });
  await cluster.form();
  await serveOn(cluster, 1);
  await addService(cluster, 2, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  // Each write knows of the one before, so it wins, whatever the clocks say.
  for (let round = 0; round < 9; round++) {
    const at = round % 3;
    await kvSet(cluster.host(at), ['turn'], round);
    await cluster.settled(`to have round ${round}`, async (host) => {
      return (await kvGet(host, ['turn'])) === round;
    });
  }
  const jumps = [7200, -7200, 0, 86_400, 0];
  for (const [i, ahead] of jumps.entries()) {
    clocks[0]?.set(ahead);
    await kvSet(cluster.host(0), ['jump'], i);
    await cluster.settled(`to have jump ${i}`, async (host) => {
      return (await kvGet(host, ['jump'])) === i;
    });
    await kvSet(cluster.host(1), ['jump'], `${i} seen`);
    await cluster.settled(`to have the answer to jump ${i}`, async (host) => {
      return (await kvGet(host, ['jump'])) === `${i} seen`;
    });
  }
  await cluster.allAlive();
  await nothingLost(cluster, []);
  noErrors(cluster);
});

test('a network that loses one packet in ten: the cluster forms, nothing is lost, nobody stays dead', async () => {
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  for (const at of cluster.places) await cluster.drop(at, 5); // each packet meets two hosts
  await cluster.form();
  using stack = new DisposableStack();
  const writers = writersOn(cluster, stack);
  for (let i = 0; i < 10; i++) await addService(cluster, i % 3, `s${i}`, [(i + 1) % 3]);
  for (let i = 0; i < 10; i++)
    await cluster.backendsBecome(`s${i}`, expectedOn(cluster, [(i + 1) % 3]));
  const written = (await Promise.all(writers.map((writer) => writer.stop()))).flat();
  assert.ok(written.length > 0);
  await nothingLost(cluster, written);
  noErrors(cluster);
});

test('silence in one direction only: both sides go on, and agree when it ends', async () => {
  await using cluster = await TestCluster.formed(3);
  await cluster.oneWay(0, 1);
  using stack = new DisposableStack();
  const writers = writersOn(cluster, stack);
  await addService(cluster, 0, 'one', [2]);
  await addService(cluster, 1, 'two', [2]);
  // By way of h3.
  await cluster.backendsBecome('one', expectedOn(cluster, [2]));
  await cluster.backendsBecome('two', expectedOn(cluster, [2]));
  await cluster.heal();
  const written = (await Promise.all(writers.map((writer) => writer.stop()))).flat();
  await cluster.allAlive();
  await nothingLost(cluster, written);
});
