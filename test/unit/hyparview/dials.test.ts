/** No member makes this host dial whom it likes, as often as it likes; what the protocol itself needs goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
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

/** What a neighbour may say so that this host speaks to that peer. */
const ASKING: Readonly<Record<string, (told: Peer) => Message>> = {
  ForwardJoin: (told) => ({ type: 'forward-join', peer: told, ttl: 0 }),
  Shuffle: (told) => ({ type: 'shuffle', origin: told, ttl: 0, peers: [peer('x')] }),
  'optimise-replace': (told) => ({ type: 'optimise-replace', initiator: told, old: told }),
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
  subject.receive('bad', { type: 'neighbor-reply', accepted: false, peers: known });
  for (let n = 0; n < 2 * toldDialsBurst; n++) {
    subject.receive('bad', { type: 'shuffle', origin: stranger(n), ttl: 0, peers: [] });
    // the shuffle left its origin in the passive view
    subject.node.handle({ type: 'unreachable', peer: stranger(n).id }, 0);
  }
  subject.receive('bad', { type: 'neighbor-reply', accepted: false, peers: known });
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
  subject.receive('bad', { type: 'neighbor-reply', accepted: false, peers: known });
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

test('the dead at one address are knocked at few at a time', () => {
  const subject = new Subject();
  subject.link('a');
  const dead = Array.from({ length: 3000 }, (_, i): LinkState => {
    const origin = peer(`d${i}`, '198.51.100.1:443');
    return { origin, incarnation: 1, sequence: 1, left: false, neighbours: [] };
  });
  subject.receive('a', { type: 'states', purpose: 'sync', states: dead });
  subject.node.handle({ type: 'unreachable', peer: 'a' }, 0);
  let knocks = 0;
  const seconds = 100;
  while (subject.now < seconds * 1000)
    knocks += sent(subject.run(subject.now + 250), 'neighbor').length;
  assert.ok(knocks > 0 && knocks <= DEFAULTS.dialsPerAddressMax * (1 + seconds / 3), `${knocks}`);
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
