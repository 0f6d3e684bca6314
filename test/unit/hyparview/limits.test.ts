import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '../../../src/hyparview-ts/codec.ts';
import { DEFAULTS, LIMITS, Node, sfc32 } from '../../../src/hyparview-ts/index.ts';
import type { Config, LinkState, Message, Output } from '../../../src/hyparview-ts/index.ts';
import { peer, sent, Subject } from './subject.ts';

function state(id: string, sequence = 1, ...neighbours: string[]): LinkState {
  return { origin: peer(id), incarnation: 1, sequence, left: false, neighbours };
}

const states = (...list: LinkState[]): Message => ({
  type: 'states',
  purpose: 'sync',
  states: list,
});

test('a timer that fires early is asked for again, and what hangs on it goes on', () => {
  const { node } = new Subject();
  const [first] = node.snapshot().timers.filter(({ key }) => key === 'shuffle');
  const atMs = first?.atMs ?? 0;
  assert.deepEqual(node.handle({ type: 'timer', key: 'shuffle' }, atMs - 0.5), [
    { type: 'schedule', key: 'shuffle', atMs },
  ]);
  assert.deepEqual(node.handle({ type: 'timer', key: 'shuffle' }, atMs).length, 1);
});

test('a payload at the last hop the wire allows is passed on as something the wire allows', () => {
  const subject = new Subject({ broadcast: 'tree' });
  subject.link('a', 'b');
  const payload = Uint8Array.of(1);
  const hop = LIMITS.hop;
  const gossip = { type: 'gossip', id: 'o 1 1', hop, priority: 'normal', payload } as const;
  const [passed] = sent(subject.receive('a', gossip), 'gossip');
  assert.deepEqual([passed?.to, passed?.message.hop], ['b', hop]);
  assert.deepEqual(decode(encode(gossip)), gossip);
});

test('neighbours that do not exist fill no table: names are kept for the newest states only', () => {
  const subject = new Subject();
  subject.link('a');
  for (let i = 1; i <= 2000; i++) {
    const ghosts = Array.from({ length: LIMITS.neighboursPerState }, (_, k) => `ghost-${i}-${k}`);
    subject.receive('a', states(state('a', i, ...ghosts)));
  }
  assert.ok(subject.names.size < 4 * 1024, `${subject.names.size} names`);
  assert.notEqual(subject.names.find('self'), undefined);
  subject.receive('a', states(state('a', 3000, 'self'), state('b', 1, 'a')));
  subject.run(subject.now + 1000, 'a');
  assert.deepEqual(subject.node.members.path('a'), ['a']);
});

test('a lone survivor of 4,000 knocks at every one of the dead within ten minutes', () => {
  const subject = new Subject();
  subject.link('a');
  const dead = Array.from({ length: 4000 }, (_, i) => `d${i}`);
  for (let at = 0; at < dead.length; at += 250)
    subject.receive('a', states(...dead.slice(at, at + 250).map((id) => state(id))));
  subject.node.handle({ type: 'unreachable', peer: 'a' }, 0);
  subject.run(2000);
  const begin = subject.now;
  const knocked = new Set<string>();
  let most = 0;
  while (subject.now < begin + 600_000) {
    for (const { to } of sent(subject.run(subject.now + 250), 'neighbor')) knocked.add(to);
    most = Math.max(most, subject.node.views.knockCount);
  }
  assert.equal(dead.filter((id) => !knocked.has(id)).length, 0);
  assert.equal(most, 32);
});

test('a neighbour that speaks from another address gets what is said to it there', () => {
  const subject = new Subject();
  subject.link('a', 'b');
  const moved = peer('a', '10.9.9.9:7');
  const ping = { type: 'ping', nonce: 1, measure: false, digest: 0 } as const;
  const outputs = subject.receive(moved, ping);
  const links = outputs.filter(({ type }) => type === 'dial' || type === 'drop');
  assert.deepEqual(links, [{ type: 'dial', peer: moved }], 'and the connection it came by stays');
  assert.deepEqual(subject.node.views.active.get('a'), moved);
  const pings = subject.run(3000).filter((o) => o.type === 'send' && o.to.id === 'a');
  assert.ok(pings.length > 0);
  for (const output of pings) assert.deepEqual(output.type === 'send' && output.to, moved);
});

const FORGET: Partial<Config> = { forgetMs: 100_000 };

