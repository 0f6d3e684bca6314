/**
 * Who gets in from outside: a second host on a wire, without an agent. What is
 * not let in is dropped, so the client hears nothing: EINPROGRESS is a connect()
 * without an answer, EAGAIN a datagram without one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOST4, HOST6, modes, PEER4, PEER6, Stage, type Who } from './attacks/stage.ts';

const FRIEND4 = '192.0.2.3';
const FRIEND6 = '2001:db8::3';
const anybody: Who = {};

/** Names of servers by port: every address, each family alone, and both on one socket. */
const servers = [
  'all=tcp,*,6379',
  'four=tcp,0.0.0.0,6380',
  'six=tcp,::,6380',
  'udp=udp,*,53',
  'udp4=udp,0.0.0.0,54',
  'open=tcp,*,80',
];

async function stageWithFriend(mode: 'cgroup' | 'lsm'): Promise<Stage> {
  const stage = await Stage.create(mode);
  try {
    await stage.peer.ip('addr', 'add', `${FRIEND4}/24`, 'dev', 'e0');
    await stage.peer.ip('addr', 'add', `${FRIEND6}/64`, 'dev', 'e0', 'nodad');
    await stage.witnesses(...servers);
    stage.waitMs = 700;
    return stage;
  } catch (error) {
    await stage[Symbol.asyncDispose]();
    throw error;
  }
}

const ports = ['6379/tcp', '6380/tcp', '53/udp', '54/udp'];
const friendsOnly = {
  kind: 'acl',
  name: 'friends',
  to: { ports },
  from: [{ cidr: `${FRIEND4}/32` }, { cidr: `${FRIEND6}/128` }],
  action: 'allow',
};

/** Attempts from the peer's usual addresses, or from those of the friend; what each should reach. */
function attempts(how: 'stranger' | 'friend', tcp?: string, udp?: string): Record<string, string> {
  const four = how === 'friend' ? `,${FRIEND4},0` : `,${PEER4},0`;
  const six = how === 'friend' ? `,${FRIEND6},0` : `,${PEER6},0`;
  return {
    [`tcp.connect+bind=${HOST4},6379${four}`]: tcp ?? 'all',
    [`tcp.connect+bind=${HOST6},6379${six}`]: tcp ?? 'all',
    [`tcp.connect+bind=${HOST4},6380${four}`]: tcp ?? 'four',
    [`tcp.connect+bind=${HOST6},6380${six}`]: tcp ?? 'six',
    [`mptcp.connect+bind=${HOST4},6379${four}`]: tcp ?? 'all',
    [`udp.sendto+bind=${HOST4},53${four}`]: udp ?? 'udp',
    [`udp.connect+bind=${HOST4},54${four}`]: udp ?? 'udp4',
    [`udp.sendto+bind=${HOST6},53${six}`]: udp ?? 'udp',
    [`udp.sendto+big+bind=${HOST4},53${four}`]: udp ?? 'udp',
    [`udp.sendto+big+bind=${HOST6},53${six}`]: udp ?? 'udp',
    [`udp.sendto+extra+bind=${HOST6},53${six}`]: udp ?? 'udp',
    [`udp.sendto+extra+big+bind=${HOST6},53${six}`]: udp ?? 'udp',
    [`udp.sendto+bind=192.0.2.255,54${four}`]: udp ?? 'udp4',
    [`udp.sendto+bind=224.0.0.1,54${four}`]: udp ?? 'udp4',
    [`udp.sendto+bind=ff02::1%77,53${six}`]: udp ?? 'udp',
  };
}

