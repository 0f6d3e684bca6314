/** Names answered in the kernel, on a host with a server of its own and no agent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ask,
  askAll,
  checksumsCount,
  dropIncoming,
  dropNothing,
  KernelServer as Server,
  LOOPBACKS,
  pathOf,
  says,
  toldOf,
  web,
  WEB,
  webIs,
  words,
  type Seen,
} from '../harness/dns-kernel.ts';
import { eventually, patience } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { testSeed } from '../harness/random.ts';
import { question, type Words } from '../unit/dns/zones.ts';
import type { DnsStatusAnswer } from '../../src/api/dns-schemas.ts';

/** Questions; an emulated machine has less time. */
const COUNT = 100_000 / patience;

test(`the kernel and user space answer ${COUNT.toLocaleString('en')} questions alike`, async (t) => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await server.obeys({ do: 'everything' });
  const seed = testSeed(t);
  for (const [i, checksums] of ['left to hardware', 'written and read'].entries()) {
    if (i === 1) await checksumsCount(host);
    const order = { do: 'alike', count: COUNT / 2, seed: seed + i } as const;
    const seen = await server.obeys(order, 120_000);
    const { different, answered, silent, plain, answered4, answered6, unknown, unfit } = seen;
    t.diagnostic(`checksums ${checksums}: ${JSON.stringify({ ...seen, different: undefined })}`);
    assert.deepEqual(different, []);
    assert.equal(answered + silent, COUNT / 2);
    assert.equal(answered4 + answered6, plain, 'what the kernel shall answer, it does');
    // Each question was seen on the link, and all four outcomes are well covered.
    assert.equal(answered4 + answered6 + unknown + unfit, COUNT / 2);
    for (const count of [answered4, answered6, unknown, unfit])
      assert.ok(count > COUNT / 100, `${count}`);
  }
});

test('clients hear the address that they asked, connected or not; what the kernel does not know reaches the server', async () => {
  await using host = await TestHost.create();
  const { server, first } = await Server.start(host);
  assert.equal(first.state, 'active');
  await server.zone(web);
  const before = await server.status();
  for (const at of [...LOOPBACKS, '::ffff:127.0.0.55']) {
    for (const how of ['connected', 'unconnected'] as const) {
      const place = `${at} 53`;
      const peer = how === 'connected' ? { peer: place } : {};
      const known = await ask(host, 'WEB.zerohop.Internal', 'A', { at, how });
      assert.deepEqual(known, { answer: known.answer, from: place, ...peer });
      const answers = [`WEB.zerohop.Internal 5 A 240.0.0.1`];
      says(known, { answers, rcode: 'NOERROR' });
      const unknown = await ask(host, `nope.${WEB}`, 'A', { at, how, edns: 1232 });
      assert.deepEqual(unknown, { answer: unknown.answer, from: place, ...peer });
      says(unknown, { answers: [], rcode: 'NXDOMAIN' });
    }
  }
  const { answered4, answered6, asked } = await server.status();
  assert.deepEqual(
    [answered4 - before.answered4, answered6 - before.answered6, asked - before.asked],
    [4, 2, 6],
  );
});

test('what is added, changed and removed is so when apply() returns', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await server.zone({});
  const names = [WEB];
  const changeTo = async (vips: readonly string[] | undefined): Promise<Seen> => {
    const services: Words['services'] = vips === undefined ? {} : { web: { vips } };
    return await server.obeys({ do: 'change', words: { services }, names });
  };
  assert.equal((await changeTo(['240.0.0.1'])).entries, 1);
  says(await ask(host, WEB), webIs);
  await changeTo(['240.0.0.2']);
  says(await ask(host, WEB), { answers: [`${WEB} 5 A 240.0.0.2`], rcode: 'NOERROR' });
  const { answered4, asked } = await server.status();
  assert.equal((await changeTo(undefined)).entries, 0);
  says(await ask(host, WEB), { answers: [], rcode: 'NXDOMAIN' });
  const after = await server.status();
  assert.deepEqual([after.answered4, after.asked], [answered4, asked + 1]);
});

test('records of one name are given in turn, each of them first about as often', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  const vips = ['240.0.0.1', '240.0.0.2', '240.0.0.3'];
  await server.zone({ services: { web: { vips } } });
  const firsts = new Map<string, number>();
  for (const heard of await askAll(host, WEB, 'A', { times: 300 })) {
    const answers = toldOf(heard).answers.map((text) => text.split(' ').at(-1) ?? '');
    assert.deepEqual(answers.toSorted(), vips);
    firsts.set(answers[0] ?? '', (firsts.get(answers[0] ?? '') ?? 0) + 1);
  }
  assert.equal((await server.status()).answered4, 300);
  // Of 300 fair draws among three, less than 50 of one have a chance of 10^-10.
  for (const vip of vips) assert.ok((firsts.get(vip) ?? 0) > 50, JSON.stringify([...firsts]));
});