test('the dead are told of with their time, and a newcomer forgets them when the others do', () => {
  const old = new Subject(FORGET);
  old.link('a');
  old.receive('a', states(state('a', 1, 'self'), state('x')));
  old.run(60_000, 'a');
  assert.equal(old.node.members.standing('x'), 'dead');
  const want = { type: 'want', graft: false, ids: ['a', 'x'] } as const;
  const [told] = sent(old.receive('a', want), 'states');
  assert.deepEqual(
    told?.message.states.map(({ origin }) => origin.id),
    ['a', 'x'],
  );
  const [alive = 0, dead = 0] = told?.message.gone ?? [];
  assert.equal(alive, 0);
  assert.ok(dead >= 50 && dead <= 60, `${dead} s`);

  const young = new Subject(FORGET);
  young.link('a');
  young.receive('a', { type: 'states', purpose: 'sync', states: [state('x')], gone: [dead] });
  young.run(20_000, 'a');
  assert.equal(young.node.members.standing('x'), 'dead');
  young.run(70_000, 'a');
  assert.equal(young.node.members.standing('x'), 'unknown', 'after 50 s of its own');
});

test('what is dead for longer than the dead are remembered is not taken; what is alive is, though forgotten', () => {
  const subject = new Subject(FORGET);
  subject.link('a');
  const told = (seconds: number): Message => ({
    type: 'states',
    purpose: 'sync',
    states: [state('x')],
    gone: [seconds],
  });
  subject.receive('a', told(100));
  subject.run(1000, 'a');
  assert.equal(subject.node.members.standing('x'), 'unknown');
  subject.receive('a', told(1));
  subject.run(120_000, 'a');
  assert.equal(subject.node.members.standing('x'), 'unknown', 'forgotten by now');
  assert.equal(subject.node.members.states.size, 1, 'its own');
  // the other side of a long partition never lost it, and it has not changed since
  subject.receive('a', states(state('a', 2, 'self', 'x'), state('x', 1, 'a')));
  subject.run(121_000, 'a');
  assert.equal(subject.node.members.standing('x'), 'alive');
});

test('who is alive here is not forgotten sooner because somebody held it for dead', () => {
  const subject = new Subject(FORGET);
  subject.link('a');
  subject.receive('a', states(state('a', 1, 'self', 'x'), state('x', 1, 'a')));
  subject.run(1000, 'a');
  const newer = [state('x', 2, 'a')];
  subject.receive('a', { type: 'states', purpose: 'sync', states: newer, gone: [90] });
  subject.run(2000, 'a');
  assert.equal(subject.node.members.standing('x'), 'alive');
  assert.equal(subject.node.snapshot().sizes.goneElsewhere, 0);
  subject.receive('a', states(state('a', 2, 'self')));
  subject.run(60_000, 'a');
  assert.equal(subject.node.members.standing('x'), 'dead');
});

test('where the dead take the room, the longest dead makes it for a newcomer', () => {
  const subject = new Subject({ statesMax: 32 });
  subject.link('a');
  const dead = Array.from({ length: 40 }, (_, i) => state(`d${i}`));
  subject.receive('a', states(state('a', 1, 'self'), ...dead));
  subject.run(1000, 'a');
  assert.equal(subject.node.members.states.size, 30);
  subject.receive('a', states(state('a', 2, 'self', 'new'), state('new', 1, 'a')));
  subject.run(2000, 'a');
  assert.equal(subject.node.members.standing('new'), 'alive');
  assert.equal(subject.node.members.standing('d0'), 'unknown');
  const gone = { type: 'states', purpose: 'sync', states: [state('d0')], gone: [5] } as const;
  subject.receive('a', gone);
  subject.run(3000, 'a');
  assert.equal(subject.node.members.standing('d0'), 'unknown');
});

const HOUR_MS = 3_600_000;
const gone = (seconds: number, ...list: LinkState[]): Message => ({
  type: 'states',
  purpose: 'sync',
  states: list,
  gone: list.map(() => seconds),
});

/** A member of a cluster of three for an hour; `d` has died in it. */
function longHere(config: Partial<Config> = {}): Subject {
  const subject = new Subject({ optimiseMs: 0, ...config });
  subject.link('a');
  subject.receive('a', states(state('a', 1, 'self', 'd'), state('d', 1, 'a')));
  subject.run(1000, 'a');
  assert.equal(subject.node.members.standing('d'), 'alive');
  subject.receive('a', states(state('a', 2, 'self')));
  subject.run(HOUR_MS, 'a');
  return subject;
}

