/** Which upstreams are asked, when, and whose answer is taken: in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer } from 'dns-packet';
import {
  a,
  answering,
  dataOf,
  decoded,
  failing,
  ForwardWorld,
  nameOf,
  queryFor,
  replyTo,
  settingsOf,
  silent,
  upstream,
  type Behaviour,
  type Sent,
} from '../../harness/forward-world.ts';

const A = '192.0.2.1:53';
const B = '192.0.2.2:53';
const C = '192.0.2.3:53';
const D = '[2001:db8::4]:53';

function worldOf(behaviours: Record<string, Behaviour>, more = {}): ForwardWorld {
  const world = new ForwardWorld(settingsOf(Object.keys(behaviours), more));
  for (const [label, behaviour] of Object.entries(behaviours))
    world.upstreams.set(label, behaviour);
  return world;
}

/** So that all are known, and none is due to be asked along. */
function acquaint(world: ForwardWorld): void {
  for (let i = 0; i < 30; i++) {
    world.resolve(queryFor(`known-${i}.example`));
    world.pass(100);
  }
  world.sends.length = 0;
}

const asked = (world: ForwardWorld): string[] => world.sends.map((sent) => sent.upstream);

test('a question goes to two upstreams at once and the first good answer is taken', () => {
  const world = worldOf({ [A]: answering('10.0.0.1', 20), [B]: answering('10.0.0.2', 5) });
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual(asked(world), [A, B]);
  assert.deepEqual(dataOf(answer), ['10.0.0.2']);
  assert.equal(atMs - askedMs, 5);
  assert.equal(answer.from, 'upstream');
  assert.equal(answer.upstream, B);
  assert.deepEqual(answer.attempts, [
    { upstream: A, transport: 'udp', ms: 5, result: 'pending' },
    { upstream: B, transport: 'udp', ms: 5, result: 'good' },
  ]);
});

test('IPv6 upstreams are asked as others are', () => {
  const world = worldOf({ [D]: answering('10.0.0.4', 5) });
  assert.equal(world.resolve(queryFor('www.example')).asked.upstream, D);
});

test('of those that do not fail the two fastest are asked, and each unknown one once before', () => {
  const world = worldOf({
    [A]: answering('10.0.0.1', 50),
    [B]: answering('10.0.0.2', 20),
    [C]: answering('10.0.0.3', 1),
    [D]: answering('10.0.0.4', 5),
  });
  const pairs: string[][] = [];
  for (let i = 0; i < 4; i++) {
    world.sends.length = 0;
    world.resolve(queryFor(`n${i}.example`));
    world.pass(900);
    pairs.push(asked(world).slice(0, 2));
  }
  assert.deepEqual(pairs, [
    [A, B],
    [B, C],
    [C, D],
    [C, D],
  ]);
});

test('SERVFAIL, REFUSED, NOTIMP, FORMERR, lame and broken replies lose against a good one', () => {
  const bad: Record<string, Behaviour> = {
    servfail: failing(2),
    refused: failing(5),
    notimp: failing(4),
    formerr: failing(1),
    rcode: failing(9),
    lame: ({ bytes }) => [
      {
        afterMs: 1,
        bytes: replyTo(bytes, {
          authorities: [{ type: 'NS', name: 'example', ttl: 60, data: 'ns.example' }],
        }),
      },
    ],
    unparsable: ({ bytes }) => {
      const reply = replyTo(bytes, { answers: [a('www.example', '10.6.6.6')] });
      return [{ afterMs: 1, bytes: reply.subarray(0, reply.length - 3) }];
    },
    unrelated: ({ bytes }) => [
      { afterMs: 1, bytes: replyTo(bytes, { answers: [a('other.example', '10.6.6.6')] }) },
    ],
    unreachable: () => [{ afterMs: 1, why: 'unreachable' }],
  };
  for (const [result, behaviour] of Object.entries(bad)) {
    const world = worldOf({ [A]: behaviour, [B]: answering('10.0.0.2', 8) });
    const { asked: answer, atMs, askedMs } = world.resolve(queryFor('www.example'));
    assert.deepEqual(dataOf(answer), ['10.0.0.2'], result);
    assert.equal(atMs - askedMs, 8, result);
    assert.deepEqual([answer.attempts[0]?.upstream, answer.attempts[0]?.result], [A, result]);
    world.settle();
    const [standing] = world.machine.stats(world.nowMs).upstreams;
    const state = result === 'unreachable' ? 'failing' : 'unsteady';
    assert.equal(standing?.state, state, `${result} counts as a failure`);
  }
});

