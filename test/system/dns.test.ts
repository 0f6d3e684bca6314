/** The agent's resolver as real programs meet it: dig, kdig, drill, glibc, dnspython, Node, Go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Child } from '../harness/child.ts';
import { TestCluster } from '../harness/cluster.ts';
import { addService, serveOn } from '../harness/cluster-services.ts';
import { smallConfig } from '../harness/config.ts';
import { Etc } from '../harness/etc.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { goProgram } from '../harness/programs.ts';
import { putService } from '../harness/services.ts';

const AT = '127.0.0.55';
const PYTHON = '/usr/bin/python3';
const UPSTREAM = fileURLToPath(new URL('servers/upstream.ts', import.meta.url));

/** A server of others, on the host; it tells what it is asked. */
async function upstream(host: TestHost, ...addresses: readonly string[]): Promise<Child> {
  const server = host.spawn([process.execPath, '--no-warnings', UPSTREAM, ...addresses]);
  await server.says(/^listening$/m);
  return server;
}

async function hostWith(dns: object = {}): Promise<TestHost> {
  const host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig({ ...smallConfig, dns }) });
  return host;
}

/** Addresses beside loopback: glibc looks nothing up for programs that could not use it (AI_ADDRCONFIG). */
async function online(host: TestHost): Promise<void> {
  await host.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
  await host.ip('address', 'add', '10.88.0.1/24', 'dev', 'eth0');
  await host.ip('address', 'add', 'fd88::1/64', 'dev', 'eth0', 'nodad');
  for (const end of ['eth0', 'eth1']) await host.ip('link', 'set', end, 'up');
}

/** `dig +short`: lines, sorted. */
async function dig(host: TestHost, ...words: readonly string[]): Promise<string[]> {
  const at = words.some((word) => word.startsWith('@')) ? [] : [`@${AT}`];
  const text = await host.output(['dig', '+short', '+tries=1', ...at, ...words]);
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(';;'))
    .toSorted();
}

async function rcode(host: TestHost, ...words: readonly string[]): Promise<string> {
  const at = words.some((word) => word.startsWith('@')) ? [] : [`@${AT}`];
  const text = await host.output(['dig', '+tries=1', ...at, ...words]);
  return /status: ([A-Z]+)/.exec(text)?.[1] ?? text;
}

async function vips(host: TestHost, name: string): Promise<string[]> {
  const answer = (await host.api('GET', `/v1/services/${name}`)).json() as {
    service: { vips: string[] };
  };
  return answer.service.vips;
}

async function kernelIs(host: TestHost, state: string): Promise<void> {
  await eventually(`the kernel's part to be ${state}`, async () => {
    const { dns } = (await host.api('GET', '/v1/status')).json() as {
      dns: { kernel: { state: string; why?: string } };
    };
    if (dns.kernel.state === state) return true;
    throw new Error(`${dns.kernel.state}: ${dns.kernel.why}`);
  });
}

for (const kernel of [false, true])
  test(`a name is there when the service is, and gone with it: ${kernel ? 'in the kernel' : 'in user space'}`, async () => {
    await using host = await hostWith({ kernel });
    // Everywhere that VIPs work (dns-kernel.test.ts): nothing here is a reason to do without.
    if (kernel) await kernelIs(host, 'active');
    const [v4, v6] = ['240.7.0.1', 'fd7a:6572:6f68:6f70::7'];
    for (let round = 0; round < 10; round++) {
      const name = `web${round % 2}`;
      const dns = `${name}.zerohop.internal`;
      assert.equal(await rcode(host, dns), 'NXDOMAIN');
      await putService(host, name, { vips: [v4, v6], ports: [{ port: 80 }] });
      assert.deepEqual(await dig(host, dns), [v4]);
      assert.deepEqual(await dig(host, dns, 'AAAA'), [v6]);
      assert.equal((await host.api('DELETE', `/v1/services/${name}`)).status, 200);
      assert.equal(await rcode(host, dns), 'NXDOMAIN');
      assert.equal(await rcode(host, dns, 'AAAA'), 'NXDOMAIN');
    }
  });

