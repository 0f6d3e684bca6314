/** hyparview-ts nodes over real sockets: they find each other, tell each other, and notice who is gone. */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { WireError } from '../../../src/hyparview-ts/codec.ts';
import type { Event, Peer } from '../../../src/hyparview-ts/index.ts';
import { systemClock } from '../../../src/cluster/io/clock.ts';
import type { Identity } from '../../../src/cluster/io/identity.ts';
import { Overlay } from '../../../src/cluster/io/overlay.ts';
import { systemRandom } from '../../../src/cluster/io/random.ts';
import { eventually } from '../../harness/eventually.ts';
import { TestCluster } from './kit.ts';
import type { Order } from './children/member.ts';

const cluster = await TestCluster.found();
const running = new Set<Overlay>();
const children = new Set<ChildProcess>();
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([...running].map((overlay) => overlay.stop()));
});

interface Member {
  readonly overlay: Overlay;
  readonly events: Event[];
  readonly messages: string[];
}

async function start(
  seeds: readonly Peer[],
  known: readonly Peer[] = [],
  identity?: Identity,
): Promise<Member> {
  const events: Event[] = [];
  const messages: string[] = [];
  const overlay = await Overlay.start(
    {
      transport: {
        identity: identity ?? (await cluster.identity()),
        software: 'test',
        clock: systemClock,
      },
      random: systemRandom(),
      incarnation: Date.now(),
      listen: { host: '127.0.0.1', port: 0 },
      zone: '',
      handlers: {
        event: (event) => events.push(event),
        message: (from, channel, bytes) => {
          if (bytes[0] === 0) throw new WireError('a test');
          messages.push(`${from.id} ${channel} ${Buffer.from(bytes).toString()}`);
        },
        up: () => undefined,
        down: () => undefined,
      },
    },
    known,
    seeds,
  );
  running.add(overlay);
  return { overlay, events, messages };
}

async function several(count: number): Promise<Member[]> {
  const first = await start([]);
  const others: Member[] = [];
  for (let i = 1; i < count; i++) others.push(await start([first.overlay.self]));
  return [first, ...others];
}

function delivered({ events }: Member): string[] {
  return events.flatMap((event) =>
    event.type === 'delivered' ? [Buffer.from(event.payload).toString()] : [],
  );
}

/** The node itself too. */
const alive = ({ overlay }: Member): number => overlay.node.members.alive().length + 1;

async function stop(members: readonly Member[]): Promise<void> {
  await Promise.all(members.map(({ overlay }) => overlay.stop()));
  for (const { overlay } of members) running.delete(overlay);
}

test('five nodes become one overlay, and a broadcast of each reaches all, once', async () => {
  const members = await several(5);
  await eventually('all to know all', () => members.every((member) => alive(member) === 5), {
    timeoutMs: 15_000,
  });
  const sizes = [10, 1000, 20_000, 200_000, 1_000_000];
  for (const [i, { overlay }] of members.entries()) {
    overlay.broadcast(Buffer.from(`${i}`.padEnd(sizes[i] ?? 1, '.')), 'normal');
  }
  await eventually(
    'all broadcasts everywhere',
    () => members.every((member) => delivered(member).length >= 5),
    {
      timeoutMs: 15_000,
    },
  );
  for (const member of members) {
    assert.deepEqual(
      delivered(member)
        .map((text) => `${text[0]} ${text.length}`)
        .sort(),
      sizes.map((n, i) => `${i} ${n}`),
    );
  }
  await stop(members);
});