test('at a loss the next one is asked at once', () => {
  const world = worldOf({ [A]: failing(2, 3), [B]: silent, [C]: answering('10.0.0.3', 4) });
  const { atMs, askedMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual(asked(world), [A, B, C]);
  assert.equal(atMs - askedMs, 7);
});

test('if all say SERVFAIL then SERVFAIL is the answer, at once; none of them is to blame', () => {
  const world = worldOf({ [A]: failing(2, 3), [B]: failing(2, 4), [C]: failing(2, 5) });
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('broken.example'));
  assert.equal(decoded(answer).rcode, 2);
  assert.equal(answer.from, 'failure');
  assert.equal(atMs - askedMs, 8, '3 ms for A, then C');
  for (const { state } of world.machine.stats(world.nowMs).upstreams)
    assert.equal(state, 'unknown');
});

test('if all say REFUSED then REFUSED is the answer; of a mixture it is SERVFAIL', () => {
  const alike = worldOf({ [A]: failing(5), [B]: failing(5), [C]: failing(5) });
  assert.equal(alike.resolve(queryFor('www.example')).asked.rcode, 5);
  const mixed = worldOf({ [A]: failing(5), [B]: failing(4), [C]: failing(5) });
  assert.equal(mixed.resolve(queryFor('www.example')).asked.rcode, 2);
  const silence = worldOf({ [A]: failing(5), [B]: silent });
  assert.equal(silence.resolve(queryFor('www.example')).asked.rcode, 2);
});

test('NXDOMAIN is an answer', () => {
  const world = worldOf({ [A]: failing(3, 2), [B]: answering('10.0.0.2', 8) });
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('no.example'));
  assert.equal(answer.rcode, 3);
  assert.equal(atMs - askedMs, 2);
});

test('while two are silent a third is asked, as late as the fastest one usually is by far, then others', () => {
  const world = worldOf({
    [A]: answering('10.0.0.1', 20),
    [B]: answering('10.0.0.2', 30),
    [C]: answering('10.0.0.3', 40),
    [D]: answering('10.0.0.4', 50),
  });
  acquaint(world);
  world.upstreams.set(A, silent);
  world.upstreams.set(B, silent);
  world.upstreams.set(C, silent);
  const { askedMs, asked: answer } = world.resolve(queryFor('www.example'));
  assert.deepEqual(asked(world).slice(0, 2), [A, B]);
  assert.deepEqual(asked(world).slice(2).sort(), [C, D].sort());
  const [third, fourth] = world.sends.slice(2).map(({ atMs }) => atMs - askedMs);
  assert.ok(third !== undefined && third >= 20 && third <= 30, `third after ${third}`);
  assert.ok(
    fourth !== undefined && Math.abs(fourth - 3 * third) < 1e-6,
    'each gap is twice as long',
  );
  assert.deepEqual(dataOf(answer), ['10.0.0.4']);
});

