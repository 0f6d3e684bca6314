/** Who must not get at names answered in the kernel, and what must never be in an answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Child } from '../harness/child.ts';
import {
  ask,
  dropIncoming,
  KernelServer,
  pathOf,
  says,
  web,
  WEB,
  webIs,
} from '../harness/dns-kernel.ts';
import { patience } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { question } from '../unit/dns/zones.ts';
import { DNS_LINK_HERE as HERE, DNS_LINK_THERE as THERE } from '../../src/net/own-link.ts';

/** Source, port, target, port, payload in hexadecimal. */
type Datagram = readonly [string, number, string, number, string];

const HOST = '192.0.2.1';
const NEIGHBOUR = '192.0.2.2';

/** A host and its neighbour on one wire. What the host does against forged addresses is off. */
class Wire {
  readonly host: TestHost;
  readonly #neighbour: TestHost;
  readonly #mac: string;

  private constructor(host: TestHost, neighbour: TestHost, mac: string) {
    this.host = host;
    this.#neighbour = neighbour;
    this.#mac = mac;
  }

  static async lay(host: TestHost, neighbour: TestHost): Promise<Wire> {
    const veth = ['eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', neighbour.name];
    await host.ip('link', 'add', ...veth);
    for (const [one, address] of [
      [host, HOST],
      [neighbour, NEIGHBOUR],
    ] as const) {
      await one.ip('address', 'add', `${address}/24`, 'dev', 'eth0');
      await one.ip('link', 'set', 'eth0', 'up');
    }
    const [, mac = ''] = /link\/ether (\S+)/.exec(await host.ip('link', 'show', 'eth0')) ?? [];
    const wire = new Wire(host, neighbour, mac);
    await wire.set('ip_forward', 1);
    await wire.set('conf.all.rp_filter', 0);
    await wire.set('conf.eth0.accept_local', 1);
    return wire;
  }

  async set(name: string, value: number): Promise<void> {
    await this.host.output(['sysctl', '-q', '-w', `net.ipv4.${name}=${value}`]);
  }

