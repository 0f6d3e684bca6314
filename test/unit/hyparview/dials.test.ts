/** No member makes this host dial whom it likes, as often as it likes; what the protocol itself needs goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Dials } from '../../../src/hyparview-ts/dials.ts';
import { DEFAULTS } from '../../../src/hyparview-ts/index.ts';
import type { LinkState, Message, Output, Peer } from '../../../src/hyparview-ts/index.ts';
import { message } from './arbitrary.ts';
import { peer, sent, Subject } from './subject.ts';

const { toldDialsBurst, toldDialsPerSecond } = DEFAULTS;

/** Where to a connection has to be made: to all but neighbours, and who spoke just now. */
class Watch {
  readonly #linked: Set<string>;

  constructor(...linked: string[]) {
    this.#linked = new Set(linked);
  }

  dials(outputs: readonly Output[], from = ''): Peer[] {
    const dials: Peer[] = [];
    for (const output of outputs) {
      if (output.type === 'dial') {
        if (output.peer.id !== from) dials.push(output.peer);
        this.#linked.add(output.peer.id);
      } else if (output.type === 'drop') {
        this.#linked.delete(output.peer.id);
      } else if (output.type === 'send') {
        const { id } = output.to;
        if (id !== from && !this.#linked.has(id)) dials.push(output.to);
      }
    }
    return dials;
  }
}

const stranger = (n: number): Peer => peer(`ghost-${n}`, `192.0.2.${n % 256}:${n}`);

/** With itself as its origin nobody has to be dialled for it. */
const listOf = (origin: Peer, peers: Peer[]): Message => ({
  type: 'shuffle',
  origin,
  ttl: 0,
  peers,
});

/** What a neighbour may say so that this host speaks to that peer. */
const ASKING: Readonly<Record<string, (told: Peer) => Message>> = {
  ForwardJoin: (told) => ({ type: 'forward-join', peer: told, ttl: 0 }),
  Shuffle: (told) => ({ type: 'shuffle', origin: told, ttl: 0, peers: [peer('x')] }),
};

for (const [what, says] of Object.entries(ASKING)) {
  test(`a neighbour's ${what} about made-up peers makes this host dial at a rate, and what is withheld is counted`, () => {
    const subject = new Subject();
    subject.link('bad');
    const watch = new Watch('bad');
    let told = 0;
    const tell = (times: number): number => {
      let dials = 0;
      for (let i = 0; i < times; i++) {
        told += 1;
        dials += watch.dials(subject.receive('bad', says(stranger(told))), 'bad').length;
        // refused at once, so that no request is under way
        subject.node.handle({ type: 'unreachable', peer: stranger(told).id }, subject.now);
      }
      return dials;
    };
    assert.equal(tell(1000), toldDialsBurst);
    assert.equal(subject.node.snapshot().withheld.told, 1000 - toldDialsBurst);
    let later = 0;
    for (let i = 0; i < 600; i++) {
      subject.now += 100;
      later += tell(10);
    }
    assert.ok(Math.abs(later - 60 * toldDialsPerSecond) <= 1, `${later} dials in a minute`);
  });
}

test('whatever is said by whomever, no more is dialled than told and own ones may be', () => {
  const who = fc.constantFrom('a', 'b', 'c');
  const asking = fc
    .tuple(fc.constantFrom(...Object.values(ASKING)), fc.nat({ max: 99 }))
    .map(([says, n]) => says(stranger(n)));
  const step = fc.tuple(fc.nat({ max: 400 }), who, fc.oneof(message, asking));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const config = {
        toldDialsPerSecond: 1,
        toldDialsBurst: 3,
        ownDialsPerSecond: 1,
        ownDialsBurst: 4,
        rejoinMs: 1e9, // knocks have a pace of their own
      };
      const subject = new Subject(config);
      subject.link('a', 'b');
      const watch = new Watch('a', 'b');
      let dials = 0;
      for (const [afterMs, from, said] of steps) {
        dials += watch.dials(subject.run(subject.now + afterMs)).length;
        dials += watch.dials(subject.receive(from, said), from).length;
      }
      const most = 3 + 4 + 2 * Math.ceil(subject.now / 1000);
      assert.ok(dials <= most, `${dials} dials, ${most} allowed`);
    }),
    { numRuns: 300 },
  );
});

