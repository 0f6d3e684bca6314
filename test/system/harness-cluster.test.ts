/** The network of test clusters, without any agent: what is joined, cut, lost, delayed and dead. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { steps } from '../harness/clients.ts';
import { TestCluster } from '../harness/cluster.ts';
import { Dialler } from '../harness/dialling.ts';
import { eventually, patience } from '../harness/eventually.ts';
import type { TestHost } from '../harness/host.ts';
import { echoes } from '../harness/servers.ts';
import type { Place } from '../harness/wires.ts';

const PORT = 9000;

/** An echo server on each host, named after it, on both families and protocols. */
async function serveAll(cluster: TestCluster): Promise<void> {
  await cluster.everywhere(async (host, at) => {
    const specs = ([4, 6] as const).flatMap((family) =>
      (['tcp', 'udp'] as const).map((protocol) => ({
        name: cluster.nameOf(at),
        protocol,
        address: cluster.addressOf(at, family),
        port: PORT,
      })),
    );
    await echoes(host, ...specs);
  });
}

/** Who answers there; undefined when nobody does in a second. */
async function answerOf(from: TestHost, address: string): Promise<string | undefined> {
  const talk = 'exec 3<>/dev/tcp/$0/$1 && echo x >&3 && read -ru 3 name rest && echo $name';
  const bounded = ['timeout', String(patience), 'bash', '-c', talk, address, String(PORT)];
  const { code, stdout } = await from.exec(bounded);
  return code === 0 ? stdout.trim() : undefined;
}

/** `h1 h2` for every host and every other that it can talk to. */
async function talking(cluster: TestCluster, family: 4 | 6 = 4): Promise<string[]> {
  const pairs = cluster.living.flatMap((from) =>
    cluster.living.filter((to) => to !== from).map((to): [Place, Place] => [from, to]),
  );
  const heard = await Promise.all(
    pairs.map(async ([from, to]) => {
      const answer = await answerOf(cluster.host(from), cluster.addressOf(to, family));
      assert.ok(answer === undefined || answer === cluster.nameOf(to));
      return answer === undefined ? [] : [`${cluster.nameOf(from)} ${answer}`];
    }),
  );
  return heard.flat().toSorted();
}

const EVERYBODY = ['h1 h2', 'h1 h3', 'h2 h1', 'h2 h3', 'h3 h1', 'h3 h2'];

/** Datagrams that came to a closed port of this host so far, once no more come. */
async function datagramsAt(host: TestHost): Promise<number> {
  const count = async (): Promise<number> => {
    const lines = (await host.output(['cat', '/proc/net/snmp'])).split('\n');
    const udp = lines.filter((line) => line.startsWith('Udp:')).map((line) => line.split(' '));
    const [names = [], values = []] = udp;
    return Number(values[names.indexOf('NoPorts')]);
  };
  let last = -1;
  await eventually('no more datagrams', async () => last === (last = await count()), {
    everyMs: 50,
  });
  return last;
}

async function sendDatagrams(host: TestHost, address: string, count: number): Promise<void> {
  const script = `
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(${count}):
    sock.sendto(b'x', ('${address}', ${PORT - 1}))
`;
  await host.output(['/usr/bin/python3', '-c', script]);
}

test('hosts of a cluster talk to each other by both families, and to nobody else', async () => {
  await using cluster = await TestCluster.create(3);
  await serveAll(cluster);
  assert.deepEqual(await talking(cluster, 4), EVERYBODY);
  assert.deepEqual(await talking(cluster, 6), EVERYBODY);
  const [route] = await steps(cluster.host(0), 4, 'udp', 'connect=192.0.2.1,53');
  assert.equal(route?.error, 'ENETUNREACH');
});

test('partitions, one-way silence and lonely hosts are what they say, until they are healed', async () => {
  await using cluster = await TestCluster.create(3);
  await serveAll(cluster);
  await cluster.partition([[0], [1, 2]]);
  assert.deepEqual(await talking(cluster), ['h2 h3', 'h3 h2']);
  await cluster.partition([[0, 2], [1]]);
  assert.deepEqual(await talking(cluster), ['h1 h3', 'h3 h1']);
  await cluster.cut(2);
  assert.deepEqual(await talking(cluster), []);
  await cluster.heal();
  assert.deepEqual(await talking(cluster), EVERYBODY);
  await cluster.oneWay(0, 1);
  // TCP needs both ways.
  assert.deepEqual(await talking(cluster), ['h1 h3', 'h2 h3', 'h3 h1', 'h3 h2']);
  const before = await datagramsAt(cluster.host(1));
  await sendDatagrams(cluster.host(0), cluster.addressOf(1), 10);
  assert.equal(await datagramsAt(cluster.host(1)), before);
  await sendDatagrams(cluster.host(1), cluster.addressOf(0), 10);
  assert.equal(await datagramsAt(cluster.host(0)), 10);
});