test('only UDP to the resolver goes over the link: not TCP, other servers, bound sockets, other namespaces', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await server.zone(web);
  const before = await server.status();
  const script = `
import socket, threading
tcp = socket.create_server(('127.0.0.55', 53))
def serve():
    c, _ = tcp.accept()
    c.sendall(c.recv(9))
threading.Thread(target=serve).start()
c = socket.create_connection(('127.0.0.55', 53))
c.sendall(b'tcp'); print(c.recv(9).decode())
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); other.bind(('127.0.0.56', 53))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('127.0.0.56', 53)); u.send(b'udp')
print(other.recv(9).decode())`;
  assert.equal(await host.output(['python3', '-c', script]), 'tcp\nudp\n');
  const bound = await ask(host, WEB, 'A', { bind: '127.0.0.1', how: 'unconnected' });
  says(bound, webIs);
  assert.equal(bound.from, '127.0.0.55 53');
  // The same cgroup, so the same hooks; nobody listens there.
  const elsewhere = await host.output([
    'unshare',
    '--net',
    'sh',
    '-c',
    'ip link set lo up && exec "$@"',
    'sh',
    ...words(WEB, 'A', {}),
  ]);
  assert.deepEqual(JSON.parse(elsewhere), [{ error: 'ECONNREFUSED' }]);
  const { asked, ...after } = await server.status();
  assert.deepEqual({ ...after, asked: before.asked }, before);
  assert.equal(asked, before.asked + 1, 'the bound socket asked the server over lo');
});

test('killed, known names are answered and others REFUSED; the next one takes over, and closing leaves nothing', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await server.zone(web);
  server.child.kill();
  await server.child.result();
  for (const at of LOOPBACKS) {
    says(await ask(host, WEB, 'A', { at }), webIs);
    says(await ask(host, `x.${WEB}`, 'A', { at }), { answers: [], rcode: 'REFUSED' });
  }
  const next = await Server.start(host);
  assert.equal(next.first.state, 'active');
  // Its zone is empty: nothing of the old table is answered any more.
  says(await ask(host, WEB), { answers: [], rcode: 'NXDOMAIN' });
  await next.server.zone(web);
  says(await ask(host, WEB), webIs);
  const link = await host.ip('-o', 'link', 'show', 'zerohop0');
  assert.match(link, /alias zerohop dns/);
  await next.server.obeys({ do: 'close' });
  const { asked } = await next.server.status();
  says(await ask(host, WEB), webIs);
  assert.equal((await next.server.status()).asked, asked + 1, 'the server answered');
  assert.doesNotMatch(await host.ip('-o', 'link'), /zerohop/);
  assert.equal(await host.output(['find', host.pinDir, '-type', 'f']), '');
});

test('behind a firewall answers come in over lo, or clients stay with the server; a link that was taken away is made anew', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await server.zone(web);
  await dropIncoming(host, 'iifname zerohop0');
  assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  const { answered4 } = await server.status();
  says(await ask(host, WEB), webIs);
  assert.equal((await server.status()).answered4, answered4 + 1);
  says(await ask(host, `x.${WEB}`), { answers: [], rcode: 'NXDOMAIN' });
  await dropIncoming(host, 'ip saddr 127.53.53.55');
  const closed = await server.obeys({ do: 'check' });
  assert.equal(closed.state, 'active', 'over IPv6');
  assert.match(closed.why ?? '', /^not over IPv4: queries do not get .* firewall/);
  says(await ask(host, WEB), webIs);
  assert.equal((await server.status()).answered4, answered4 + 1, 'the server answered');
  await dropNothing(host);
  assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  await host.ip('link', 'delete', 'zerohop0');
  assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  says(await ask(host, WEB), webIs);
  assert.equal((await server.status()).answered4, answered4 + 2);
  for (const words_ of [
    ['link', 'set', 'zerohop0', 'down'],
    ['address', 'flush', 'dev', 'zerohop0'],
  ]) {
    await host.ip(...words_);
    assert.equal((await server.obeys({ do: 'check' })).state, 'unavailable');
    assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  }
  says(await ask(host, WEB), webIs);
  assert.equal((await server.status()).answered4, answered4 + 3);
});