test('what others ask for takes nothing from the repair of links', () => {
  const subject = new Subject({ passiveMax: 42, ownDialsBurst: 20 });
  subject.link('bad', 'b', 'c');
  const known = Array.from({ length: 42 }, (_, i) => peer(`p${i}`));
  subject.receive('bad', listOf(peer('bad'), known));
  for (let n = 0; n < 2 * toldDialsBurst; n++) {
    subject.receive('bad', { type: 'shuffle', origin: stranger(n), ttl: 0, peers: [] });
    // the shuffle left its origin in the passive view
    subject.node.handle({ type: 'unreachable', peer: stranger(n).id }, 0);
  }
  subject.receive('bad', listOf(peer('bad'), known));
  assert.ok(subject.node.snapshot().withheld.told > 0);
  const outputs = subject.node.handle({ type: 'unreachable', peer: 'b' }, 0);
  const missing = DEFAULTS.activeMax - 2;
  assert.equal(sent(outputs, 'neighbor').length, missing);
  assert.equal(subject.node.snapshot().withheld.repair, 0);
});

/** A neighbour that says it has these neighbours, wherever they are. */
function helpersOf(id: string, count: number): Message {
  const states: LinkState[] = [];
  const neighbours = Array.from({ length: count }, (_, i) => `h${i}`);
  const base = { incarnation: 1, sequence: 1, left: false };
  states.push({ ...base, origin: peer(id), neighbours });
  for (const helper of neighbours) states.push({ ...base, origin: peer(helper), neighbours: [] });
  return { type: 'states', purpose: 'sync', states };
}

test('a neighbour that falls silent again and again has its helpers asked at a rate, and repair goes on', () => {
  const config = { ownDialsPerSecond: 1, ownDialsBurst: 40, rejoinMs: 1e9, optimiseMs: 0 };
  const subject = new Subject(config);
  subject.link('bad', 'b');
  subject.receive('bad', helpersOf('bad', 8));
  let asked = 0;
  for (let i = 0; i < 100; i++) {
    const outputs = subject.run(subject.now + 1300, 'b');
    asked += sent(outputs, 'suspect').filter(({ to }) => to.startsWith('h')).length;
    subject.receive('bad', { type: 'prune', states: false }); // it lives
  }
  assert.ok(subject.node.views.active.has('bad'));
  const most = 20 + subject.now / 1000 + 1;
  assert.ok(asked > most / 2 && asked <= most, `${asked} asked, ${most} allowed`);
  const known = [peer('p1'), peer('p2')];
  subject.receive('bad', listOf(peer('bad'), known));
  const outputs = subject.node.handle({ type: 'unreachable', peer: 'b' }, subject.now);
  assert.equal(sent(outputs, 'neighbor').length, 2);
});

test('to one address go few dials at once, whoever is said to be there', () => {
  const subject = new Subject();
  subject.link('bad');
  const watch = new Watch('bad');
  const to = '198.51.100.1:443';
  let dials = 0;
  const tell = (from: number): void => {
    for (let n = from; n < from + 50; n++) {
      const origin = peer(`ghost-${n}`, to);
      const outputs = subject.receive('bad', { type: 'shuffle', origin, ttl: 0, peers: [] });
      dials += watch.dials(outputs).filter(({ address }) => address === to).length;
    }
  };
  tell(0);
  assert.equal(dials, DEFAULTS.dialsPerAddressMax);
  const elsewhere = { type: 'shuffle', origin: peer('x'), ttl: 0, peers: [] } as const;
  assert.equal(watch.dials(subject.receive('bad', elsewhere)).length, 1);
  subject.now += 3000;
  tell(100);
  assert.equal(dials, 2 * DEFAULTS.dialsPerAddressMax);
});