test('one upstream alone is asked again while it is silent', () => {
  let count = 0;
  const world = worldOf({
    [A]: (sent) => (++count < 3 ? [] : answering('10.0.0.1', 5)(sent)),
  });
  const { askedMs, atMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual(
    world.sends.map((sent) => sent.atMs - askedMs),
    [0, 250, 750],
  );
  assert.equal(atMs - askedMs, 755);
});

test('whoever is asked while all are silent has SERVFAIL before the bound', () => {
  for (const timeoutMs of [100, 800, 2000]) {
    const world = worldOf({ [A]: silent, [B]: silent }, { timeoutMs });
    const { asked: answer, askedMs, atMs } = world.resolve(queryFor('www.example'));
    assert.equal(answer.rcode, 2);
    assert.equal(atMs - askedMs, timeoutMs - Math.max(5, timeoutMs / 50));
  }
});

test('an answer that comes just before the bound is taken', () => {
  const world = worldOf({ [A]: answering('10.0.0.1', 1959), [B]: silent });
  assert.deepEqual(dataOf(world.resolve(queryFor('www.example')).asked), ['10.0.0.1']);
});

test('one that is silent is asked as one of two no longer, and comes back when it answers', () => {
  const world = worldOf({
    [A]: answering('10.0.0.1', 1),
    [B]: answering('10.0.0.2', 10),
    [C]: answering('10.0.0.3', 20),
  });
  acquaint(world);
  world.upstreams.set(A, silent);
  for (let i = 0; i < 20; i++) {
    world.resolve(queryFor(`out-${i}.example`));
    world.pass(200);
  }
  world.sends.length = 0;
  world.resolve(queryFor('one.example'));
  assert.deepEqual(asked(world), [B, C]);
  world.upstreams.set(A, answering('10.0.0.1', 1));
  const firsts: string[] = [];
  let withA = 0;
  for (let i = 0; i < 100; i++) {
    world.sends.length = 0;
    world.resolve(queryFor(`back-${i}.example`));
    const [first = ''] = asked(world);
    firsts.push(first);
    if (asked(world).includes(A)) {
      withA += 1;
      assert.ok(asked(world).length >= 2, 'a probe is never the only one');
    }
    world.pass(200);
  }
  assert.equal(firsts[0], B, 'not at once');
  assert.equal(firsts.at(-1), A, 'but soon');
  assert.ok(withA > 0);
});

test('who is neither first nor second is asked along now and then, and moves up when it is faster', () => {
  const world = worldOf({
    [A]: answering('10.0.0.1', 10),
    [B]: answering('10.0.0.2', 20),
    [C]: answering('10.0.0.3', 30),
  });
  acquaint(world);
  world.upstreams.set(C, answering('10.0.0.3', 1));
  for (let i = 0; i < 60; i++) {
    world.resolve(queryFor(`n-${i}.example`));
    world.pass(1000);
  }
  world.sends.length = 0;
  world.resolve(queryFor('last.example'));
  assert.equal(asked(world)[0], C);
});

test('one lost packet does not put a fast upstream behind a slow one', () => {
  let isLost = false;
  const world = worldOf({
    [A]: (sent) => (isLost ? [] : answering('10.0.0.1', 1)(sent)),
    [B]: answering('10.0.0.2', 50),
    [C]: answering('10.0.0.3', 60),
  });
  for (let i = 0; i < 30; i++) {
    world.resolve(queryFor(`n-${i}.example`));
    world.pass(100);
  }
  isLost = true;
  world.resolve(queryFor('lost.example'));
  isLost = false;
  world.pass(1500);
  world.sends.length = 0;
  world.resolve(queryFor('next.example'));
  assert.deepEqual(asked(world).slice(0, 2), [A, B]);
});

test('names of a zone go to its upstreams: the longest suffix counts, at whole labels', () => {
  const zones = new Map([
    ['', [upstream(A)]],
    ['corp.example', [upstream(B)]],
    ['deep.corp.example', [upstream(C)]],
  ]);
  const world = new ForwardWorld(settingsOf([], { zones }));
  for (const label of [A, B, C]) world.upstreams.set(label, answering('10.0.0.1'));
  const via = (name: string): string | undefined => world.resolve(queryFor(name)).asked.upstream;
  assert.equal(via('example'), A);
  assert.equal(via('corp.example'), B);
  assert.equal(via('a.b.CORP.example'), B);
  assert.equal(via('x.deep.corp.example'), C);
  assert.equal(via('xcorp.example'), A);
});

test('a zone without upstreams has SERVFAIL at once', () => {
  const world = new ForwardWorld(settingsOf([]));
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('www.example'));
  assert.deepEqual([answer.rcode, atMs - askedMs, answer.from], [2, 0, 'failure']);
});