for (const { mode, options } of modes()) {
  test(`${mode}: who is not on the list does not get in, by any packet`, options, async () => {
    await using stage = await stageWithFriend(mode);
    await stage.expect(anybody, attempts('stranger'), stage.peer);
    await stage.apply(friendsOnly);
    await stage.expect(anybody, attempts('stranger', 'EINPROGRESS', 'EAGAIN'), stage.peer);
    await stage.expect(anybody, attempts('friend'), stage.peer);
    await stage.expect(anybody, { [`tcp.connect=${HOST4},80`]: 'open' }, stage.peer);
    // Data in the first packet: a friend learns the cookie, and the host is the same for both.
    const friend = `tcp.fastopen+bind=${HOST4},6379,${FRIEND4},0`;
    await stage.expect(anybody, { [friend]: 'all' }, stage.peer);
    const [stranger] = await stage.tries(anybody, [`tcp.fastopen=${HOST4},6379`], stage.peer);
    assert.match(stranger ?? '', /^E(AGAIN|INPROGRESS)$/);
    await stage.removeAcl('friends');
    await stage.expect(anybody, attempts('stranger'), stage.peer);
  });

  test(
    `${mode}: who is on the list of the denied does not get in, others do`,
    options,
    async () => {
      await using stage = await stageWithFriend(mode);
      await stage.apply({ ...friendsOnly, action: 'deny' });
      await stage.expect(anybody, attempts('stranger'), stage.peer);
      const [dropped, unheard] = ['EINPROGRESS', 'EAGAIN'];
      await stage.expect(anybody, attempts('friend', dropped, unheard), stage.peer);
      // The most specific source block decides no more than the others: deny wins.
      await stage.apply({
        ...friendsOnly,
        name: 'all-of-them',
        from: [{ cidr: '192.0.2.0/24' }, { cidr: '2001:db8::/32' }],
        action: 'allow',
      });
      await stage.expect(anybody, attempts('friend', dropped, unheard), stage.peer);
      await stage.expect(anybody, attempts('stranger'), stage.peer);
    },
  );

  test(
    `${mode}: a rule for a service closes its backend's port to the outside`,
    options,
    async () => {
      await using stage = await stageWithFriend(mode);
      await stage.apply(
        {
          kind: 'service',
          name: 'redis',
          vips: ['240.0.0.1'],
          ports: [{ port: 80 }],
          backends: [{ address: '127.0.0.1:6379' }],
        },
        { ...friendsOnly, to: { service: 'redis' } },
      );
      const outside = { [`tcp.connect=${HOST4},6379`]: 'EINPROGRESS' };
      const friend = {
        [`tcp.connect+bind=${HOST4},6379,${FRIEND4},0`]: 'all',
        [`tcp.connect+bind=${HOST6},6379,${FRIEND6},0`]: 'all',
      };
      await stage.expect(anybody, outside, stage.peer);
      await stage.expect(anybody, friend, stage.peer);
      // A list of sources says nothing of this host's own programs.
      const inside = {
        'tcp.connect=240.0.0.1,80': 'all',
        'tcp.connect=127.0.0.1,6379': 'all',
        [`tcp.connect=${HOST4},6379`]: 'all',
        [`tcp.connect=${HOST6},6379`]: 'all',
        'tcp.connect=::1,6379': 'all',
      };
      await stage.expect(anybody, inside);
      // And it holds with the agent dead.
      await stage.host.agent.kill('SIGKILL');
      await stage.expect(anybody, outside, stage.peer);
      await stage.expect(anybody, friend, stage.peer);
      await stage.expect(anybody, inside);
    },
  );

  test(
    `${mode}: a packet from the wire that claims to come from loopback does not get in`,
    options,
    async () => {
      await using stage = await stageWithFriend(mode);
      await stage.apply(friendsOnly);
      const forged = `rawhdr.sendto=${HOST4},54`;
      const honest = { [`udp.sendto+bind=${HOST4},54,${FRIEND4},0`]: 'udp4' };
      await stage.expect(anybody, honest, stage.peer); // and the neighbour is known
      assert.deepEqual(await stage.tries(anybody, [forged], stage.peer), ['sent']);
      // The next datagram on that wire is there, so the one before it would be.
      await stage.expect(anybody, honest, stage.peer);
    },
  );

  test(`${mode}: what is connected when a rule comes stays connected`, options, async () => {
    await using stage = await stageWithFriend(mode);
    const script = `
import socket, sys
client = socket.create_connection(('${HOST4}', 6379), 20)
for line in sys.stdin:
    client.sendall(line.encode())
    print(client.recv(100).decode().strip(), flush=True)
`;
    const client = stage.peer.spawn(['/usr/bin/python3', '-c', script]);
    client.say('one\n');
    await client.says(/^all \S+ one$/m);
    await stage.apply(friendsOnly);
    client.say('two\n');
    await client.says(/^all \S+ two$/m);
    await stage.arrivals();
    await stage.expect(anybody, { [`tcp.connect=${HOST4},6379`]: 'EINPROGRESS' }, stage.peer);
    client.say('three\n');
    await client.says(/^all \S+ three$/m);
    client.endInput();
    assert.equal((await client.result()).code, 0);
  });
}