test('made-up peers at the address of an honest one take no place that the protocol itself needs there', () => {
  const subject = new Subject();
  subject.link('bad', 'good');
  const honest = peer('honest');
  for (let n = 0; n < 50; n++) {
    const ghost = peer(`ghost-${n}`, honest.address);
    subject.receive('bad', { type: 'forward-join', peer: ghost, ttl: 0 });
  }
  assert.ok(subject.node.snapshot().withheld.told > 0);
  subject.receive('bad', listOf(peer('bad'), [honest]));
  const outputs = subject.node.handle({ type: 'unreachable', peer: 'good' }, 0);
  assert.ok(sent(outputs, 'neighbor').some(({ to }) => to === 'honest'));
  const dials = new Dials(DEFAULTS);
  const needs = ['told', 'look', 'repair', 'knock'] as const;
  for (const need of needs) {
    let allowed = 0;
    for (let n = 0; n < 20; n++) allowed += Number(dials.allows(peer(`${n}`, 'one'), need, 0));
    assert.equal(allowed, DEFAULTS.dialsPerAddressMax, need);
  }
});

test('each dial keeps its place at its address for the time that a dial takes, and no longer', () => {
  const need = fc.constantFrom('told', 'look', 'repair', 'knock');
  const who = fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'a d', 'd'),
    address: fc.constantFrom('1', '1 a'),
  });
  const step = fc.tuple(fc.nat({ max: 1500 }), need, who);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const dials = new Dials({ ...DEFAULTS, dialsPerAddressMax: 2 });
      let made: { need: string; id: string; address: string; at: number }[] = [];
      let now = 0;
      for (const [afterMs, need_, { id, address }] of steps) {
        now += afterMs;
        made = made.filter(({ at }) => at > now - 3000);
        const there = made.filter((dial) => dial.need === need_ && dial.address === address);
        const ids = new Set(there.map((dial) => dial.id));
        const isRoom = ids.size < 2 || ids.has(id);
        assert.equal(dials.allows(peer(id, address), need_, now), isRoom);
        if (isRoom) made.push({ need: need_, id, address, at: now });
        const all = new Set(made.map((dial) => `${dial.need}/${dial.address}/${dial.id}`));
        assert.equal(dials.underWayCount, all.size);
      }
    }),
  );
});

const toDead = (origin: Peer): LinkState => ({
  origin,
  incarnation: 1,
  sequence: 1,
  left: false,
  neighbours: [],
});

/** A lone survivor: when it knocks at whom of these. */
function knocksAt(dead: readonly Peer[], untilMs: number): Map<string, number[]> {
  const subject = new Subject();
  subject.link('a');
  for (let at = 0; at < dead.length; at += 200) {
    const states = dead.slice(at, at + 200).map(toDead);
    const gone = states.map(() => 1);
    subject.receive('a', { type: 'states', purpose: 'sync', states, gone });
  }
  subject.node.handle({ type: 'unreachable', peer: 'a' }, 0);
  const knocks = new Map<string, number[]>();
  while (subject.now < untilMs) {
    for (const { to } of sent(subject.run(subject.now + 250), 'neighbor'))
      knocks.set(to, [...(knocks.get(to) ?? []), subject.now]);
  }
  return knocks;
}

const crowd = (count: number): Peer[] =>
  Array.from({ length: count }, (_, i) => peer(`d${i}`, '198.51.100.1:443'));

test('the dead at one address are knocked at few at a time', () => {
  const seconds = 100;
  const knocks = [...knocksAt(crowd(3000), seconds * 1000).values()].flat().length;
  assert.ok(knocks > 0 && knocks <= DEFAULTS.dialsPerAddressMax * (1 + seconds / 3), `${knocks}`);
});

const longestPause = (times: readonly number[], untilMs: number): number =>
  Math.max(...[...times, untilMs].map((at, i) => at - (times[i - 1] ?? 0)));

test('three hundred dead ones at one address are knocked at every five minutes, each, and others no less for it', () => {
  const untilMs = 1_800_000;
  const elsewhere = Array.from({ length: 20 }, (_, i) => peer(`e${i}`));
  const dead = [...crowd(300), ...elsewhere];
  const knocks = knocksAt(dead, untilMs);
  for (const { id } of dead) {
    const pause = longestPause(knocks.get(id) ?? [], untilMs);
    assert.ok(pause <= DEFAULTS.rejoinPeriodMs, `${id}: ${pause} ms`);
  }
});

