/**
 * What programs see of a VIP: real programs at both ends, the real agent, the
 * real kernel. One host for the whole file.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, plain, type Protocol, type Step, steps } from '../harness/clients.ts';
import { haveSetRetval } from '../../src/datapath/io/features.ts';
import { TestHost } from '../harness/host.ts';
import { run } from '../harness/child.ts';
import { languages, stepsClient } from '../harness/programs.ts';
import { type Echo, echoes } from '../harness/servers.ts';
import { putService, VIP4, VIP6 } from '../harness/services.ts';

const OTHER4 = '240.0.0.2';
const SHARED4 = '240.0.0.3';
const SELF = '240.0.0.5';
const EMPTY4 = '240.0.0.9';
const EMPTY6 = 'fd7a:6572:6f68:6f70::9';
const mapped = (vip: string): string => `::ffff:${vip}`;

let host: TestHost;
let backend: Record<'tcp4' | 'udp4' | 'tcp6' | 'udp6' | 'other', Echo>;

/** `ADDR,PORT` as client.c takes it. */
const at = (address: string, port: number): string => `${address},${port}`;
const portOf = (protocol: Protocol): number => (protocol === 'tcp' ? 80 : 53);
const shown = (address: string, port: number): string =>
  plain(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`) ?? '';

before(async () => {
  host = await TestHost.create();
  await host.agent.start();
  const { echoes: made } = await echoes(
    host,
    { name: 'tcp4' },
    { name: 'udp4', protocol: 'udp' },
    { name: 'tcp6', address: '::1' },
    { name: 'udp6', address: '::1', protocol: 'udp' },
    { name: 'other', protocol: 'udp' },
  );
  backend = Object.fromEntries(made.map((echo) => [echo.name, echo])) as typeof backend;
  const { tcp4, udp4, tcp6, udp6, other } = backend;
  const ports = [{ port: 80 }, { port: 53, protocol: 'udp' }] as const;
  await putService(host, 'both', {
    vips: [VIP4, VIP6],
    ports: [
      { name: 'web', ...ports[0] },
      { name: 'dns', ...ports[1] },
    ],
    backends: [
      { portName: 'web', ...address(tcp4) },
      { portName: 'web', ...address(tcp6) },
      { portName: 'dns', ...address(udp4) },
      { portName: 'dns', ...address(udp6) },
    ],
  });
  const udp = [{ port: 54, protocol: 'udp' }] as const;
  await putService(host, 'other', { vips: [OTHER4], ports: udp, backends: [address(other)] });
  await putService(host, 'shared', { vips: [SHARED4], ports: udp, backends: [address(other)] });
  await putService(host, 'empty', { vips: [EMPTY4, EMPTY6], ports });
});

after(async () => {
  await host[Symbol.asyncDispose]();
});

function address(echo: Echo): { address: string; port: number } {
  return { address: echo.address, port: echo.port };
}

/** The last of the steps that bears this name. */
function last(list: readonly Step[], name: string): Step {
  const found = list.findLast((step) => step.step === name);
  assert.ok(found !== undefined, `no step ${name}`);
  return found;
}

describe('getpeername() answers the VIP and the server sees the client', () => {
  for (const language of languages) {
    for (const protocol of ['tcp', 'udp'] as const) {
      test(`${language}, ${protocol}, IPv4, IPv6 and v4-mapped`, async () => {
        for (const vip of [VIP4, VIP6, mapped(VIP4)]) {
          const seen = await ask(host, language, protocol, vip, portOf(protocol));
          const server = vip === VIP6 ? `${protocol}6` : `${protocol}4`;
          assert.equal(seen.error, undefined, vip);
          assert.equal(plain(seen.peer), shown(vip, portOf(protocol)), vip);
          const said = language.toLowerCase();
          assert.equal(seen.reply, `${server} ${plain(seen.local)} ${said}`, vip);
        }
      });
    }
  }

  for (const how of ['nonblock', 'uring', 'fastopen']) {
    test(`C, tcp by ${how}`, async () => {
      for (const [family, vip] of [
        [4, VIP4],
        [6, VIP6],
        [6, mapped(VIP4)],
      ] as const) {
        const talk = how === 'fastopen' ? 'hear' : 'say=x';
        const list = await steps(host, family, 'tcp', `${how}=${at(vip, 80)}`, talk, 'peer');
        assert.equal(plain(last(list, 'peer').peer), shown(vip, 80));
        const said = how === 'fastopen' ? 'fast' : 'x';
        const server = vip === VIP6 ? 'tcp6' : 'tcp4';
        const reply = list[1]?.reply;
        assert.equal(reply, `${server} ${plain(last(list, 'peer').local)} ${said}`);
      }
    });
  }
});

describe('unconnected UDP', () => {
  test('several VIPs on one socket, every answer comes from the VIP asked', async () => {
    const list = await steps(
      host,
      4,
      'udp',
      `sendto=${at(VIP4, 53)}`,
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
      'recvmsg',
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
    );
    const got = list.filter(({ from }) => from !== undefined);
    const heard = got.map(({ from, reply }) => `${from} ${reply?.split(' ')[0]}`);
    const [first, second] = [`${shown(VIP4, 53)} udp4`, `${shown(OTHER4, 54)} other`];
    assert.deepEqual(new Set(heard.slice(0, 2)), new Set([first, second]));
    assert.equal(heard[2], second);
  });

  test('IPv6 and v4-mapped VIPs on one socket', async () => {
    const list = await steps(
      host,
      6,
      'udp',
      `sendto=${at(VIP6, 53)}`,
      'recvfrom',
      `sendto=${at(mapped(OTHER4), 54)}`,
      'recvfrom',
    );
    assert.equal(plain(list[1]?.from), shown(VIP6, 53));
    assert.equal(plain(list[3]?.from), shown(OTHER4, 54));
  });

  test('two VIPs with the same backend are told apart', async () => {
    const list = await steps(
      host,
      4,
      'udp',
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
      `sendto=${at(SHARED4, 54)}`,
      'recvfrom',
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
    );
    const from = list.filter(({ step }) => step === 'recvfrom').map((step) => step.from);
    assert.deepEqual(from, [shown(OTHER4, 54), shown(SHARED4, 54), shown(OTHER4, 54)]);
  });

  test('more VIPs on one socket than are remembered still all get their answers', async () => {
    const { udp4 } = backend;
    const ports = Array.from({ length: 20 }, (_, i) => 1000 + i);
    await putService(host, 'many', {
      vips: ['240.0.0.4'],
      ports: ports.map((port) => ({ name: `p${port}`, port, protocol: 'udp' })),
      backends: ports.map((port) => ({ portName: `p${port}`, ...address(udp4) })),
    });
    const list = await steps(
      host,
      4,
      'udp',
      ...ports.flatMap((port) => [`sendto=${at('240.0.0.4', port)}`, 'recvfrom']),
    );
    const from = list.filter(({ step }) => step === 'recvfrom').map((step) => step.from);
    assert.deepEqual(
      from,
      ports.map((port) => shown('240.0.0.4', port)),
    );
  });
});

describe('a UDP socket that is connected again', () => {
  test('directly to another address does not report the VIP', async () => {
    const direct = at('127.0.0.1', backend.other.port);
    const list = await steps(
      host,
      4,
      'udp',
      `connect=${at(VIP4, 53)}`,
      `connect=${direct}`,
      'say=x',
    );
    assert.equal(list[0]?.peer, shown(VIP4, 53));
    assert.equal(list[1]?.peer, shown('127.0.0.1', backend.other.port));
    assert.match(list[2]?.reply ?? '', /^other /);
  });

  test('directly to the very backend does not report the VIP', async () => {
    const { port } = backend.other;
    const direct = at('127.0.0.1', port);
    const list = await steps(
      host,
      4,
      'udp',
      `connect=${at(OTHER4, 54)}`,
      'say=x',
      `connect=${direct}`,
      `sendto=${direct}`,
      'recvfrom',
    );
    assert.equal(list[2]?.peer, shown('127.0.0.1', port));
    assert.equal(list[4]?.from, shown('127.0.0.1', port));
  });

  test('to another VIP reports that one, also when the backend is the same', async () => {
    const list = await steps(
      host,
      4,
      'udp',
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
      `connect=${at(OTHER4, 54)}`,
      'say=x',
      `connect=${at(SHARED4, 54)}`,
      `sendto=${at(SHARED4, 54)}`,
      'recvfrom',
    );
    assert.equal(list[2]?.peer, shown(OTHER4, 54));
    assert.equal(list[4]?.peer, shown(SHARED4, 54));
    assert.equal(list[6]?.from, shown(SHARED4, 54));
  });

  test('to nothing (AF_UNSPEC) has no peer and may be used again', async () => {
    const list = await steps(
      host,
      4,
      'udp',
      `connect=${at(VIP4, 53)}`,
      'unspec',
      `sendto=${at(OTHER4, 54)}`,
      'recvfrom',
      `connect=${at(VIP4, 53)}`,
      'say=x',
    );
    assert.equal(list[1]?.peerError, 'ENOTCONN');
    assert.equal(list[3]?.from, shown(OTHER4, 54));
    assert.equal(list[4]?.peer, shown(VIP4, 53));
    assert.match(list[5]?.reply ?? '', /^udp4 /);
  });
});

/** Linux < 5.18 cannot refuse a UDP connect() itself; refuge.test.ts shows what happens there. */
const udpRefusals = haveSetRetval();
const refusable = udpRefusals ? (['tcp', 'udp'] as const) : (['tcp'] as const);
const needsSetRetval = udpRefusals ? {} : { skip: 'needs bpf_set_retval, Linux 5.18' };

describe('a connect that nobody can serve is refused, never forbidden', () => {
  for (const language of languages) {
    test(`${language} sees ECONNREFUSED`, async () => {
      for (const vip of [EMPTY4, EMPTY6, mapped(EMPTY4)]) {
        for (const protocol of refusable) {
          const seen = await ask(host, language, protocol, vip, portOf(protocol));
          assert.equal(seen.error, 'ECONNREFUSED', `${protocol} ${vip}`);
        }
      }
    });
  }

  for (const how of ['connect', 'nonblock', 'uring', 'fastopen']) {
    test(`TCP by ${how}: a service without backends, and a port that the VIP does not have`, async () => {
      for (const [family, vip] of [
        [4, EMPTY4],
        [6, EMPTY6],
        [6, mapped(EMPTY4)],
      ] as const) {
        const [empty] = await steps(host, family, 'tcp', `${how}=${at(vip, 80)}`);
        assert.equal(empty?.error, 'ECONNREFUSED');
        const [unknown] = await steps(host, family, 'tcp', `${how}=${at(vip, 81)}`);
        assert.equal(unknown?.error, 'ECONNREFUSED');
      }
    });
  }

  test('UDP: connect and sendto', needsSetRetval, async () => {
    for (const [family, vip] of [
      [4, EMPTY4],
      [6, EMPTY6],
      [6, mapped(EMPTY4)],
    ] as const) {
      for (const port of [53, 99]) {
        for (const how of ['connect', 'sendto']) {
          const [refused] = await steps(host, family, 'udp', `${how}=${at(vip, port)}`);
          assert.equal(refused?.error, 'ECONNREFUSED', `${how} ${vip} ${port}`);
        }
      }
    }
  });

  test('the protocol counts: a UDP port of the VIP is refused to TCP', async () => {
    const [refused] = await steps(host, 4, 'tcp', `connect=${at(VIP4, 53)}`);
    assert.equal(refused?.error, 'ECONNREFUSED');
  });

  test('a refused connect leaves a connected UDP socket as it was', needsSetRetval, async () => {
    const list = await steps(
      host,
      4,
      'udp',
      `connect=${at(VIP4, 53)}`,
      `connect=${at(EMPTY4, 53)}`,
      'say=x',
    );
    assert.equal(list[1]?.error, 'ECONNREFUSED');
    assert.equal(list[1]?.peer, shown(VIP4, 53));
    assert.match(list[2]?.reply ?? '', /^udp4 /);
  });
});

test('MPTCP goes through a VIP too (but getpeername() shows the backend: its socket is not the one that connects)', async (t) => {
  const script = `
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.settimeout(5)
client.connect(('${VIP4}', 80))
client.sendall(b'mptcp\\n')
print(client.recv(100).decode())
`;
  const { code, stdout, stderr } = await host.exec(['/usr/bin/python3', '-c', script]);
  if (/Protocol not (supported|available)/.test(stderr)) return t.skip('this kernel has no MPTCP');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^tcp4 127\.0\.0\.1:\d+ mptcp/);
});

describe('what is no VIP', () => {
  test('is left alone: a direct connect shows the real peer', async () => {
    for (const [protocol, echo] of [
      ['tcp', backend.tcp4],
      ['udp', backend.udp4],
    ] as const) {
      const seen = await ask(host, 'C', protocol, echo.address, echo.port);
      assert.equal(seen.peer, shown(echo.address, echo.port));
    }
  });

  test('a closed port refuses as ever', async () => {
    const [refused] = await steps(host, 4, 'tcp', `connect=${at('127.0.0.1', 1)}`);
    assert.equal(refused?.error, 'ECONNREFUSED');
  });

  test('a process outside of the cgroup does not see the VIP', async () => {
    const inNetns = ['nsenter', `--net=/run/netns/${host.name}`];
    const stdout = await run([
      ...inNetns,
      await stepsClient(),
      '4',
      'udp',
      `connect=${at(VIP4, 53)}`,
    ]);
    assert.equal((JSON.parse(stdout) as Step[])[0]?.error, 'ENETUNREACH');
  });
});

describe('hairpin', () => {
  test('a backend reaches its own service through the VIP, and itself', async () => {
    const script = `
import socket, threading
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname()[1], flush=True)
input()
client = socket.create_connection(('${SELF}', 80), 5)
served, seen = server.accept()
client.sendall(b'me')
print(served.recv(2).decode(), client.getpeername(), seen == client.getsockname(), flush=True)
`;
    const self = host.spawn(['/usr/bin/python3', '-c', script]);
    const [port = ''] = await self.says(/^\d+$/m);
    await putService(host, 'self', {
      vips: [SELF],
      ports: [{ port: 80 }],
      backends: [{ address: '127.0.0.1', port: Number(port) }],
    });
    self.endInput('\n');
    const { stdout } = await self.result();
    assert.match(stdout, new RegExp(`^me \\('${SELF}', 80\\) True$`, 'm'));
  });

  test('two addresses of this host, client and backend on the same one', async () => {
    await host.ip('addr', 'add', '192.0.2.7/32', 'dev', 'lo');
    const { echoes: made } = await echoes(host, { name: 'mine', address: '192.0.2.7' });
    await putService(host, 'mine', {
      vips: ['240.0.0.6'],
      ports: [{ port: 80 }],
      backends: made.map(address),
    });
    const seen = await ask(host, 'C', 'tcp', '240.0.0.6', 80);
    assert.equal(seen.peer, shown('240.0.0.6', 80));
    assert.equal(seen.reply, `mine ${seen.local} c`);
  });
});

test('the agent logged no error and nothing was repaired', async () => {
  const errors = host.agent.log().filter((line) => line['level'] === 'error');
  assert.deepEqual(errors, []);
  const status = (await host.zerohop('status', '--json')).json() as {
    datapath: { repairedEntries: number; state: string };
  };
  assert.equal(status.datapath.repairedEntries, 0);
  assert.equal(status.datapath.state, 'in-sync');
});