test('dig, kdig, drill, glibc, dnspython, Node and Go find the same', async () => {
  await using host = await hostWith();
  await online(host);
  const etc = new Etc(host, `nameserver ${AT}\n`);
  await putService(host, 'web', {
    ports: [{ port: 80, name: 'http' }],
    backends: [1, 2].map((n) => ({ address: `10.9.0.${n}`, port: 8080, weight: n })),
  });
  const name = 'web.zerohop.internal';
  const [v4 = '', v6 = ''] = await vips(host, 'web');
  const run = async (...command: string[]): Promise<string> =>
    (await host.output([...etc.wrapper, ...command])).trim();

  assert.deepEqual(await dig(host, name), [v4]);
  assert.equal(await run('kdig', '+short', `@${AT}`, name), v4);
  assert.equal(await run('kdig', '+short', '+tcp', `@${AT}`, 'AAAA', name), v6);
  assert.equal(await run('drill', '-Q', name, `@${AT}`), v4);

  const hosts = (await run('getent', 'ahosts', name))
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '');
  assert.deepEqual([...new Set(hosts)].toSorted(), [v4, v6].toSorted());
  const info = `import socket; print(sorted({a[4][0] for a in socket.getaddrinfo("${name}", 80)}))`;
  assert.equal(await run(PYTHON, '-c', info), `['${v4}', '${v6}']`);
  assert.deepEqual((await run('getent', 'hosts', v4)).split(/ +/), [v4, name], 'and back');

  const python = `
import dns.resolver, dns.reversename
web = dns.resolver.resolve("${name}", "A")
print(web[0].address, web.rrset.ttl)
found = dns.resolver.resolve("_http._tcp.${name}", "SRV")
rows = []
for srv in found:
    address = dns.resolver.resolve(srv.target, "A")[0].address
    glue = [r[0].address for r in found.response.additional if r.name == srv.target]
    rows.append((srv.priority, srv.weight, srv.port, address, glue == [address]))
print(sorted(rows))
print(dns.resolver.resolve(dns.reversename.from_address("${v6}"), "PTR")[0].target)
print(dns.resolver.zone_for_name("${name}"))
`;
  assert.deepEqual((await run(PYTHON, '-c', python)).split('\n'), [
    `${v4} 5`,
    `[(0, 1, 8080, '10.9.0.1', True), (0, 2, 8080, '10.9.0.2', True)]`,
    `${name}.`,
    'zerohop.internal.',
  ]);

  const node = `
const { Resolver } = require('dns').promises;
const resolver = new Resolver();
resolver.setServers(['${AT}']);
(async () => {
  console.log(await resolver.resolve4('${name}'), await resolver.resolve6('${name}'));
  console.log((await resolver.resolveSrv('_http._tcp.${name}')).map((s) => s.port), await resolver.reverse('${v4}'));
  console.log(await resolver.resolve4('no.${name}').catch((error) => error.code));
})();`;
  assert.deepEqual((await run(process.execPath, '-e', node)).split('\n'), [
    `[ '${v4}' ] [ '${v6}' ]`,
    `[ 8080, 8080 ] [ '${name}' ]`,
    'ENOTFOUND',
  ]);

  const go = await goProgram('clients/dns.go');
  assert.deepEqual((await run(go, name, `no.${name}`)).split('\n'), [
    [v4, v6].toSorted().join(' '),
    'not found',
  ]);
});

test('an answer that is too long for UDP comes by TCP, ours and those of others', async () => {
  await using host = await hostWith({ upstreams: ['127.0.0.70'] });
  const asked = await upstream(host, '127.0.0.70');
  const addresses = Array.from({ length: 100 }, (_, i) => `10.9.0.${i + 1}`);
  await putService(host, 'web', {
    ports: [{ port: 80 }],
    backends: addresses.map((address) => ({ address, port: 80 })),
  });
  const name = 'backends.web.zerohop.internal';
  const cut = await host.output(['dig', '+ignore', '+noedns', `@${AT}`, name]);
  assert.match(cut, /flags: qr aa tc rd ra;/);
  assert.match(cut, /MSG SIZE +rcvd: (4[5-9]\d|50\d|51[0-2])$/m);
  assert.deepEqual(await dig(host, name), addresses.toSorted());
  const [text = ''] = await dig(host, 'big.example', 'TXT');
  assert.equal(text, Array.from({ length: 20 }, () => `"${'x'.repeat(200)}"`).join(' '));
  assert.match(asked.stdout, /^1 tcp TXT big\.example$/m);
});