test('nodes that never were are forgotten soon, however they are told of, and who lived here is not', () => {
  const made: Record<string, (...list: LinkState[]) => Message> = {
    'as alive': states,
    'as gone just now': (...list) => gone(1, ...list),
    'as gone for half an hour': (...list) => gone(1800, ...list),
    'as having left': (...list) => states(...list.map((one) => ({ ...one, left: true }))),
  };
  for (const [how, tell] of Object.entries(made)) {
    const subject = longHere();
    const { members } = subject.node;
    const count = 100;
    subject.receive('a', tell(...Array.from({ length: count }, (_, i) => state(`ghost-${i}`))));
    subject.run(HOUR_MS + 2000, 'a');
    assert.equal(members.states.size, 3 + count, how);
    const want = { type: 'want', graft: false, ids: ['ghost-1', 'd'] } as const;
    const [told] = sent(subject.receive('a', want), 'states');
    subject.run(HOUR_MS + 2 * DEFAULTS.rejoinPeriodMs + 70_000, 'a');
    assert.equal(members.states.size, 3, how);
    assert.equal(members.standing('d'), 'dead');

    const young = new Subject({ optimiseMs: 0 });
    young.link('a');
    if (told !== undefined) young.receive('a', told.message);
    young.run(2 * DEFAULTS.rejoinPeriodMs + 70_000, 'a');
    assert.equal(young.node.members.standing('ghost-1'), 'unknown', 'by whom it is told, too');
    assert.equal(young.node.members.standing('d'), 'dead');
  }
});

test('who died before this node came, or while it had no neighbours, is remembered for as long as others do', () => {
  const subject = new Subject({ optimiseMs: 0 });
  subject.run(HOUR_MS);
  subject.link('a');
  subject.run(HOUR_MS + 1000, 'a');
  subject.receive('a', gone(1800, state('x')));
  subject.run(3 * HOUR_MS, 'a');
  assert.equal(subject.node.members.standing('x'), 'dead');
});

test('nodes that never were take no room from the dead, nor from who comes', () => {
  const subject = longHere({ statesMax: 32 });
  const { members } = subject.node;
  for (let i = 0; i < 20; i++) {
    const ghosts = Array.from({ length: 20 }, (_, k) => state(`ghost-${i}-${k}`));
    subject.receive('a', i % 2 === 0 ? states(...ghosts) : gone(10_000, ...ghosts));
    subject.run(subject.now + 1000, 'a');
  }
  assert.equal(members.states.size, 30);
  assert.equal(members.standing('d'), 'dead');
  subject.receive('a', states(state('a', 3, 'self', 'new'), state('new', 1, 'a')));
  subject.run(subject.now + 1000, 'a');
  assert.equal(members.standing('new'), 'alive');
  assert.equal(members.standing('d'), 'dead');
  assert.equal(members.states.size, 30);
});

test('two nodes with one id contradict each other at a bounded pace', () => {
  const subject = new Subject();
  subject.link('a');
  subject.run(1000, 'a');
  let said = 0;
  for (let i = 0; i < 1000; i++) {
    const { incarnation } = subject.node.detector;
    const outputs = subject.receive(
      'a',
      states({ ...state('self'), incarnation: incarnation + 1 }),
    );
    outputs.push(...subject.run(subject.now + 10, 'a'));
    said += sent(outputs, 'states').length;
  }
  // 10 s, one every publishMs, after a burst of four
  assert.ok(said >= 10 && said <= 10_000 / DEFAULTS.publishMs + 5, `${said} states`);
});

test('a link that flaps does not flood the cluster, and the last word is said', () => {
  const subject = new Subject();
  subject.link('a');
  subject.run(1000, 'a');
  const outputs: Output[] = [];
  for (let i = 0; i < 250; i++) {
    outputs.push(...subject.receive('b', { type: 'neighbor', high: true }));
    outputs.push(...subject.run(subject.now + 50, 'a')); // flushMs: long enough to be told of
    outputs.push(...subject.node.handle({ type: 'unreachable', peer: 'b' }, subject.now));
    outputs.push(...subject.run(subject.now + 10, 'a'));
  }
  outputs.push(...subject.run(subject.now + 5000, 'a'));
  const own = sent(outputs, 'states').filter(({ to }) => to === 'a');
  // a failure is told of at once, but only of a link that was told of, and that is paced: 20 s, two every publishMs
  assert.ok(
    own.length >= 20 && own.length <= (2 * 20_000) / DEFAULTS.publishMs + 9,
    `${own.length}`,
  );
  assert.deepEqual(own.at(-1)?.message.states[0]?.neighbours, ['a']);
});