test('IPv6 that goes away or comes takes nothing from IPv4, and is answered in the kernel when it is there', async () => {
  for (const isThere of [true, false]) {
    await using host = await TestHost.create();
    const ipv6 = async (value: boolean): Promise<void> => {
      const off = `net.ipv6.conf.all.disable_ipv6=${Number(!value)}`;
      await host.output(['sysctl', '-q', '-w', off]);
    };
    await ipv6(isThere);
    const { server, first } = await Server.start(host);
    const without = { state: 'active', why: 'not over IPv6: this host has no IPv6' };
    const tell = ({ state, why }: Seen): Partial<Seen> => ({ state, ...(why && { why }) });
    assert.deepEqual(tell(first), isThere ? { state: 'active' } : without);
    await server.zone(web);
    for (const is of isThere ? [false, true] : [true, false, true]) {
      await ipv6(is);
      const seen = await server.obeys({ do: 'check' });
      assert.deepEqual(tell(seen), is ? { state: 'active' } : without);
      const before = await server.status();
      for (const at of is ? LOOPBACKS : ['127.0.0.55']) {
        says(await ask(host, WEB, 'A', { at }), webIs);
        // The server is at this end too.
        says(await ask(host, `x.${WEB}`, 'A', { at }), { answers: [], rcode: 'NXDOMAIN' });
      }
      const { answered4, answered6, asked } = await server.status();
      const count = is ? 2 : 1;
      assert.deepEqual(
        [answered4 - before.answered4, answered6 - before.answered6, asked - before.asked],
        [1, count - 1, count],
      );
    }
  }
});

test('closing ends a look that still waits for an answer', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host);
  await dropIncoming(host, 'ip saddr 127.53.53.55');
  assert.deepEqual(await server.obeys({ do: 'interrupt' }), { check: 'ended' });
});

test('routes that rules choose for some sockets take no query away', async () => {
  await using host = await TestHost.create();
  await host.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
  for (const end of ['eth0', 'eth1']) await host.ip('link', 'set', end, 'up');
  await host.ip('address', 'add', '10.88.0.1/24', 'dev', 'eth0');
  await host.ip('address', 'add', 'fd88::1/64', 'dev', 'eth0', 'nodad');
  for (const family of ['-4', '-6']) {
    await host.ip(family, 'route', 'add', 'default', 'dev', 'eth0', 'table', '100');
    await host.ip(family, 'rule', 'add', 'fwmark', '1', 'lookup', '100');
  }
  const { server } = await Server.start(host);
  await server.zone(web);
  const asked = Buffer.from(question(WEB, 'A')).toString('hex');
  for (const [family, at] of [
    ['AF_INET', '127.0.0.55'],
    ['AF_INET6', '::1'],
  ] as const) {
    const script = `
import socket
s = socket.socket(socket.${family}, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 36, 1) # SO_MARK
s.settimeout(5)
s.connect(('${at}', 53)); s.send(bytes.fromhex('${asked}'))
print(s.recv(512).hex())`;
    says({ answer: (await host.output(['python3', '-c', script])).trim() }, webIs);
  }
});