test('a node whose process is killed is declared dead by all, and those that are left go on', async () => {
  const members = await several(4);
  const child = fork(join(import.meta.dirname, 'children/member.ts'));
  children.add(child);
  const said: unknown[] = [];
  child.on('message', (text) => said.push(text));
  const identity = await cluster.identity();
  const [first] = members;
  assert.ok(first !== undefined);
  const order: Order = { identity, seeds: [first.overlay.self] };
  child.send(order);
  await eventually('all to know the child', () => members.every((member) => alive(member) === 5), {
    timeoutMs: 15_000,
  });
  first.overlay.broadcast(Buffer.from('to the child too'), 'urgent');
  await eventually('the broadcast at the child', () => said.includes('to the child too'));
  child.kill('SIGKILL');
  await once(child, 'exit');
  children.delete(child);
  const isDead = ({ events }: Member): boolean =>
    events.some((event) => event.type === 'member-dead' && event.id === identity.nodeId);
  await eventually('all to call it dead', () => members.every(isDead), { timeoutMs: 15_000 });
  for (const member of members) assert.equal(alive(member), 4);
  members[3]?.overlay.broadcast(Buffer.from('afterwards'), 'normal');
  await eventually('the broadcast', () =>
    members.every((member) => delivered(member).includes('afterwards')),
  );
  await stop(members);
});

test('a node that leaves is known to have left, and not called dead', async () => {
  const members = await several(3);
  await eventually('all to know all', () => members.every((member) => alive(member) === 3), {
    timeoutMs: 15_000,
  });
  const leaver = members.pop();
  assert.ok(leaver !== undefined);
  const { id } = leaver.overlay.self;
  await leaver.overlay.leave();
  running.delete(leaver.overlay);
  const said = ({ events }: Member): string[] =>
    events.flatMap((event) =>
      event.type === 'member-left' || event.type === 'member-dead'
        ? [`${event.type} ${event.id}`]
        : [],
    );
  await eventually('the others to know', () => members.every((member) => said(member).length > 0));
  for (const member of members) assert.deepEqual(said(member), [`member-left ${id}`]);
  await stop(members);
});

test('a node that starts again finds the others by the peers that it remembers, without a seed', async () => {
  const [first, second] = await several(2);
  assert.ok(first !== undefined && second !== undefined);
  await eventually('both to know both', () => alive(first) === 2 && alive(second) === 2, {
    timeoutMs: 15_000,
  });
  const known = second.overlay.knownPeers();
  const { id } = second.overlay.self;
  await stop([second]);
  const again = await start([], known, await cluster.identity(id));
  await eventually('both to know both', () => alive(first) === 2 && alive(again) === 2, {
    timeoutMs: 15_000,
  });
  await stop([first, again]);
});

test('other channels pass by the overlay, and what its reader refuses ends the connection', async () => {
  const [first, second] = await several(2);
  assert.ok(first !== undefined && second !== undefined);
  await eventually('both to know both', () => alive(first) === 2 && alive(second) === 2, {
    timeoutMs: 15_000,
  });
  first.overlay.transport.send(second.overlay.self, 'state', Buffer.from('hello'));
  await eventually('the message', () => second.messages.length === 1);
  assert.deepEqual(second.messages, [`${first.overlay.self.id} state hello`]);
  assert.equal(second.overlay.transport.metrics['cluster_connections_closed_total.protocol'], 0);
  first.overlay.transport.send(second.overlay.self, 'state', Uint8Array.of(0));
  const closed = (): number =>
    second.overlay.transport.metrics['cluster_connections_closed_total.protocol'];
  await eventually('the end of that connection', () => closed() === 1);
  const sendAndLook = (): boolean => {
    // More than once: the first end may not know yet that the connection is over.
    first.overlay.transport.send(second.overlay.self, 'overlay', Uint8Array.of(99, 99));
    return closed() >= 2;
  };
  await eventually('the end of the next one', sendAndLook, { timeoutMs: 15_000 });
  await stop([first, second]);
});

test('stopping leaves no timer, and nothing happens afterwards', async () => {
  const timers = (): number =>
    process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const members = await several(3);
  await eventually('all to know all', () => members.every((member) => alive(member) === 3), {
    timeoutMs: 15_000,
  });
  await stop(members);
  await eventually('no timers more than before', () => timers() <= before + 1); // eventually() has one
  const [first] = members;
  const count = first?.events.length;
  first?.overlay.broadcast(Buffer.from('x'), 'normal');
  assert.equal(first?.events.length, count);
});