test('more dead ones at one address than can be knocked at in time take turns, and hold up nobody elsewhere', () => {
  const untilMs = 1_800_000;
  const elsewhere = Array.from({ length: 20 }, (_, i) => peer(`e${i}`));
  const many = crowd(1000);
  const knocks = knocksAt([...many, ...elsewhere], untilMs);
  for (const { id } of elsewhere) {
    const pause = longestPause(knocks.get(id) ?? [], untilMs);
    assert.ok(pause <= DEFAULTS.rejoinPeriodMs, `${id}: ${pause} ms`);
  }
  const times = many.map(({ id }) => knocks.get(id)?.length ?? 0);
  assert.ok(Math.min(...times) >= 1 && Math.max(...times) <= 4, times.join(' '));
});

test('a neighbour that gives up its link again and again has no peers of its own making asked', () => {
  const subject = new Subject({ optimiseMs: 0 });
  subject.link('good');
  let named = 0;
  const asked = new Set<string>();
  for (let i = 0; i < 100; i++) {
    subject.receive('bad', { type: 'neighbor', high: true });
    const peers = Array.from({ length: 40 }, () => stranger(++named));
    subject.receive('bad', { type: 'neighbor-reply', accepted: false, peers });
    const outputs = subject.receive('bad', { type: 'disconnect', leaving: false });
    outputs.push(...subject.run(subject.now + 200, 'good'));
    for (const { to } of sent(outputs, 'neighbor')) asked.add(to);
  }
  assert.deepEqual([...asked], ['bad']);
  assert.equal(subject.node.snapshot().withheld.repair, 0);
});

test('for a shuffle whose reply is withheld nobody is given up', () => {
  const subject = new Subject({ passiveMax: 10, toldDialsBurst: 1, toldDialsPerSecond: 0 });
  subject.link('bad');
  const known = Array.from({ length: 9 }, (_, i) => peer(`p${i}`));
  subject.receive('bad', listOf(peer('bad'), known));
  const passive = (): string[] => subject.node.views.passive.peers.map(({ id }) => id).toSorted();
  const ids = known.map(({ id }) => id);
  const shuffle = (n: number): void => {
    const outputs = subject.receive('bad', listOf(peer(`o${n}`), [peer(`x${n}`), peer(`y${n}`)]));
    assert.equal(sent(outputs, 'shuffle-reply').length, n === 1 ? 1 : 0);
  };
  shuffle(1);
  const swapped = passive();
  assert.ok(swapped.includes('o1') && swapped.includes('x1') && swapped.includes('y1'));
  assert.equal(swapped.filter((id) => ids.includes(id)).length, 7);
  shuffle(2);
  assert.deepEqual(passive(), swapped);
  subject.node.handle({ type: 'unreachable', peer: 'o1' }, 0);
  shuffle(3);
  assert.ok(passive().includes('o3'), 'where there is room, they are taken');
});

test('a neighbour is spoken to where it is, wherever others say that it is', () => {
  const subject = new Subject();
  subject.link('bad', 'b');
  const origin = peer('b', '198.51.100.1:443');
  const [reply] = subject
    .receive('bad', { type: 'shuffle', origin, ttl: 0, peers: [peer('c')] })
    .filter(({ type }) => type === 'send');
  assert.deepEqual(reply?.type === 'send' && reply.to, peer('b'));
});

test('an exchange of links ends in a link to who asked for it, and to nobody that is named in its place', () => {
  const exchange = (named: Peer): Subject => {
    const subject = new Subject({ activeMax: 3, optimiseMs: 0 });
    subject.link('a', 'b', 'c');
    const asked = subject.receive('near', { type: 'optimise', old: peer('far') });
    const [replace] = sent(asked, 'optimise-replace');
    assert.ok(replace);
    subject.receive(replace.to, {
      type: 'optimise-reply',
      stage: 'replace',
      accepted: true,
      initiator: named,
      old: peer('far'),
    });
    return subject;
  };
  assert.ok(exchange(peer('near')).node.views.active.has('near'));
  const { active } = exchange(peer('victim', '198.51.100.1:443')).node.views;
  assert.ok(!active.has('victim'));
  const there = exchange(peer('near', '198.51.100.1:443')).node.views.active.get('near');
  assert.deepEqual(there, peer('near'), 'at the address that it told itself');
});
