/** A backend that nobody listens at leaves the maps, of all hosts, and is back when somebody does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Child } from '../harness/child.ts';
import { ask } from '../harness/clients.ts';
import { TestCluster } from '../harness/cluster.ts';
import { addService, expectedOn, serveOn } from '../harness/cluster-services.ts';
import { smallMaps, withoutHealth } from '../harness/config.ts';
import { Dialler } from '../harness/dialling.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { backendsOf, readMaps } from '../harness/readings.ts';
import { echoes, listening } from '../harness/servers.ts';
import { putService, VIP4 } from '../harness/services.ts';

const [A, B] = [9001, 9002];
const at = (port: number): string => `127.0.0.1:${port}`;

async function hostWith(config: object = {}): Promise<TestHost> {
  const host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig({ maps: smallMaps, ...config }) });
  return host;
}

async function serve(host: TestHost, name: string, port: number): Promise<Child> {
  return (await echoes(host, { name, port })).process;
}

async function web(host: TestHost, ...ports: readonly number[]): Promise<void> {
  await putService(host, 'web', {
    vips: [VIP4],
    ports: [{ port: 80 }],
    backends: ports.map((port) => ({ address: '127.0.0.1', port })),
  });
}

/** Waits until the kernel sends connects to exactly these; answers when that was so. */
async function become(host: TestHost, ...wanted: readonly string[]): Promise<bigint> {
  await eventually(
    `connects to go to ${wanted.join(' ')}`,
    () => {
      const seen = backendsOf(readMaps(host), 'web', 4).join(' ');
      if (seen === wanted.join(' ')) return true;
      throw new Error(`they go to ${seen}`);
    },
    { timeoutMs: 20_000 },
  );
  return process.hrtime.bigint();
}

/** What the agent says of the backends of `web`, and of its port. */
async function told(host: TestHost): Promise<{ downs: string[]; failOpen: boolean }> {
  const { service } = (await host.api('GET', '/v1/services/web')).json() as {
    service: {
      ports: readonly { failOpen?: boolean }[];
      backends: readonly { down?: string }[];
    };
  };
  const downs = service.backends.map(({ down = 'up' }) => down);
  return { downs, failOpen: service.ports.some(({ failOpen }) => failOpen === true) };
}

test('a server that is killed gets no connections after the look, and gets some again when it listens', async () => {
  await using host = await hostWith();
  const a = await serve(host, 'a', A);
  await serve(host, 'b', B);
  await web(host, A, B);
  const dialler = await Dialler.start(host, VIP4, 80);
  await dialler.hears('a', 'b');

  const killedAt = process.hrtime.bigint();
  await a.stop('SIGKILL');
  const outAt = await become(host, at(B));
  assert.deepEqual(await told(host), { downs: ['unhealthy', 'up'], failOpen: false });
  const again = await serve(host, 'c', A);
  await become(host, at(A), at(B));
  await dialler.hears('c');
  const { failures, skipped } = await dialler.end();

  assert.equal(skipped, 0);
  for (const { error, fromNs, toNs } of failures) {
    assert.ok(toNs > killedAt, error);
    assert.ok(fromNs < outAt, `${error}, ${Number(fromNs - outAt) / 1e6} ms after it was out`);
  }
  assert.ok(again.running);
  const log = host.agent.log().map(({ message }) => message);
  assert.ok(log.includes('nobody listens at backends of this host'));
});

test('a connection that is open when the listener goes is left alone', async () => {
  await using host = await hostWith();
  const program = `
import socket, sys
server = socket.create_server(("127.0.0.1", ${A}))
print("listening", flush=True)
peer, _ = server.accept()
server.close()
while True:
    said = peer.recv(100)
    if not said: break
    peer.sendall(said)
`;
  const server = host.spawn(['/usr/bin/python3', '-c', program]);
  await server.says(/listening/);
  await serve(host, 'b', B);
  await web(host, A);
  const client = `
import socket, sys
peer = socket.create_connection(("${VIP4}", 80))
for line in sys.stdin:
    peer.sendall(line.encode())
    print("heard", peer.recv(100).decode(), flush=True)
`;
  const talk = host.spawn(['/usr/bin/python3', '-c', client]);
  talk.say('one\n');
  await talk.says(/heard one/);
  await web(host, A, B);
  await become(host, at(B));
  talk.say('two\n');
  await talk.says(/heard two/);
  talk.endInput();
});

test('all servers of a service gone: all its backends are used, and the service says so', async () => {
  await using host = await hostWith();
  const server = await serve(host, 'a', A);
  await web(host, A, B);
  await become(host, at(A));
  await server.stop('SIGKILL');
  await become(host, at(A), at(B));
  assert.deepEqual(await told(host), { downs: ['up', 'up'], failOpen: true });
  assert.equal((await ask(host, 'C', 'tcp', VIP4, 80)).error, 'ECONNREFUSED');
  await serve(host, 'b', B);
  await become(host, at(B));
});