test('a neighbour that joins again and again does not send as many walks through the cluster', () => {
  const subject = new Subject();
  subject.link('a', 'b');
  let walks = 0;
  for (let i = 0; i < 1000; i++) {
    const outputs = subject.receive('a', { type: 'join' });
    assert.equal(sent(outputs, 'neighbor-reply')[0]?.message.accepted, true);
    walks += sent(outputs, 'forward-join').length;
  }
  assert.equal(walks, DEFAULTS.joinsPerSecondMax);
});

test('a new neighbour is told of all that is in the cache, in as many messages as it takes', () => {
  const subject = new Subject();
  const count = 2 * DEFAULTS.announcementsMax + 7;
  const payload = Uint8Array.of(1);
  for (let i = 0; i < count; i++)
    subject.node.handle({ type: 'broadcast', payload, priority: 'normal' }, 0);
  subject.link('a');
  const told = sent(subject.run(DEFAULTS.lazyMs), 'ihave').map(({ message }) => message);
  assert.deepEqual(
    told.map(({ announcements }) => announcements.length),
    [DEFAULTS.announcementsMax, DEFAULTS.announcementsMax, 7],
  );
  assert.equal(new Set(told.flatMap((m) => m.announcements.map(({ id }) => id))).size, count);
});

test('a neighbour that announces what it never sends does not stop what others announce', () => {
  const subject = new Subject();
  subject.link('a', 'b');
  for (let i = 0; i < 20; i++) {
    const announcements = Array.from({ length: 500 }, (_, k) => ({
      id: `o 1 ${i * 500 + k}`,
      hop: 1,
    }));
    subject.receive('a', { type: 'ihave', announcements });
  }
  assert.equal(subject.node.tree.sizes.missing, 2048);
  subject.receive('b', { type: 'ihave', announcements: [{ id: 'o 2 1', hop: 1 }] });
  const grafts = sent(subject.run(DEFAULTS.graftFirstMs), 'graft').filter(({ to }) => to === 'b');
  assert.deepEqual(
    grafts.map(({ message }) => message.id),
    ['o 2 1'],
  );
  subject.run(2 * DEFAULTS.graftFirstMs + DEFAULTS.graftNextMs);
  assert.equal(subject.node.tree.sizes.missing, 0);
  subject.receive('a', { type: 'ihave', announcements: [{ id: 'o 3 1', hop: 1 }] });
  assert.equal(subject.node.tree.sizes.missing, 1, 'its account is even again');
});

test('of many states of one node within flushMs only the newest is passed on', () => {
  const subject = new Subject();
  subject.link('a', 'b');
  subject.run(1000, 'a', 'b');
  for (let i = 1; i <= 100; i++) {
    subject.receive('a', { type: 'states', purpose: 'tree', states: [state('x', i)] });
  }
  const passed = sent(subject.run(1100, 'a', 'b'), 'states').filter(({ to }) => to === 'b');
  assert.deepEqual(
    passed.flatMap(({ message }) => message.states.map(({ sequence }) => sequence)),
    [100],
  );
});

test('settings whose frames others would refuse are refused first, with their limit', () => {
  const make = (config: Partial<Config>, incarnation = 1, self = peer('self')): Node =>
    new Node({ self, random: sfc32(1), incarnation, config });
  assert.throws(() => make({ activeMax: 33 }), /activeMax is 33, at most 32 fits a frame/);
  assert.throws(() => make({ activeMax: 0 }), /activeMax is 0, at least 2 is needed/);
  assert.throws(() => make({ payloadBytesMax: LIMITS.frameBytes }), /payloadBytesMax is 4194304/);
  assert.throws(() => make({}, 1.5), /incarnation is 1.5, a whole number/);
  assert.throws(() => make({}, 2 ** 52), /incarnation is 4503599627370496/);
  assert.throws(() => make({}, 1, peer('x'.repeat(65))), /longer than 64/);
});