test("names of others are asked of this host's name servers, whatever these become", async () => {
  await using host = await TestHost.create();
  const etc = new Etc(host, `nameserver ${AT}\nnameserver 127.0.0.71\n`);
  await upstream(host, '127.0.0.70', '127.0.0.71');
  await host.agent.start({ config: host.writeConfig(smallConfig), wrapper: etc.wrapper });
  assert.deepEqual(await dig(host, 'a.example'), ['192.0.2.2']);
  etc.write('resolv.conf', 'nameserver 127.0.0.70\n');
  await eventually('the other server to be asked', async () => {
    const { dns } = (await host.api('GET', '/v1/status')).json() as {
      dns: { upstreams: readonly { address: string }[] };
    };
    return dns.upstreams.map(({ address }) => address).join() === '127.0.0.70:53';
  });
  assert.deepEqual(await dig(host, 'b.example'), ['192.0.2.1']);
});

test('a CNAME of ours to a name of others is answered with its address', async () => {
  await using host = await hostWith({ upstreams: ['127.0.0.70'] });
  await upstream(host, '127.0.0.70');
  const record = { kind: 'record', name: 'www.corp.example', type: 'CNAME', data: ['cdn.example'] };
  assert.equal((await host.api('POST', '/v1/apply', { documents: [record] })).status, 200);
  assert.deepEqual(await dig(host, 'www.corp.example'), ['192.0.2.1', 'cdn.example.']);
  assert.deepEqual(await dig(host, '+norecurse', 'www.corp.example'), ['cdn.example.']);
});

test('a CNAME of others to a service is answered with its VIP, as it is now', async () => {
  await using host = await hostWith({ upstreams: ['127.0.0.70'] });
  await upstream(host, '127.0.0.70');
  const name = 'web.zerohop.internal.at.example';
  assert.equal(await rcode(host, name), 'NXDOMAIN');
  for (let i = 0; i < 2; i++) {
    await putService(host, 'web', { ports: [{ port: 80 }] });
    const [v4 = ''] = (await vips(host, 'web')).filter((vip) => !vip.includes(':'));
    assert.deepEqual(await dig(host, name), [v4, 'web.zerohop.internal.']);
    assert.deepEqual(await dig(host, '+tcp', name), [v4, 'web.zerohop.internal.']);
    await host.must('service', 'rm', 'web');
    assert.equal(await rcode(host, name), 'NXDOMAIN');
  }
});

test('with dns.order strict the first server is asked as long as it is there, and query says who was', async () => {
  await using host = await hostWith({ upstreams: ['127.0.0.70', '127.0.0.71'], order: 'strict' });
  const first = await upstream(host, '127.0.0.70');
  // The second one of its own, so that its answers are others.
  await upstream(host, '127.0.0.72', '127.0.0.71');
  const asked = async (name: string): Promise<string[]> => {
    const { stdout } = await host.must('dns', 'query', name);
    return [...stdout.matchAll(/;; asked (\S+):53|A\s+(192\.0\.2\.\d)$/gm)].map(
      ([, server, address]) => server ?? address ?? '',
    );
  };
  for (let i = 0; i < 10; i++)
    assert.deepEqual((await asked(`n${i}.example`)).toSorted(), ['127.0.0.70', '192.0.2.1']);
  first.kill();
  await first.exited;
  const after = (await asked('after.example')).toSorted();
  assert.deepEqual(after, ['127.0.0.70', '127.0.0.71', '192.0.2.2']);
});

test('an address that another program has is told of with its name, and taken when it is free', async () => {
  await using host = await TestHost.create();
  const script = `
import socket, sys
taken = socket.create_server(("${AT}", 53))
print("taken", flush=True)
sys.stdin.read()
`;
  const other = host.spawn([PYTHON, '-c', script]);
  await other.says(/taken/);
  await host.agent.start({ config: host.writeConfig(smallConfig) });
  const listeners = async (): Promise<readonly { listening: boolean; problem?: string }[]> => {
    const answer = await host.api('GET', '/v1/status');
    const { dns } = answer.json() as {
      dns: { listeners: readonly { listening: boolean; problem?: string }[] };
    };
    return dns.listeners;
  };
  const [first] = await listeners();
  assert.equal(first?.listening, false);
  assert.match(
    first?.problem ?? '',
    new RegExp(`^TCP ${AT}:53 is taken by python3\\S* \\(pid ${other.pid}\\): stop it`),
  );
  other.endInput();
  await other.exited;
  await eventually('it to listen', async () => (await listeners())[0]?.listening, {
    timeoutMs: 15_000,
  });
  assert.equal(await rcode(host, '+tcp', 'ready.zerohop.internal'), 'NOERROR');
});