test('a backend that is reached by DNAT has no listener, and is not down until the forwarding ends', async () => {
  await using host = await hostWith({ health: { intervalMs: 100 } });
  await host.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
  await host.ip('address', 'add', '10.88.0.1/24', 'dev', 'eth0');
  for (const end of ['eth0', 'eth1']) await host.ip('link', 'set', end, 'up');
  await echoes(host, { name: 'hidden', address: '127.0.0.2', port: A });
  const nft = async (...words: string[]): Promise<string> => await host.output(['nft', ...words]);
  await nft('add', 'table', 'ip', 'nat');
  await nft('add chain ip nat output { type nat hook output priority -100 ; }');
  const forward = 'add rule ip nat output ip daddr 10.88.0.1 tcp dport 9100 dnat to 127.0.0.2:9001';
  await nft(forward);
  await putService(host, 'web', {
    vips: [VIP4],
    ports: [{ port: 80 }],
    backends: [9100, 9101].map((port) => ({ address: '10.88.0.1', port })),
  });
  // The other one, that nobody serves, shows that it was looked often enough.
  await become(host, '10.88.0.1:9100');
  assert.match((await ask(host, 'C', 'tcp', VIP4, 80)).reply ?? '', /^hidden /);
  await serve(host, 'b', B);
  await nft('flush', 'chain', 'ip', 'nat', 'output');
  await echoes(host, { name: 'other', address: '10.88.0.1', port: 9101 });
  await become(host, '10.88.0.1:9101');
  await nft(forward);
  await become(host, '10.88.0.1:9100', '10.88.0.1:9101');
});

test('an agent that starts puts no backend into the kernel that nobody listens at', async () => {
  await using host = await hostWith({ health: { intervalMs: 60_000 } });
  const a = await serve(host, 'a', A);
  await serve(host, 'b', B);
  await web(host, A, B);
  await become(host, at(A), at(B));
  await host.agent.kill('SIGKILL');
  await a.stop('SIGKILL');
  assert.deepEqual(backendsOf(readMaps(host), 'web', 4), [at(A), at(B)]);
  const config = { maps: smallMaps, health: { intervalMs: 60_000 } };
  await host.agent.start({ config: host.writeConfig(config) });
  assert.deepEqual(backendsOf(readMaps(host), 'web', 4), [at(B)]);
  await host.agent.stop();
  await host.agent.start({ config: host.writeConfig({ maps: smallMaps, ...withoutHealth }) });
  assert.deepEqual(backendsOf(readMaps(host), 'web', 4), [at(A), at(B)], 'turned off');
});

test('those that serve are told from those that do not among 300 listeners', async () => {
  await using host = await hostWith();
  const specs = Array.from({ length: 300 }, (_, i) => ({ name: `s${i}`, port: 10_000 + i }));
  const { process: servers } = await echoes(host, ...specs);
  await web(host, ...specs.slice(0, 100).map(({ port }) => port));
  await listening(host, servers, 10_299);
  await web(host, 10_000, 10_150, 10_299, B);
  await become(host, at(10_000), at(10_150), at(10_299));
});

test('in a cluster: a server killed on a host that lives is out of the maps of all, and back when it listens', async () => {
  const health = { listening: true, intervalMs: 200 };
  await using cluster = await TestCluster.formed(3, { config: { health } });
  const server = await serveOn(cluster, 1);
  await serveOn(cluster, 2);
  const vip = await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  const diallers = await cluster.everywhere((host) => Dialler.start(host, vip, 80));
  await Promise.all(diallers.map((dialler) => dialler.hears('h2', 'h3')));

  const killedAt = process.hrtime.bigint();
  await server.stop('SIGKILL');
  await cluster.backendsBecome('web', expectedOn(cluster, [2]));
  const outAt = process.hrtime.bigint();
  await cluster.sameMaps();
  // A host that joins later, or was away, hears of it too.
  await cluster.host(0).agent.kill('SIGKILL');
  await cluster.start([0]);
  await cluster.backendsBecome('web', expectedOn(cluster, [2]));
  for (const dialler of diallers) {
    const { failures } = await dialler.end();
    const [dead = ''] = expectedOn(cluster, [1]);
    for (const { fromNs, toNs, error, backend } of failures) {
      const words = `${error} ${backend}, ${Number(fromNs - killedAt) / 1e6} ms after`;
      assert.ok(toNs > killedAt, words);
      assert.ok(fromNs < outAt || backend !== dead, words);
    }
  }
  await serveOn(cluster, 1);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
});

test('in a cluster: what an agent said before it was killed does not outlive it', async () => {
  const health = { listening: true, intervalMs: 200 };
  await using cluster = await TestCluster.formed(3, { config: { health } });
  const server = await serveOn(cluster, 1);
  await serveOn(cluster, 2);
  await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await server.stop('SIGKILL');
  await cluster.backendsBecome('web', expectedOn(cluster, [2]));
  await cluster.host(1).agent.kill('SIGKILL');
  await serveOn(cluster, 1);
  await cluster.start([1]);
  await cluster.allAlive();
  // In less than what would be left of the fact, had it not been withdrawn: 20 s or more at the kill.
  const wanted = expectedOn(cluster, [1, 2]).join();
  const check = (_: TestHost, place: number): boolean =>
    cluster.backendsOn(place, 'web').join() === wanted;
  await cluster.settled('to use h2 again', check, cluster.living, { timeoutMs: 12_000 });
});

test('in a cluster: an open port of a host is nobody else’s affair at loopback', async () => {
  const health = { listening: true, intervalMs: 200 };
  await using cluster = await TestCluster.formed(2, { config: { health } });
  await echoes(cluster.host(0), { name: 'mine', port: A }, { name: 'both', port: B });
  await echoes(cluster.host(1), { name: 'both', port: B });
  await putService(cluster.host(0), 'web', {
    ports: [{ port: 80 }],
    backends: [A, B].map((port) => ({ address: '127.0.0.1', port })),
  });
  await cluster.backendsBecome('web', [at(B)], [1]);
  await cluster.backendsBecome('web', [at(A), at(B)], [0]);
});
