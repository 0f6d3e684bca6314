/** Three hosts, one system: what is written on any of them is in the kernels of all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, plain } from '../harness/clients.ts';
import { TestCluster } from '../harness/cluster.ts';
import { addService, expectedOn, serveOn } from '../harness/cluster-services.ts';
import { Dialler, type Dialled } from '../harness/dialling.ts';
import { eventually } from '../harness/eventually.ts';
import { kvEntries, kvGet, kvSet, kvWrite } from '../harness/kv.ts';
import { languages } from '../harness/programs.ts';
import { putService, removeService, vipOf } from '../harness/services.ts';

/** How long after `since` the last failed connect began, in ms. */
function outageMs(dialled: readonly Dialled[], since: bigint): number {
  const begun = dialled.flatMap(({ failures }) => failures.map(({ fromNs }) => fromNs));
  return begun.reduce((most, at) => Math.max(most, Number(at - since) / 1e6), 0);
}

test('hosts that join see each other, and a service added on one is reached by connect() on all', async () => {
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  await cluster.form({ by: 'cli' });
  await serveOn(cluster, 1);
  await cluster.host(0).must('service', 'add', 'web', '--port', '80');
  for (const family of [4, 6] as const) {
    const address = cluster.addressOf(1, family);
    const endpoint = family === 4 ? `${address}:8080` : `[${address}]:8080`;
    await cluster.host(2).must('backend', 'add', 'web', endpoint);
  }
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  await cluster.sameMaps();
  for (const family of [4, 6] as const) {
    const vip = await vipOf(cluster.host(0), 'web', family);
    const shown = family === 4 ? `${vip}:80` : `[${vip}]:80`;
    await cluster.everywhere(async (host) => {
      for (const language of languages) {
        const seen = await ask(host, language, 'tcp', vip, 80);
        assert.equal(plain(seen.peer), shown, language);
        assert.match(seen.reply ?? `${seen.error}`, /^h2 /, language);
      }
    });
  }
  await cluster.everywhere(async (host, at) => {
    const { members } = (await host.must('members', '--json')).json() as {
      members: { name: string; state: string; self: boolean; address: string }[];
    };
    assert.deepEqual(
      members.map(({ name, state, self, address }) => [name, state, self, address]),
      [0, 1, 2].map((of) => [cluster.nameOf(of), 'alive', of === at, cluster.listenOf(of)]),
    );
  });
  await removeService(cluster.host(1), 'web');
  await cluster.settled('to have forgotten web', (_, at) => cluster.mapsOf(at).length === 0);
});

test('the backends of a killed host leave the maps of the others; until then, and only with them, connects fail', async (t) => {
  await using cluster = await TestCluster.formed(3);
  await serveOn(cluster, 1);
  await serveOn(cluster, 2);
  const vip = await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  const diallers = await cluster.everywhere((host) => Dialler.start(host, vip, 80), [0, 1]);
  await Promise.all(diallers.map((dialler) => dialler.hears('h2', 'h3')));

  const killed = await cluster.kill(2);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  const gone = process.hrtime.bigint();
  await cluster.allAlive();
  const dialled = await Promise.all(diallers.map((dialler) => dialler.end()));

  t.diagnostic(`failed connects began until ${outageMs(dialled, killed).toFixed(0)} ms after`);
  t.diagnostic(`out of the maps after ${(Number(gone - killed) / 1e6).toFixed(0)} ms`);
  const [dead = ''] = expectedOn(cluster, [2]);
  for (const { failures, skipped } of dialled) {
    assert.equal(skipped, 0);
    for (const failure of failures) {
      const began = `${failure.error}, begun ${Number(failure.fromNs - killed) / 1e6} ms after`;
      assert.equal(failure.backend, dead, began);
      assert.ok(failure.fromNs < gone);
      assert.ok(failure.toNs > killed);
    }
  }
  const members = await cluster.membersOf(cluster.host(0));
  const states = members.map(({ name, state }) => `${name} ${state}`);
  assert.deepEqual(states.toSorted(), ['h1 alive', 'h2 alive', 'h3 dead']);

  await cluster.revive(2);
  await serveOn(cluster, 2);
  await cluster.start([2]);
  await cluster.allAlive();
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await cluster.sameMaps();
});