test('a share of the packets is lost, both ways, and only of that host', async () => {
  await using cluster = await TestCluster.create(3);
  const [one, two] = [cluster.host(0), cluster.host(1)];
  const lossOver = async (from: TestHost, to: TestHost, address: string): Promise<number> => {
    const before = await datagramsAt(to);
    await sendDatagrams(from, address, 1000);
    return 1000 - ((await datagramsAt(to)) - before);
  };
  await cluster.drop(0, 50);
  for (const [from, to, address] of [
    [one, two, cluster.addressOf(1)],
    [two, one, cluster.addressOf(0)],
  ] as const) {
    const lost = await lossOver(from, to, address);
    assert.ok(lost > 400 && lost < 600, `${lost} of 1000`); // 6 standard deviations
  }
  assert.equal(await lossOver(two, cluster.host(2), cluster.addressOf(2)), 0);
  await cluster.drop(0, 0);
  assert.equal(await lossOver(one, two, cluster.addressOf(1)), 0);
});

test('packets are delayed, both ways', async (t) => {
  await using cluster = await TestCluster.create(2);
  const obstacle = await cluster.obstacleToDelay();
  if (obstacle !== undefined) {
    await assert.rejects(cluster.delay(0, 10), /delay needs netem/);
    return t.skip(obstacle);
  }
  await serveAll(cluster);
  await cluster.delay(0, 50);
  const start = performance.now();
  assert.equal(await answerOf(cluster.host(0), cluster.addressOf(1)), 'h2');
  // A handshake and an answer are two round trips.
  assert.ok(performance.now() - start >= 200);
});

const TALK = `
import socket, sys
sock = socket.create_connection((sys.argv[1], ${PORT}), 5)
for line in iter(input, 'end'):
    sock.sendall(line.encode() + b'\\n')
    try:
        print(line, sock.recv(100).decode().split()[0] or 'EOF', flush=True)
    except OSError as error:
        print(line, error.strerror, flush=True)
`;

test('a killed host has no processes and says no goodbye; revived, it knows of no connection', async () => {
  await using cluster = await TestCluster.create(2);
  await serveAll(cluster);
  const script = ['/usr/bin/python3', '-c', TALK];
  const client = cluster.host(0).spawn([...script, cluster.addressOf(1)]);
  client.say('alive\n');
  await client.says(/^alive h2$/m);
  const inner = `${cluster.host(1).cgroup}/inner`;
  await cluster.host(1).output(['mkdir', inner]);
  const away = cluster.host(1).spawn(['sh', '-c', `echo 0 >${inner}/cgroup.procs; exec sleep 60`]);
  await eventually('a process below', () => readFileSync(`${inner}/cgroup.procs`, 'utf8') !== '');

  await cluster.kill(1);
  assert.deepEqual(cluster.living, [0]);
  assert.equal(away.running, false);
  assert.ok(existsSync(cluster.host(1).cgroup));
  assert.equal(readFileSync(`${cluster.host(1).cgroup}/cgroup.procs`, 'utf8'), '');
  assert.equal(await answerOf(cluster.host(0), cluster.addressOf(1)), undefined);
  assert.match(
    await cluster.host(0).output(['ss', '-Htn', `dst ${cluster.addressOf(1)}`]),
    /^ESTAB/,
  );

  await cluster.revive(1);
  assert.deepEqual(cluster.living, [0, 1]);
  client.say('revived\n');
  await client.says(/^revived Connection reset by peer$/m);
  await serveAll(cluster).catch(() => {}); // host 0 has its own still
  assert.equal(await answerOf(cluster.host(0), cluster.addressOf(1)), 'h2');
});

test('a dialler tells when attempts failed, how, and with whom', async () => {
  await using cluster = await TestCluster.create(2);
  await serveAll(cluster);
  const [host, address] = [cluster.host(0), cluster.addressOf(1)];
  const pace = { everyMs: 5, waitMs: 200 };
  const dialler = await Dialler.start(host, address, PORT, pace);
  const backends = [`${cluster.addressOf(0)}:${PORT}`, `${address}:${PORT}`];
  const told = await Dialler.start(host, address, PORT, { ...pace, backends });
  const refused = await Dialler.start(host, address, PORT + 1, { everyMs: 50 });
  await eventually('refusals', () => refused.failures().length > 3);
  const { failures: refusals, answers: none } = await refused.end();
  assert.equal(none.size, 0);
  for (const { error } of refusals) assert.equal(error, 'connect ECONNREFUSED');
  assert.deepEqual(dialler.failures(), []);
  await cluster.cut(1);
  for (const one of [dialler, told]) await eventually('failures', () => one.failures().length > 3);
  await cluster.heal();
  for (const { backend } of (await told.end()).failures)
    assert.equal(backend, `${address}:${PORT}`);
  const { attempts, skipped, failures, answers } = await dialler.end();
  assert.equal(skipped, 0);
  assert.equal(attempts, failures.length + (answers.get('h2')?.count ?? 0));
  for (const { fromNs, toNs, error, backend } of failures) {
    assert.ok(toNs - fromNs >= 200_000_000n);
    assert.match(error, /^(connect|recv) ETIMEDOUT$/);
    assert.equal(backend, `${address}:${PORT}`);
  }
});

test('hosts that are not there, and groups that are no partition, are refused', async () => {
  await using cluster = await TestCluster.create(2);
  await assert.rejects(cluster.partition([[0]]), /1 of the 2 hosts/);
  assert.throws(() => cluster.host(2), /no host 2 in a cluster of 2/);
});