test("another program's clients stay with it, of each family by itself", async () => {
  await using host = await TestHost.create();
  const script = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.55', 53))
print('taken', flush=True)
while True:
    q, client = s.recvfrom(512)
    s.sendto(q[:2] + b'other', client)`;
  const other = host.spawn(['python3', '-c', script]);
  await other.says(/taken/);
  for (const [listen, state] of [
    [['127.0.0.55'], 'unavailable'],
    [LOOPBACKS, 'active'],
  ] as const) {
    const { server, first } = await Server.start(host, { listen });
    const missing = 'the agent does not listen at 127.0.0.55:53';
    const why = state === 'active' ? `not over IPv4: ${missing}` : missing;
    assert.deepEqual([first.state, first.why], [state, why]);
    await server.zone(web);
    const heard = await ask(host, WEB);
    assert.match(heard.answer ?? `${heard.error}`, /^....6f74686572$/);
    if (state === 'active') says(await ask(host, WEB, 'A', { at: '::1' }), webIs);
    assert.equal((await server.status()).answered4, 0);
    await server.obeys({ do: 'close' });
    server.child.kill();
    await server.child.result();
  }
});

test('what has no room in the table is answered by the server, and told', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host, { entries: 2 });
  const names = ['web', 'b', 'c'];
  const vip = (i: number): string => `240.0.0.${i + 1}`;
  const services = Object.fromEntries(names.map((name, i) => [name, { vips: [vip(i)] }]));
  const seen = await server.zone({ services });
  assert.deepEqual([seen.entries, seen.left], [2, 1]);
  for (const [i, name] of names.entries()) {
    const full = `${name}.zerohop.internal`;
    says(await ask(host, full), { answers: [`${full} 5 A ${vip(i)}`], rcode: 'NOERROR' });
  }
  assert.equal((await server.status()).answered4, 2);
});

test('a table that cannot be written ends answers in the kernel; what was counted stays', async () => {
  await using host = await TestHost.create();
  const { server } = await Server.start(host, { entries: 2 });
  await server.zone(web);
  says(await ask(host, WEB), webIs);
  const { answered4, others } = await server.status();
  assert.ok(answered4 === 1 && others > 0, `${answered4} ${others}`);
  await server.zone({});
  for (let i = 0; i < 2; i++) await server.obeys({ do: 'fill' });
  const { state, why } = await server.zone(web);
  assert.equal(state, 'unavailable');
  assert.match(why ?? '', /^its table could not be written: /);
  const after = await server.status();
  assert.equal(after.answered4, 1);
  says(await ask(host, WEB), webIs);
  assert.deepEqual(await server.status(), { ...after, asked: after.asked + 1 });
});

test('every address of the host is not that of a link that was left', async () => {
  await using host = await TestHost.create();
  await host.ip('link', 'add', 'zerohop0', 'type', 'veth', 'peer', 'name', 'zerohop0-far');
  for (const end of ['zerohop0', 'zerohop0-far'])
    await host.ip('link', 'set', end, 'up', 'addrgenmode', 'none');
  await host.ip('address', 'add', '127.53.53.54/31', 'dev', 'zerohop0');
  await host.ip('address', 'add', 'fd53::36/127', 'dev', 'zerohop0', 'nodad');
  const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const script = `
const { DnsServer } = await import(${url('../../src/dns/io/server.ts')});
const listen = ['127.0.0.55', '0.0.0.0', '::'].map((host) => ({ host, port: 53 }));
const log = { info() {}, warn() {}, error() {} };
const server = new DnsServer({ listen, answer: () => Promise.resolve(undefined), log });
const addresses = () => server.status().map(({ address }) => address);
await server.start();
const before = addresses();
await server.also([{ host: '127.53.53.54', port: 53 }]);
console.log(JSON.stringify([before, addresses(), server.hasUdp({ host: '127.53.53.54', port: 53 })]));
await server.close();`;
  const own = ['127.0.0.55:53', '127.0.0.1:53', '[::1]:53'];
  const out = await host.output([process.execPath, '--input-type=module', '-e', script]);
  assert.deepEqual(JSON.parse(out), [own, own, true]);
});

test('where it cannot be, it says why, and leaves nothing', async () => {
  await using host = await TestHost.create();
  const far = await Server.start(host, { listen: ['192.0.2.1'] });
  assert.deepEqual(far.first, {
    unavailable: 'dns.listen has no loopback address that local clients ask',
  });
  await host.ip('link', 'add', 'zerohop0', 'type', 'veth');
  await host.ip('link', 'set', 'zerohop0', 'alias', 'mine');
  const taken = await Server.start(host);
  assert.deepEqual(taken.first, {
    unavailable: 'there is another interface called zerohop0 ("mine")',
  });
  assert.match(await host.ip('-o', 'link'), /zerohop0/);
  await host.ip('link', 'delete', 'zerohop0');
  // Not in the cgroup: then nobody can tell it its namespace.
  const program = [process.execPath, pathOf('servers/kernel-dns.ts')];
  const sub = `${host.cgroup}/sub`;
  const outside = host.spawn([
    'sh',
    '-c',
    'mkdir "$0" && exec "$@"',
    sub,
    ...program,
    sub,
    host.pinDir,
    '9',
    '127.0.0.55',
  ]);
  await outside.says(/the agent is not in the cgroup/);
  outside.kill();
});

test('with an agent: a service resolves in the kernel when its command returns, maps and metrics tell, detach takes it away', async () => {
  await using host = await TestHost.create();
  const dns = { upstreams: ['192.0.2.1'], timeoutMs: 100 };
  await host.agent.start({ config: host.writeConfig({ dns }) });
  const status = async (): Promise<DnsStatusAnswer> =>
    (await host.api('GET', '/v1/dns/status')).json() as DnsStatusAnswer;
  await eventually('the kernel answers', async () => (await status()).kernel.state === 'active');
  const doctor = async (): Promise<string | undefined> =>
    /^DNS in the kernel +(.*)$/m.exec(
      (await host.must('doctor', '--cgroup', host.cgroup)).stdout,
    )?.[1];
  assert.equal(await doctor(), 'active: clients over IPv4 are led there');
  await host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.1');
  says(await ask(host, WEB), webIs);
  const rows = (await host.must('maps', 'dump', 'zh_dns_names', '--json')).json();
  const { entries } = rows as { readonly entries: readonly { readonly name: string }[] };
  const own = entries.filter(({ name }) => name === WEB);
  assert.deepEqual(own, [{ name: WEB, type: 'A', ttl: 5, data: '240.0.0.1', inTurn: false }]);
  const { counters } = await status();
  assert.deepEqual([counters.requests, counters.from], [1, { kernel: 1 }]);
  await host.must('service', 'rm', 'web');
  says(await ask(host, WEB), { answers: [], rcode: 'NXDOMAIN' });
  await host.agent.kill();
  assert.match(await host.ip('-o', 'link'), /zerohop0/);
  await host.must('detach');
  assert.equal(await doctor(), 'possible; no agent has put it in place');
  assert.doesNotMatch(await host.ip('-o', 'link'), /zerohop0/);
});

test('with an agent: of many changes at once the kernel says nothing old, and has them a little later', async () => {
  await using host = await TestHost.create();
  const dns = { upstreams: ['192.0.2.1'], timeoutMs: 100 };
  await host.agent.start({ config: host.writeConfig({ dns }) });
  const kernel = async (): Promise<DnsStatusAnswer['kernel']> =>
    ((await host.api('GET', '/v1/dns/status')).json() as DnsStatusAnswer).kernel;
  await eventually('the kernel answers', async () => (await kernel()).state === 'active');
  const others = (await kernel()).entries;
  const SERVICES = 4000;
  const vip = (n: number, block: number): string => `240.${block}.${n >> 8}.${n & 255}`;
  const all = async (block: number): Promise<void> => {
    const documents = Array.from({ length: SERVICES }, (_, n) => ({
      kind: 'service',
      name: `s${n}`,
      vips: [vip(n, block)],
      ports: [{ port: 80 }],
    }));
    const { status, text } = await host.api('POST', '/v1/apply', { documents });
    assert.equal(status, 200, text);
  };
  // The last ones first: the kernel has them last.
  const asked = Array.from({ length: 8 }, (_, n) => SERVICES - 1 - n * 499);
  const saysAll = async (block: number): Promise<void> => {
    for (const n of asked) {
      const name = `s${n}.zerohop.internal`;
      says(await ask(host, name), { answers: [`${name} 5 A ${vip(n, block)}`], rcode: 'NOERROR' });
    }
  };
  const filled = async (): Promise<unknown> =>
    await eventually(
      'the kernel has all',
      async () => (await kernel()).entries >= others + SERVICES,
    );
  for (const block of [1, 2, 3]) {
    await all(block);
    await saysAll(block);
    if (block < 3) await filled();
  }
  await host.must('service', 'rm', `s${asked[5]}`);
  says(await ask(host, `s${asked[5]}.zerohop.internal`), { answers: [], rcode: 'NXDOMAIN' });
});

test('with an agent: IPv6 that comes when it runs is answered in the kernel too', async () => {
  await using host = await TestHost.create();
  const ipv6 = async (value: boolean): Promise<void> => {
    const off = `net.ipv6.conf.all.disable_ipv6=${Number(!value)}`;
    await host.output(['sysctl', '-q', '-w', off]);
  };
  await ipv6(false);
  const listen = LOOPBACKS.map((at) => (at.includes(':') ? `[${at}]:53` : `${at}:53`));
  const dns = { listen, upstreams: ['192.0.2.1'], timeoutMs: 100 };
  await host.agent.start({ config: host.writeConfig({ dns }) });
  const kernel = async (why: string | undefined): Promise<void> => {
    const isSo = async (): Promise<boolean> => {
      const status = (await host.api('GET', '/v1/dns/status')).json() as DnsStatusAnswer;
      return status.kernel.state === 'active' && status.kernel.why === why;
    };
    // It looks every 5 s.
    await eventually(`the kernel answers, but ${why}`, isSo, { timeoutMs: 30_000 });
  };
  await kernel('not over IPv6: this host has no IPv6');
  await ipv6(true);
  await kernel(undefined);
  await host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.1');
  for (const at of LOOPBACKS) says(await ask(host, WEB, 'A', { at }), webIs);
  const rows = (await host.must('maps', 'dump', 'zh_dns_counts', '--json')).json();
  const [{ answered4, answered6 }] = (rows as { entries: [Seen] }).entries;
  assert.deepEqual([answered4, answered6], [1, 1]);
});