  /** What the neighbour hears, until the last is answered; nothing is awaited if `isAnswered` is false. */
  async send(datagrams: readonly Datagram[], isAnswered: boolean): Promise<readonly Datagram[]> {
    const program = ['python3', pathOf('attacks/dns-neighbour.py'), 'eth0', this.#mac];
    const wait = isAnswered ? 5 * patience : 0;
    const args = [String(wait), JSON.stringify(datagrams)];
    return JSON.parse(await this.#neighbour.output([...program, ...args])) as Datagram[];
  }
}

const query = Buffer.from(question(WEB, 'A')).toString('hex');
/** With this dropped, answers come in on lo. */
const CLOSING = 'iifname zerohop0';

const forged = (text: string): string => Buffer.from(text).toString('hex');

interface Sockets {
  readonly free: number;
  readonly connected: number;
  /** The connected one's own address: it tells whether the link is between. */
  readonly own: string;
}

/** Two sockets that the resolver has answered, one of them connected to it. */
class Victim {
  readonly #child: Child;
  readonly #sockets: Sockets;

  private constructor(child: Child, sockets: Sockets) {
    this.#child = child;
    this.#sockets = sockets;
  }

  get own(): string {
    return this.#sockets.own;
  }

  static async start(host: TestHost): Promise<Victim> {
    // One that the kernel answers, one that the server does.
    const unknown = Buffer.from(question(`x.${WEB}`, 'A')).toString('hex');
    const child = host.spawn(['python3', pathOf('attacks/dns-victim.py'), query, unknown]);
    const [line = ''] = await child.says(/\{.*\}/);
    const { from, ...sockets } = JSON.parse(line) as Sockets & { readonly from: string };
    assert.equal(from, '127.0.0.55 53');
    return new Victim(child, sockets);
  }

  /** What it hears of answers that the neighbour sends in every name. */
  async attacked(wire: Wire): Promise<readonly (readonly [what: string, from: string])[]> {
    const { free, connected } = this.#sockets;
    const answers = [THERE, HERE, '127.0.0.55', '127.0.0.1'].flatMap((source) =>
      [HERE, THERE, HOST, '127.0.0.1'].flatMap((target) =>
        [free, connected].map((port): Datagram => {
          return [source, 53, target, port, forged(`${source} to ${target}`)];
        }),
      ),
    );
    const last: Datagram = [NEIGHBOUR, 53, HOST, free, forged('control')];
    await wire.send([...answers, last], false);
    this.#child.say('\n');
    const [, got = ''] = await this.#child.says(/\n(\[.*\])\n/);
    return JSON.parse(got) as [string, string][];
  }
}

/** rp_filter 0: nothing is compared. 2: any interface that leads to the source will do (systemd's default). */
for (const [rpFilter, ingress] of [
  [0, 'zerohop0'],
  [2, 'zerohop0'],
  [2, 'lo'],
] as const) {
  test(`a neighbour reaches neither end of the link, and answers nobody in its name (rp_filter ${rpFilter}, answers on ${ingress})`, async () => {
    await using host = await TestHost.create();
    await using neighbour = await TestHost.create();
    const wire = await Wire.lay(host, neighbour);
    await wire.set('conf.eth0.rp_filter', rpFilter);
    if (ingress === 'lo') await dropIncoming(host, CLOSING);
    const { server, first } = await KernelServer.start(host, { listen: ['127.0.0.55', HOST] });
    assert.equal(first.state, 'active');
    await server.zone(web);

    const victim = await Victim.start(host);
    assert.equal(victim.own, HERE);
    const before = await server.status();

    const sources = [NEIGHBOUR, '198.51.100.1', '127.0.0.1', HERE, THERE];
    const queries = sources.flatMap((source, i) =>
      [HERE, THERE].map((target): Datagram => [source, 4000 + i, target, 53, query]),
    );
    const control: Datagram = [NEIGHBOUR, 5000, HOST, 53, query];
    const heard = await wire.send([...queries, control], true);
    assert.deepEqual(
      heard.map((one) => one.slice(0, 4)),
      [[HOST, 53, NEIGHBOUR, 5000]],
    );

    assert.deepEqual(await victim.attacked(wire), [['control', `${NEIGHBOUR} 53`]]);
    const after = await server.status();
    assert.deepEqual(after, { ...before, asked: before.asked + 1 }, 'nothing came by the link');
  });
}

test('where one interface routes loopback addresses, a neighbour behind it answers nobody in the name of the link', async () => {
  await using host = await TestHost.create();
  await using neighbour = await TestHost.create();
  const wire = await Wire.lay(host, neighbour);
  // With these nobody passes who forges an address of the host. The far end of the link is none.
  await wire.set('conf.eth0.rp_filter', 2);
  await wire.set('conf.eth0.accept_local', 0);
  const { server } = await KernelServer.start(host);
  await server.zone(web);
  await wire.set('conf.eth0.route_localnet', 1);
  await server.obeys({ do: 'check' });
  const victim = await Victim.start(host);
  assert.equal(victim.own, '127.0.0.1', 'asked over lo');
  const heard = await victim.attacked(wire);
  // What comes from there is not shown as from the resolver.
  const others = [`${NEIGHBOUR} 53`, `${THERE} 53`];
  assert.deepEqual([...new Set(heard.map(([, from]) => from))].toSorted(), others.toSorted());
});

test('what opens loopback addresses to neighbours ends answers in the kernel, and they come back', async () => {
  await using host = await TestHost.create();
  await host.ip('link', 'add', 'eth0.5', 'type', 'veth', 'peer', 'name', 'eth1');
  const doctor = async (): Promise<string | undefined> =>
    /^DNS in the kernel +(.*)$/m.exec(
      (await host.zerohop('doctor', '--cgroup', host.cgroup)).stdout,
    )?.[1];
  for (const name of ['all', 'eth0/5']) {
    const setting = `net.ipv4.conf.${name}.route_localnet`;
    const set = async (value: number): Promise<void> => {
      await host.output(['sysctl', '-q', '-w', `${setting}=${value}`]);
    };
    await set(1);
    const { first: none } = await KernelServer.start(host);
    const why = none.unavailable?.replace(' (looked at again when the agent starts)', '') ?? '';
    assert.ok(why.startsWith(`${setting} is not 0: `), why);
    assert.equal(await doctor(), `no: ${why}`);
    await set(0);
    const { server } = await KernelServer.start(host);
    await server.zone(web);
    await set(1);
    const { state, why: told } = await server.obeys({ do: 'check' });
    assert.deepEqual([state, told], ['unavailable', why]);
    assert.equal(await doctor(), `in place, but nobody is led there: ${why}`);
    const { answered4 } = await server.status();
    says(await ask(host, WEB), webIs);
    assert.equal((await server.status()).answered4, answered4, 'the server answered');
    await set(0);
    assert.equal((await server.obeys({ do: 'check' })).state, 'active');
    says(await ask(host, WEB), webIs);
    assert.equal((await server.status()).answered4, answered4 + 1);
    await server.obeys({ do: 'close' });
    server.child.kill();
    await server.child.result();
  }
});

const OLD_PREFIX = 'fd6d:91c4:5a37:53:';

async function address6(host: TestHost): Promise<string> {
  const [{ addr_info: all = [] } = {}] = JSON.parse(
    await host.ip('-j', '-6', 'address', 'show', 'zerohop0'),
  ) as [{ addr_info?: { local: string; prefixlen: number }[] }?];
  const [first, ...more] = all;
  assert.deepEqual([first?.prefixlen, more], [127, []]);
  return first?.local ?? '';
}

test('IPv6 addresses of the link are drawn for each link; who takes it over keeps them', async () => {
  await using host = await TestHost.create();
  const drawn = new Set<string>();
  for (let i = 0; i < 3; i++) {
    const { server } = await KernelServer.start(host);
    await server.zone(web);
    const own = await address6(host);
    assert.match(own, /^fd/);
    assert.ok(!own.startsWith(OLD_PREFIX), own);
    drawn.add(own);
    server.child.kill();
    await server.child.result();
    says(await ask(host, WEB, 'A', { at: '::1' }), webIs);
    const next = await KernelServer.start(host);
    assert.equal(next.first.state, 'active');
    assert.equal(await address6(host), own);
    await next.server.zone(web);
    says(await ask(host, WEB, 'A', { at: '::1' }), webIs);
    await next.server.obeys({ do: 'close' });
    next.server.child.kill();
    await next.server.child.result();
  }
  assert.equal(drawn.size, 3);
});

test('a link of a version before, with addresses that neighbours reach, goes when the next agent starts', async () => {
  await using host = await TestHost.create();
  await host.ip('link', 'add', 'zerohop0', 'type', 'veth', 'peer', 'name', 'zerohop0-far');
  await host.ip('link', 'set', 'zerohop0', 'alias', 'zerohop dns');
  for (const end of ['zerohop0', 'zerohop0-far']) await host.ip('link', 'set', end, 'up');
  await host.ip('address', 'add', '169.254.53.54/31', 'dev', 'zerohop0');
  await host.ip('address', 'add', `${OLD_PREFIX}:36/127`, 'dev', 'zerohop0', 'nodad');
  const { first } = await KernelServer.start(host);
  assert.equal(first.state, 'active');
  assert.doesNotMatch(await host.ip('-o', 'address'), /169\.254|fd6d/);
});

async function loopbackRoutes(host: TestHost): Promise<string> {
  return await host.output(['sysctl', '-n', 'net.ipv4.conf.lo.route_localnet']);
}

test('lo routes loopback addresses while answers come in there, and as before when they do not, the agent dead or alive', async () => {
  await using host = await TestHost.create();
  const { server } = await KernelServer.start(host);
  await server.zone(web);
  assert.equal(await loopbackRoutes(host), '0\n');
  await dropIncoming(host, CLOSING);
  assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  assert.equal(await loopbackRoutes(host), '1\n');
  says(await ask(host, WEB), webIs);
  // Somebody takes the link away: what was before is not forgotten.
  await host.ip('link', 'delete', 'zerohop0');
  assert.equal((await server.obeys({ do: 'check' })).state, 'active');
  server.child.kill();
  await server.child.result();
  assert.equal(await loopbackRoutes(host), '1\n');
  says(await ask(host, WEB), webIs);
  const next = await KernelServer.start(host);
  assert.deepEqual([next.first.state, await loopbackRoutes(host)], ['active', '1\n']);
  await next.server.obeys({ do: 'close' });
  assert.equal(await loopbackRoutes(host), '0\n');
  // Where it was 1 it stays.
  await host.output(['sysctl', '-q', '-w', 'net.ipv4.conf.lo.route_localnet=1']);
  next.server.child.kill();
  await next.server.child.result();
  const last = await KernelServer.start(host);
  assert.equal(last.first.state, 'active');
  await last.server.obeys({ do: 'close' });
  assert.equal(await loopbackRoutes(host), '1\n');
});

test('an answer is never torn, and never that of another name, whatever is replaced meanwhile', async (t) => {
  await using host = await TestHost.create();
  const { server } = await KernelServer.start(host);
  const before = await server.obeys({ do: 'churn' });
  assert.equal(before.state, 'active');
  const times = 100_000 / patience;
  const queries = ['one', 'two'].map((name) => question(`${name}.zerohop.internal`, 'A'));
  const asked = queries.map((bytes) => Buffer.from(bytes).toString('hex'));
  const client = ['python3', pathOf('clients/dns-churn.py'), String(times), ...asked];
  const { stdout, stderr } = await host.exec(client, { timeoutMs: 120_000 });
  assert.equal(stderr, '');
  const heard = JSON.parse(stdout) as {
    full: number;
    empty: number;
    wrong: readonly unknown[];
  };
  const { changes, torn, answered4, unknown } = await server.status();
  t.diagnostic(JSON.stringify({ ...heard, changes, torn, answered4, unknown }));
  assert.deepEqual(heard.wrong, []);
  assert.equal(heard.full + heard.empty, times);
  assert.equal(answered4 + unknown + torn, times);
  // There were many moments to go wrong in.
  assert.ok(changes > times / 100 && answered4 > times / 10, `${changes} ${answered4}`);
});