test('the server of a host whose agent was stopped can end: no connect on any host fails', async () => {
  await using cluster = await TestCluster.formed(3);
  const servers = [await serveOn(cluster, 1), await serveOn(cluster, 2)];
  const vip = await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  const diallers = await cluster.everywhere((host) => Dialler.start(host, vip, 80), [0, 1]);
  const own = await Dialler.start(cluster.host(2), vip, 80);
  await Promise.all([own, ...diallers].map((dialler) => dialler.hears('h2', 'h3')));

  await cluster.stop(2);
  const alone = await own.end(); // its kernel goes on with what it has
  // Told before the agent ended; where the CPU is busy it is done a moment later.
  await cluster.backendsBecome('web', expectedOn(cluster, [1]), [0, 1]);
  await servers[1]?.stop('SIGKILL');
  // A round of all, so that each would have met the server that is gone.
  await eventually('more connects', async () => {
    const seen = await cluster.everywhere((host) => ask(host, 'C', 'tcp', vip, 80), [0, 1]);
    return seen.every(({ reply }) => reply?.startsWith('h2 ') === true);
  });
  const dialled = [alone, ...(await Promise.all(diallers.map((dialler) => dialler.end())))];
  for (const { failures, attempts } of dialled) {
    assert.ok(attempts > 0);
    assert.deepEqual(failures, []);
  }
  const members = await cluster.membersOf(cluster.host(0));
  assert.equal(members.find(({ name }) => name === 'h3')?.state, 'left');

  await serveOn(cluster, 2);
  await cluster.start([2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await cluster.sameMaps();
});

test('a host that leaves takes its backends along before it goes, and keeps the state as its own', async () => {
  await using cluster = await TestCluster.formed(3);
  await serveOn(cluster, 1);
  const server = await serveOn(cluster, 2);
  const vip = await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  const diallers = await cluster.everywhere((host) => Dialler.start(host, vip, 80), [0, 1]);
  await Promise.all(diallers.map((dialler) => dialler.hears('h2', 'h3')));
  await cluster.host(2).must('cluster', 'leave', '--yes');
  await server.stop('SIGKILL');
  await cluster.backendsBecome('web', expectedOn(cluster, [1]), [0, 1]);
  for (const { failures } of await Promise.all(diallers.map((dialler) => dialler.end())))
    assert.deepEqual(failures, []);

  const alone = (await cluster.host(2).must('cluster', 'status', '--json')).json() as object;
  assert.deepEqual((alone as { member: boolean }).member, false);
  assert.equal(await vipOf(cluster.host(2), 'web'), vip);
  // From now on two systems.
  await putService(cluster.host(2), 'mine', { ports: [{ port: 80 }] });
  await putService(cluster.host(0), 'ours', { ports: [{ port: 80 }] });
  await cluster.sameMaps([0, 1]);
  const services = (place: number): string[] =>
    [...new Set(cluster.mapsOf(place).map(({ service }) => service))].toSorted();
  assert.deepEqual(services(2), ['mine', 'web']);
  assert.deepEqual(services(1), ['ours', 'web']);
  // Its certificate is gone: it needs a new token, and a word on its own services.
  await cluster.host(2).agent.stop();
  await cluster.start([2]);
  assert.deepEqual((await cluster.membersOf(cluster.host(2))).length, 0);
});

test('what was acknowledged on either side of a partition is on all hosts after it, the same on each', async () => {
  await using cluster = await TestCluster.formed(3);
  await Promise.all([0, 1, 2].map((at) => serveOn(cluster, at)));
  await addService(cluster, 0, 'before', [0, 1, 2]);
  await cluster.backendsBecome('before', expectedOn(cluster, [0, 1, 2]));

  await cluster.partition([[0], [1, 2]]);
  // Each side goes on with what it can reach.
  await cluster.backendsBecome('before', expectedOn(cluster, [0]), [0]);
  await cluster.backendsBecome('before', expectedOn(cluster, [1, 2]), [1, 2]);
  await addService(cluster, 0, 'left', [0]);
  await addService(cluster, 1, 'right', [1]);
  const both = [
    await addService(cluster, 0, 'both', [0]),
    await addService(cluster, 2, 'both', [2]),
  ];
  await removeService(cluster.host(0), 'before');
  await kvWrite(
    cluster.host(0),
    { do: 'increment', path: ['count'], by: 3 },
    { do: 'add', path: ['names'], element: 'one' },
    { do: 'set', path: ['a'], value: 1 },
  );
  await kvWrite(
    cluster.host(2),
    { do: 'increment', path: ['count'], by: 4 },
    { do: 'add', path: ['names'], element: 'two' },
    { do: 'set', path: ['b'], value: 2 },
  );
  assert.equal(both[0], both[1], 'a VIP follows from the name');

  await cluster.heal();
  await cluster.allAlive();
  await cluster.settled('to have left and right', (_, at) => {
    const services = new Set(cluster.mapsOf(at).map(({ service }) => service));
    return [...services].toSorted().join() === 'both,left,right';
  });
  await cluster.backendsBecome('left', expectedOn(cluster, [0]));
  await cluster.backendsBecome('right', expectedOn(cluster, [1]));
  await cluster.backendsBecome('both', expectedOn(cluster, [0, 2]));
  await cluster.sameMaps();
  await cluster.settled('the same store', async (host) => (await kvEntries(host)).length === 4);
  const [first, ...others] = await cluster.everywhere(async (host) => [
    await cluster.catalogOf(host),
    await kvEntries(host),
  ]);
  for (const other of others) assert.deepEqual(other, first);
  const values = (await kvEntries(cluster.host(1))).map(({ path, value }) => [path[0], value]);
  assert.deepEqual(Object.fromEntries(values), {
    a: { type: 'register', value: 1 },
    b: { type: 'register', value: 2 },
    count: { type: 'counter', value: 7 },
    names: { type: 'set', elements: ['one', 'two'] },
  });
});

test('a service that nobody can reach keeps its backends', async () => {
  await using cluster = await TestCluster.formed(3);
  await serveOn(cluster, 1);
  await addService(cluster, 0, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
  await cluster.cut(0);
  await cluster.settled(
    'to see nobody',
    async (host) => {
      const members = await cluster.membersOf(host);
      return members.filter(({ state }) => state === 'dead').length === 2;
    },
    [0],
  );
  assert.deepEqual(cluster.backendsOn(0, 'web'), expectedOn(cluster, [1]));
  const status = (await cluster.host(0).api('GET', '/v1/cluster')).json() as { failOpen: string[] };
  assert.equal(status.failOpen.length, 1);
  assert.match(status.failOpen[0] ?? '', /^web:/);
  await cluster.heal();
  await cluster.allAlive();
  const after = (await cluster.host(0).api('GET', '/v1/cluster')).json() as { failOpen: string[] };
  assert.deepEqual(after.failOpen, []);
});

test('a key set on one host is read on another, and watched on a third', async () => {
  await using cluster = await TestCluster.formed(3);
  const watch = cluster.host(2).spawn([cluster.host(2).bin, 'kv', 'watch', 'config']);
  await cluster.host(0).must('kv', 'set', 'config/motd', 'hello');
  await cluster.settled('to have it', async (host) => {
    return (await kvGet(host, ['config', 'motd'])) === 'hello';
  });
  assert.equal((await cluster.host(1).must('kv', 'get', 'config/motd')).stdout.trim(), 'hello');
  // The watcher may have come after the first write.
  await eventually('the watcher to tell', async () => {
    await kvSet(cluster.host(1), ['config', 'motd'], `hello ${Date.now()}`);
    return /config\/motd: .*→ "hello \d+"/.test(watch.stdout);
  });
  await watch.stop();
});

test('all agents are stopped and started: they find each other again, and everything is there', async () => {
  await using cluster = await TestCluster.formed(3);
  await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await kvSet(cluster.host(2), ['kept'], 'yes');
  await cluster.settled('to have the key', async (host) => (await kvGet(host, ['kept'])) === 'yes');
  for (const at of cluster.places) await cluster.stop(at);
  await cluster.start();
  await cluster.allAlive();
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await cluster.sameMaps();
  await cluster.everywhere(async (host) => assert.equal(await kvGet(host, ['kept']), 'yes'));
  // What is written now still goes everywhere: writers did not count anew.
  await addService(cluster, 1, 'later', [0]);
  await cluster.backendsBecome('later', expectedOn(cluster, [0]));
});
