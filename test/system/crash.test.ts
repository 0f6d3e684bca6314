/** The agent is killed, comes back, or stays away: programs notice nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ask, endLoad, startLoad } from '../harness/clients.ts';
import { smallConfig } from '../harness/config.ts';
import { TestHost } from '../harness/host.ts';
import { dumpTables, linkIds, mapIds } from '../harness/maps.ts';
import { Dice, testSeed } from '../harness/random.ts';
import { echoes } from '../harness/servers.ts';
import { type BackendSpec, putBackend, putService, VIP4, VIP6 } from '../harness/services.ts';

const KILLS = 50;

interface Scene {
  readonly backends: readonly BackendSpec[];
  readonly config: string;
}

/** A service `web` of three TCP backends and `dns` of two UDP ones, both with VIPs of both families. */
async function scene(host: TestHost): Promise<Scene> {
  const config = host.writeConfig(smallConfig);
  await host.agent.start({ config });
  const { echoes: list } = await echoes(
    host,
    ...['a', 'b', 'c'].map((name) => ({ name })),
    ...['d', 'e'].map((name) => ({ name, protocol: 'udp' as const })),
  );
  const backends = list.map(({ address, port }) => ({ address, port }));
  await putService(host, 'web', {
    vips: [VIP4, VIP6],
    ports: [{ port: 80 }],
    backends: backends.slice(0, 3),
  });
  await putService(host, 'dns', {
    vips: ['240.0.0.2'],
    ports: [{ port: 53, protocol: 'udp' }],
    backends: backends.slice(3),
  });
  return { backends, config };
}

test(`kill -9 of the agent ${KILLS} times under load: no connect fails, the maps stay as they are`, async (t) => {
  const dice = new Dice(testSeed(t));
  await using host = await TestHost.create();
  const { config } = await scene(host);
  const before = await dumpTables(host);
  const [links, maps] = [await linkIds(host), await mapIds(host)];
  assert.equal(links.size, 9);
  const loads = await Promise.all([
    startLoad(host, 'tcp', VIP4, 80, { pauseUs: 1000 }),
    startLoad(host, 'tcp', VIP4, 80, { pauseUs: 1000 }),
    startLoad(host, 'udp', '240.0.0.2', 53, { pauseUs: 1000 }),
  ]);

  const start = performance.now();
  for (let i = 0; i < KILLS; i++) {
    await host.agent.kill('SIGKILL');
    // Every other time it dies somewhere on its way up: the moment, not a condition, is what counts.
    if (i % 2 === 0) await host.agent.start({ config });
    else {
      host.agent.launch({ config });
      await pause(dice.below(400));
    }
  }
  await host.agent.kill('SIGKILL');
  await host.agent.start({ config });
  t.diagnostic(`${((performance.now() - start) / (KILLS + 1)).toFixed(0)} ms a kill and start`);

  const results = await Promise.all(loads.map(endLoad));
  const rounds = results.reduce((sum, result) => sum + result.rounds, 0);
  t.diagnostic(`${rounds} connects`);
  for (const { errors } of results) assert.deepEqual(errors, {});
  assert.ok(rounds > 10_000);
  assert.deepEqual(await dumpTables(host), before);
  assert.deepEqual(await linkIds(host), links);
  assert.deepEqual(await mapIds(host), maps);
});

test('a restart of the agent changes nothing: no program, link, map or entry', async () => {
  await using host = await TestHost.create();
  const { config } = await scene(host);
  const before = [await dumpTables(host), await linkIds(host), await mapIds(host)];
  for (const how of ['SIGTERM', 'SIGINT', 'SIGKILL'] as const) {
    const code = await host.agent.kill(how);
    assert.equal(code, how === 'SIGKILL' ? 137 : 0);
    assert.deepEqual(
      [await dumpTables(host), await linkIds(host), await mapIds(host)],
      before,
      `after ${how}`,
    );
    const seen = await ask(host, 'C', 'tcp', VIP4, 80);
    assert.equal(seen.peer, `${VIP4}:80`);
    await host.agent.start({ config });
    assert.deepEqual(
      [await dumpTables(host), await linkIds(host), await mapIds(host)],
      before,
      `restart after ${how}`,
    );
    const { datapath } = (await host.api('GET', '/v1/status')).json() as {
      datapath: { adoptedPins: boolean; repairedEntries: number; state: string };
    };
    assert.deepEqual(
      [datapath.adoptedPins, datapath.repairedEntries, datapath.state],
      [true, 0, 'in-sync'],
    );
  }
});

test('a connected socket still shows its VIP after the agent died and came back', async () => {
  await using host = await TestHost.create();
  const { config } = await scene(host);
  const script = `
import socket
sock = socket.create_connection(('${VIP4}', 80), 5)
for line in iter(input, 'end'):
    print(line, sock.getpeername()[0], flush=True)
`;
  const client = host.spawn(['/usr/bin/python3', '-c', script]);
  const peer = async (when: string): Promise<void> => {
    client.say(`${when}\n`);
    const [line] = await client.says(new RegExp(`^${when} .*$`, 'm'));
    assert.equal(line, `${when} ${VIP4}`);
  };
  await peer('alive');
  await host.agent.kill('SIGKILL');
  await peer('killed');
  await host.agent.start({ config });
  await peer('back');
});

test('an acknowledged change survives kill -9, in the store and in the maps', async (t) => {
  await using host = await TestHost.create();
  const { backends, config } = await scene(host);
  const [backend] = backends;
  assert.ok(backend !== undefined);
  let acknowledged = 1;
  // On a machine with other work some rounds end before the first answer: more are played then.
  for (let round = 0; round < 10 || (acknowledged <= 10 && round < 50); round++) {
    let next = acknowledged;
    // Changes one after the other until the agent is gone; the last may be in flight.
    const changes = (async () => {
      for (;;) {
        next = acknowledged + 1;
        await putBackend(host, 'web', { ...backend, weight: next });
        acknowledged = next;
      }
    })().catch(() => {});
    await pause(5 + round * 3); // the moment of the kill
    await host.agent.kill('SIGKILL');
    await changes;
    await host.agent.start({ config });
    const { service } = (await host.api('GET', '/v1/services/web')).json() as {
      service: { backends: { port: number; weight: number }[] };
    };
    const weight = service.backends.find(({ port }) => port === backend.port)?.weight ?? 0;
    assert.ok(
      weight === acknowledged || weight === next,
      `${weight}, but ${acknowledged} was acknowledged`,
    );
    acknowledged = weight;
  }
  t.diagnostic(`${acknowledged} changes acknowledged`);
  assert.ok(acknowledged > 10);
});

test('maps dump shows the kernel with no agent running, and the same as with it', async () => {
  await using host = await TestHost.create();
  await scene(host);
  const withAgent = (await host.must('maps', 'dump', '--json')).json();
  await host.agent.kill('SIGKILL');
  const alone = (await host.must('maps', 'dump', '--json')).json();
  assert.deepEqual(alone, withAgent);
  const text = (await host.must('maps', 'dump')).stdout;
  for (const word of ['web', 'dns', VIP4, VIP6, '240.0.0.2'])
    assert.ok(text.includes(word), `${word} in\n${text}`);
  const status = await host.zerohop('status');
  assert.equal(status.code, 3);
  assert.match(status.stderr, /agent/);
});
