/** What a killed agent leaves in the kernel: known names are answered, and nobody waits for the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ask,
  askAll,
  checksumsCount,
  KernelServer,
  LOOPBACKS,
  pathOf,
  says,
  WEB,
  webIs,
  type Seen,
} from '../harness/dns-kernel.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { question } from '../unit/dns/zones.ts';
import type { DnsStatusAnswer } from '../../src/api/dns-schemas.ts';
import type { Heard } from './clients/dns-ask.ts';

test('killed, everything that the kernel does not answer is REFUSED, however much is asked', async () => {
  await using host = await TestHost.create();
  const listen = LOOPBACKS.map((at) => (at.includes(':') ? `[${at}]:53` : `${at}:53`));
  const dns = { listen, upstreams: ['192.0.2.1'], timeoutMs: 100 };
  await host.agent.start({ config: host.writeConfig({ dns }) });
  await eventually('the kernel answers', async () => {
    const { kernel } = (await host.api('GET', '/v1/dns/status')).json() as DnsStatusAnswer;
    return kernel.state === 'active' && kernel.why === undefined;
  });
  await host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.1');
  // Linux lets six refusals of its own through, then one a second.
  const times = 20;
  const asksAll = async (rcode: string): Promise<void> => {
    for (const at of LOOPBACKS) {
      const heard = await askAll(host, `x.${WEB}`, 'A', { at, times, edns: 1232 });
      assert.equal(heard.length, times);
      for (const one of heard) says(one, { answers: [], rcode });
      says(await ask(host, WEB, 'A', { at }), webIs);
    }
  };
  const counted = async (): Promise<(number | undefined)[]> => {
    const rows = (await host.must('maps', 'dump', 'zh_dns_counts', '--json')).json();
    const [counts] = (rows as { readonly entries: readonly Partial<Seen>[] }).entries;
    return [counts?.answered4, counts?.answered6, counts?.refused4, counts?.refused6];
  };
  await asksAll('NXDOMAIN');
  assert.deepEqual(await counted(), [1, 1, 0, 0]);
  await host.agent.kill('SIGKILL');
  await asksAll('REFUSED');
  assert.deepEqual(await counted(), [2, 2, times, times]);
  const script = `
import socket
for at in ('127.0.0.55', '::1'):
    for i in range(${times}):
        try:
            socket.create_connection((at, 53), 3)
        except ConnectionRefusedError:
            print('refused')`;
  const tcp = await host.output(['python3', '-c', script]);
  assert.equal(tcp, 'refused\n'.repeat(2 * times));
});

test('a refusal is the question, with EDNS where that had it; what is no query is left to Linux', async () => {
  await using host = await TestHost.create();
  const { server } = await KernelServer.start(host);
  await checksumsCount(host);
  server.child.kill();
  await server.child.result();
  const q = (name: string): string => Buffer.from(question(name, 'A')).toString('hex', 12);
  const [even, odd] = [q('no.example'), q('one.example')];
  const long = (last: number): string =>
    q([63, 63, 63, last].map((length) => 'l'.repeat(length)).join('.'));
  const options = '000a0008001122334455667700050003080d0f00060003010204'; // COOKIE, DAU, DHU
  const passed = { error: 'ECONNREFUSED' };
  const cases: readonly (readonly [string, Heard])[] = [
    ...[even, odd, long(46)].map(
      (name) =>
        [`123401000001000000000000${name}`, { answer: `123481050001000000000000${name}` }] as const,
    ),
    ...[even, odd].map(
      (name) =>
        [
          `123401300001000000000001${name}000029100000008000001a${options}`,
          { answer: `123481150001000000000001${name}00002904d0000080000000` },
        ] as const,
    ),
    [
      `123401000001000000000001${odd}0000290200000000000000`,
      { answer: `123481050001000000000001${odd}00002904d0000000000000` },
    ],
    // NOTIFY, with an address behind.
    [
      `123420000001000000000001${even}00000100010000000000047f000001`,
      { answer: `1234a0050001000000000000${even}` },
    ],
    [`123481000001000000000000${even}`, passed],
    ['123401000001000000000000', passed],
    [`123401000001000000000000${long(47)}`, passed],
    [`123401000001000000010000${even}00000100010000000000047f000001`, passed],
  ];
  const asked = cases.map(([message]) => message);
  for (const at of LOOPBACKS) {
    const client = [process.execPath, pathOf('clients/dns-ask.ts'), at, 'connected', '-', '1'];
    const heard = JSON.parse(await host.output([...client, ...asked])) as readonly Heard[];
    assert.deepEqual(
      heard.map(({ answer, error }) => (error === undefined ? { answer } : { error })),
      cases.map(([, told]) => told),
    );
  }
});