test('installed: names of others are found while the agent is dead, and ours again when it is back', async () => {
  await using host = await TestHost.create();
  await online(host);
  await upstream(host, '127.0.0.70');
  const before = '# by hand\nnameserver 127.0.0.70\n';
  const etc = new Etc(host, before);
  const start = async (): Promise<void> =>
    await host.agent.start({ config: host.writeConfig(smallConfig), wrapper: etc.wrapper });
  const zerohop = async (...words: string[]): Promise<string> =>
    await host.output([...etc.wrapper, host.bin, ...words]);
  const found = async (name: string): Promise<string> =>
    (await host.exec([...etc.wrapper, 'getent', 'ahostsv4', name])).stdout.split(' ')[0] ?? '';
  await start();
  await host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.9');
  assert.equal(await found('web.zerohop.internal'), '192.0.2.1', 'as others have it');
  await zerohop('dns', 'install');
  assert.match(etc.read('resolv.conf'), /^nameserver 127\.0\.0\.55$/m);
  assert.equal(await found('web.zerohop.internal'), '240.0.0.9');
  assert.equal(await found('a.example'), '192.0.2.1');

  await host.agent.kill('SIGKILL');
  assert.equal(await found('b.example'), '192.0.2.1', 'while it is dead');
  await start();
  assert.equal(await found('web.zerohop.internal'), '240.0.0.9');
  assert.equal(await found('c.example'), '192.0.2.1', 'and it asks the servers that were there');

  await host.agent.stop();
  assert.equal(await found('d.example'), '192.0.2.1', 'while it is stopped');
  await zerohop('dns', 'uninstall');
  assert.equal(etc.read('resolv.conf'), before);
});

test('who is of another host gets our names and no others, unless it is allowed', async () => {
  const upstreams = ['127.0.0.70'];
  const listen = ['127.0.0.55', '0.0.0.0'];
  await using cluster = await TestCluster.create(2);
  const [one, two] = [cluster.host(0), cluster.host(1)];
  await upstream(one, '127.0.0.70');
  const at = `@${cluster.addressOf(0)}`;
  const start = async (dns: object): Promise<void> => {
    await one.agent.start({ config: one.writeConfig({ ...smallConfig, dns }) });
  };
  await start({ upstreams, listen });
  await putService(one, 'web', { vips: ['240.0.0.9'], ports: [{ port: 80 }] });
  assert.deepEqual(await dig(two, at, 'web.zerohop.internal'), ['240.0.0.9']);
  assert.equal(await rcode(two, at, 'a.example'), 'REFUSED');
  assert.equal(await rcode(two, at, '+tcp', 'a.example'), 'REFUSED');
  assert.deepEqual(await dig(one, at, 'a.example'), ['192.0.2.1'], 'its own addresses are local');
  await one.agent.stop();
  await start({ upstreams, listen, allow: [`${cluster.addressOf(1)}/32`] });
  assert.deepEqual(await dig(two, at, 'a.example'), ['192.0.2.1']);
});

test('in a cluster: a service added on one host resolves on all, and a host that is cut off answers what it knows', async () => {
  await using cluster = await TestCluster.formed(3);
  await serveOn(cluster, 1);
  const vip = await addService(cluster, 0, 'web', [1]);
  const name = 'web.zerohop.internal';
  const resolves = async (of: string, wanted: readonly string[], places?: readonly number[]) =>
    await cluster.settled(
      `to resolve ${of} to ${wanted.join(' ')}`,
      async (host) => {
        const found = (await dig(host, of)).join(' ');
        if (found === wanted.join(' ')) return true;
        throw new Error(`it is ${found}`);
      },
      places === undefined ? cluster.living : [...places],
    );
  await resolves(name, [vip]);
  for (const at of cluster.places)
    await resolves(`${cluster.nameOf(at)}.node.zerohop.internal`, [cluster.addressOf(at)]);
  await resolves(`backends.${name}`, [cluster.addressOf(1)]);

  await cluster.cut(2);
  await putService(cluster.host(0), 'new', { vips: ['240.0.0.9'], ports: [{ port: 80 }] });
  await resolves('new.zerohop.internal', ['240.0.0.9'], [0, 1]);
  assert.deepEqual(await dig(cluster.host(2), name), [vip]);
  assert.equal(await rcode(cluster.host(2), 'new.zerohop.internal'), 'NXDOMAIN');
  await resolves('h3.node.zerohop.internal', [], [0, 1]);
  await resolves('h3.node.zerohop.internal', [cluster.addressOf(2)], [2]);
  await cluster.heal();
  await resolves('new.zerohop.internal', ['240.0.0.9']);
  await resolves('h3.node.zerohop.internal', [cluster.addressOf(2)]);
});