test('a truncated answer is asked for over TCP', () => {
  const world = worldOf({
    [A]: ({ bytes, transport }) => [
      {
        afterMs: 2,
        bytes:
          transport === 'udp'
            ? replyTo(bytes, { flags: 0x200 })
            : replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }),
      },
    ],
  });
  const { asked: answer } = world.resolve(queryFor('big.example'));
  assert.deepEqual(dataOf(answer), ['10.0.0.1']);
  assert.deepEqual(
    answer.attempts.map(({ transport, result }) => [transport, result]),
    [
      ['udp', 'truncated'],
      ['tcp', 'good'],
    ],
  );
});

test('where TCP fails after a truncated answer another upstream is asked', () => {
  const world = worldOf({
    [A]: ({ bytes, transport }) =>
      transport === 'udp'
        ? [{ afterMs: 2, bytes: replyTo(bytes, { flags: 0x200 }) }]
        : [{ afterMs: 2, why: 'unreachable' }],
    [B]: silent,
    [C]: answering('10.0.0.3', 2),
  });
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('big.example'));
  assert.deepEqual([dataOf(answer), atMs - askedMs], [['10.0.0.3'], 6]);
});

test('a silent TCP attempt is made once more, and the same upstream is not asked by UDP meanwhile', () => {
  let byTcp = 0;
  const world = worldOf({
    [A]: ({ bytes, transport }) => {
      if (transport === 'udp') return [{ afterMs: 2, bytes: replyTo(bytes, { flags: 0x200 }) }];
      byTcp += 1;
      if (byTcp === 1) return [];
      return [{ afterMs: 2, bytes: replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }) }];
    },
  });
  const { asked: answer, atMs, askedMs } = world.resolve(queryFor('big.example'));
  assert.deepEqual(
    answer.attempts.map(({ transport, result }) => [transport, result]),
    [
      ['udp', 'truncated'],
      ['tcp', 'timeout'],
      ['tcp', 'good'],
    ],
  );
  assert.equal(atMs - askedMs, 2 + 2000 / 8 + 2, 'an eighth of the bound is late');
});

test('where TCP is silent for good it is tried twice, and those who are silent by UDP are asked again', () => {
  const world = worldOf({
    [A]: ({ bytes, transport }) =>
      transport === 'udp' ? [{ afterMs: 2, bytes: replyTo(bytes, { flags: 0x200 }) }] : [],
    [B]: silent,
  });
  assert.equal(world.resolve(queryFor('big.example')).asked.rcode, 2);
  const sent = world.sends.map((one) => `${one.upstream} ${one.transport}`);
  assert.equal(sent.filter((one) => one === `${A} tcp`).length, 2);
  assert.equal(sent.filter((one) => one === `${A} udp`).length, 1);
  assert.ok(sent.filter((one) => one === `${B} udp`).length > 1);
});

test('who does not understand EDNS is asked without it, and without it from then on', () => {
  const world = worldOf({
    [A]: ({ bytes }) => [
      {
        afterMs: 1,
        bytes:
          bytes[11] === 1
            ? replyTo(bytes, { rcode: 1 })
            : replyTo(bytes, { answers: [a(nameOf(bytes), '10.0.0.1')] }),
      },
    ],
  });
  assert.deepEqual(dataOf(world.resolve(queryFor('one.example')).asked), ['10.0.0.1']);
  assert.deepEqual(
    world.sends.map(({ bytes }) => bytes[11]),
    [1, 0],
  );
  world.resolve(queryFor('two.example'));
  assert.deepEqual(
    world.sends.map(({ bytes }) => bytes[11]),
    [1, 0, 0],
  );
});

const hasOpt = (bytes: Uint8Array): boolean => bytes[11] === 1;
const isOdd = (bytes: Uint8Array): boolean => nameOf(bytes).toLowerCase().startsWith('odd');
const OPT: Answer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};

/** It has EDNS, but for odd names. */
const withEdns =
  (afterMs: number): Behaviour =>
  ({ bytes }) => {
    if (hasOpt(bytes) && isOdd(bytes)) return failing(1, afterMs)({ bytes } as Sent);
    const answers = [a(nameOf(bytes), '10.0.0.1')];
    const additionals = hasOpt(bytes) ? [OPT] : [];
    return [{ afterMs, bytes: replyTo(bytes, { answers, additionals }) }];
  };

const withoutEdns =
  (data: string, afterMs: number): Behaviour =>
  (sent) =>
    hasOpt(sent.bytes) ? failing(1, afterMs)(sent) : answering(data, afterMs)(sent);

test('who answered with EDNS within the hour has it, whatever it refuses with it; also one that is never first', () => {
  const world = worldOf({ [A]: withEdns(1), [B]: withEdns(5) });
  const hasEdns = (): boolean[] =>
    world.machine.stats(world.nowMs).upstreams.map((one) => one.hasEdns);
  for (let i = 0; i < 50; i++) {
    world.resolve(queryFor(`n${i}.example`));
    world.pass(60_000);
  }
  assert.deepEqual(dataOf(world.resolve(queryFor('odd.example')).asked), ['10.0.0.1']);
  world.upstreams.set(A, silent);
  assert.deepEqual(dataOf(world.resolve(queryFor('odd-too.example')).asked), ['10.0.0.1']);
  world.settle();
  assert.deepEqual(hasEdns(), [true, true]);
  world.pass(3_600_000);
  assert.deepEqual(dataOf(world.resolve(queryFor('odd-later.example')).asked), ['10.0.0.1']);
  assert.deepEqual(hasEdns(), [true, false], 'that was long ago');
});

test('with DO those without EDNS come last, and their answers are not kept while another one has it', () => {
  const world = worldOf({ [A]: withoutEdns('10.0.0.1', 1), [B]: answering('10.0.0.2', 15) });
  const ask = (name: string, isDnssecOk: boolean): string => {
    world.sends.length = 0;
    const query = queryFor(name, 'A', { edns: { isDnssecOk } });
    const { asked: answer } = world.resolve(query);
    world.pass(500);
    return `${answer.from} ${dataOf(answer).join()} ${asked(world).length}`;
  };
  assert.equal(ask('www.example', true), 'upstream 10.0.0.1 3', 'it is not known yet');
  assert.equal(ask('www.example', true), 'upstream 10.0.0.2 1');
  assert.equal(ask('www.example', true), 'cache 10.0.0.2 0');
  assert.equal(
    ask('www.example', false),
    'upstream 10.0.0.1 2',
    'signatures or not is all the same',
  );
  world.upstreams.set(B, silent);
  assert.equal(ask('late.example', true), 'upstream 10.0.0.1 2', 'better than none');
  for (let i = 0; i < 10; i++) ask(`n${i}.example`, false);
  assert.equal(ask('gone.example', true), 'upstream 10.0.0.1 2', 'none is waited for that fails');
  assert.equal(ask('gone.example', true), 'cache 10.0.0.1 0');
});

test('the upstream is told 1232 bytes, AD, and DO and CD as the client has them', () => {
  const world = worldOf({ [A]: answering('10.0.0.1') });
  world.resolve(queryFor('www.example'));
  const options = { edns: { isDnssecOk: true, udpSize: 4096 }, flags: 0x0110 };
  world.resolve(queryFor('www.example', 'A', options));
  const tails = world.sends.map(({ bytes }) => [
    ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0),
    Buffer.from(bytes.subarray(-11)).toString('hex'),
  ]);
  assert.deepEqual(tails, [
    [0x0120, '00002904d0000000000000'],
    [0x0130, '00002904d0000080000000'],
  ]);
});
