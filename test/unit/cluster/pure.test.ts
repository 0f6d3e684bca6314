/** The small pure parts: names, greeting, ledger, limiter, admission, revocation, rivals, lifetimes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Admission, type AdmissionLimits } from '../../../src/cluster/admission.ts';
import { formatAddress, parseAddress } from '../../../src/cluster/address.ts';
import { backoffMs } from '../../../src/cluster/backoff.ts';
import { base32 } from '../../../src/cluster/base32.ts';
import {
  commonProtocol,
  decodeControl,
  encodeControl,
  type Control,
  type Hello,
} from '../../../src/cluster/greeting.ts';
import {
  find,
  isLedger,
  issue,
  judge,
  LEDGER_MAX,
  markEnded,
  markUsed,
  prune,
  withdraw,
  type Ledger,
} from '../../../src/cluster/ledger.ts';
import { addressKey, Limiter } from '../../../src/cluster/limiter.ts';
import { renewAtMs, retryAfterMs, SKEW_MS, validityFrom } from '../../../src/cluster/lifetime.ts';
import { nameOfAltNames, uriOf } from '../../../src/cluster/names.ts';
import { Revocations, type Revocation } from '../../../src/cluster/revocation.ts';
import { arrivingWins, ownWins, type Established } from '../../../src/cluster/rivals.ts';
import {
  decodeRequest,
  encodeRequest,
  SignWireError,
  type SignRequest,
} from '../../../src/cluster/sign-wire.ts';
import { WireError } from '../../../src/hyparview-ts/codec.ts';
import { peer } from '../hyparview/arbitrary.ts';

const word = fc.string({
  unit: fc.constantFrom(...'0123456789abcdef'.split('')),
  minLength: 1,
  maxLength: 16,
});

/** Objects like any other: deepEqual tells those without a prototype apart. */
const PLAIN = { noNullPrototype: true } as const;

const hello: fc.Arbitrary<Hello> = fc.record(
  {
    type: fc.constant('hello' as const),
    protocolMin: fc.nat({ max: 9 }),
    protocolMax: fc.integer({ min: 9, max: 99 }),
    instance: word,
    connection: word,
    after: fc.oneof(fc.constant(''), word),
    peer,
    software: word,
  },
  PLAIN,
);

test('a greeting survives the wire, also with what a newer node adds at its end', () => {
  fc.assert(
    fc.property(hello, fc.uint8Array({ maxLength: 20 }), (control, more) => {
      assert.deepEqual(decodeControl(Buffer.concat([encodeControl(control), more])), control);
    }),
  );
  const others: readonly Control[] = [
    {
      type: 'welcome',
      protocol: 1,
      instance: 'a',
      peer: { id: 'b', address: 'c:1', zone: '' },
      software: '1',
    },
    { type: 'refuse', code: 'duplicate' },
    { type: 'ping' },
    { type: 'pong' },
    { type: 'bye' },
  ];
  for (const control of others) assert.deepEqual(decodeControl(encodeControl(control)), control);
  assert.equal(decodeControl(Uint8Array.of(77, 1, 2)), undefined);
});

test('decoding a greeting throws nothing but WireError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      try {
        decodeControl(bytes);
      } catch (error) {
        assert.ok(error instanceof WireError, String(error));
      }
    }),
    { numRuns: 3000 },
  );
});

test('two nodes speak the highest protocol that both know', () => {
  const of = (protocolMin: number, protocolMax: number): number | undefined =>
    commonProtocol({ protocolMin, protocolMax } as Hello);
  assert.equal(of(1, 1), 1);
  assert.equal(of(1, 9), 1);
  assert.equal(of(2, 9), undefined);
  assert.equal(of(0, 0), undefined);
});

test('a request to sign survives the wire, in one piece or byte by byte, and nothing else is one', () => {
  const request = fc.uint8Array({ minLength: 1, maxLength: 300 });
  const of = (length: number): fc.Arbitrary<Uint8Array> =>
    fc.uint8Array({ minLength: length, maxLength: length });
  const asked: fc.Arbitrary<SignRequest> = fc.oneof(
    fc.record(
      { type: fc.constant('join' as const), tokenId: of(8), proof: of(32), request },
      PLAIN,
    ),
    fc.record({ type: fc.constant('renew' as const), request }, PLAIN),
  );
  fc.assert(
    fc.property(asked, (one) => {
      const bytes = encodeRequest(one);
      assert.deepEqual(decodeRequest(bytes), one);
      for (let i = 0; i < bytes.length; i++)
        assert.equal(decodeRequest(bytes.subarray(0, i)), undefined);
      assert.throws(() => decodeRequest(Uint8Array.of(...bytes, 0)), SignWireError);
    }),
    { numRuns: 50 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        decodeRequest(bytes);
      } catch (error) {
        assert.ok(error instanceof SignWireError, String(error));
      }
    }),
  );
});

test('only the exact name of a node in a certificate is a name', () => {
  const name = {
    clusterId: base32(new Uint8Array(10).fill(1)),
    nodeId: base32(new Uint8Array(16).fill(2)),
  };
  const uri = uriOf(name);
  assert.deepEqual(nameOfAltNames(`URI:${uri}`), name);
  for (const other of [
    undefined,
    '',
    uri,
    `URI:${uri}, URI:${uri}`,
    `URI:${uri}/`,
    `URI:${uri.toUpperCase()}`,
    `DNS:${uri}`,
    `URI:"${uri}"`,
    `URI:zerohop://${name.clusterId}`,
    `URI:${uri.slice(0, -1)}`,
    `URI:${uri}\n`,
  ]) {
    assert.equal(nameOfAltNames(other), undefined, other);
  }
});

test('a ledger redeems a token once, not after its end, and never one it does not know', () => {
  const entry = { id: 'aa', key: 'bb', expiresAtMs: 1000, signer: false };
  const ledger = issue([], entry, 0) ?? [];
  assert.equal(judge(find(ledger, 'aa'), 999), 'good');
  assert.equal(judge(find(ledger, 'aa'), 1000), 'expired');
  assert.equal(judge(find(ledger, 'ab'), 0), 'unknown');
  const used = markUsed(ledger, 'aa', 'n', 5);
  assert.equal(judge(find(used, 'aa'), 6), 'used');
  assert.equal(judge(find(withdraw(used, 'aa'), 'aa'), 6), 'used');
  assert.equal(judge(find(withdraw(ledger, 'aa'), 'aa'), 6), 'unknown');
  // A clock that jumps ahead and back again brings nothing back.
  assert.equal(judge(find(prune(used, 1e12), 'aa'), 6), 'unknown');
});

test('what was seen to have ended stays so when the clock is set back', () => {
  const entry = { id: 'aa', key: 'bb', expiresAtMs: 1000, signer: false };
  const used = { id: 'ab', key: 'bb', expiresAtMs: 1000, signer: false };
  const ledger = markUsed(issue(issue([], entry, 0) ?? [], used, 0) ?? [], 'ab', 'n', 5);
  assert.equal(markEnded(ledger, 999), undefined);
  const ended = markEnded(ledger, 1000) ?? [];
  assert.deepEqual(
    ['aa', 'ab'].map((id) => judge(find(ended, id), 0)),
    ['expired', 'used'],
  );
  assert.equal(markEnded(ended, 2000), undefined, 'once');
  assert.ok(isLedger(JSON.parse(JSON.stringify(ended))));
});

test('a ledger has a limit, and what expired long ago makes room', () => {
  let ledger: Ledger | undefined = [];
  for (let i = 0; i < LEDGER_MAX; i++) {
    ledger = issue(ledger ?? [], { id: String(i), key: '', expiresAtMs: 1000, signer: false }, 0);
  }
  const one = { id: 'x', key: '', expiresAtMs: 2e8, signer: false };
  assert.equal(issue(ledger ?? [], one, 0), undefined);
  assert.deepEqual(issue(ledger ?? [], one, 1e8), [one]);
});

test('a limiter lets a burst pass, then its rate, each key for itself', () => {
  const limiter = new Limiter({ perSecond: 2, burst: 3 }, 10);
  const passed = (key: string, now: number): number => {
    let count = 0;
    while (limiter.take(key, now)) count += 1;
    return count;
  };
  assert.equal(passed('a', 0), 3);
  assert.equal(passed('b', 0), 3);
  assert.equal(passed('a', 499), 0);
  assert.equal(passed('a', 999), 1);
  assert.equal(passed('a', 60_000), 3);
  assert.equal(passed('a', 0), 0); // time that goes back gives nothing
});

test('a limiter remembers no more keys than it may, and those that come again and again', () => {
  const limiter = new Limiter({ perSecond: 1, burst: 1 }, 4);
  assert.equal(limiter.take('again', 0), true);
  for (let i = 0; i < 100; i++) {
    assert.equal(limiter.take(String(i), 0), true);
    assert.equal(limiter.take('again', 0), false);
  }
  const sizes = new Set<number>();
  for (let i = 0; i < 100; i++) {
    assert.equal(limiter.take(String(i), 0), true, 'forgotten');
    sizes.add(limiter.size);
  }
  assert.deepEqual(sizes, new Set([3, 4]));
});

test('one host with many IPv6 addresses is one source', () => {
  assert.equal(addressKey('192.0.2.7'), '192.0.2.7');
  assert.equal(addressKey('::ffff:192.0.2.7'), '192.0.2.7');
  assert.equal(addressKey('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64');
  assert.equal(addressKey('2001:db8:1:2::6'), '2001:db8:1:2::/64');
  assert.equal(addressKey('2001:db8::6'), '2001:db8:0:0::/64');
  assert.equal(addressKey('::1'), '0:0:0:0::/64');
  assert.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64');
});

const FREE = { perSecond: 1e6, burst: 1e6 };
const LIMITS: AdmissionLimits = {
  pendingMax: 4,
  pendingPerAddressMax: 3,
  arrivals: FREE,
  arrivalsPerAddress: FREE,
  addressesMax: 100,
};

test('admission never has more under way than it may, whatever comes and goes', () => {
  const address = fc.constantFrom(
    '10.0.0.1',
    '10.0.0.2',
    '10.0.0.3',
    '10.0.0.4',
    '10.0.0.5',
    '10.0.0.6',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(address, fc.nat({ max: 30 })), { maxLength: 60 }), (steps) => {
      const admission = new Admission(LIMITS);
      const open = new Map<number, string>();
      for (const step of steps) {
        if (typeof step === 'number') {
          admission.done(step);
          open.delete(step);
          continue;
        }
        const arrival = admission.arrive(step, 0);
        assert.ok(arrival.admitted);
        if (arrival.evicted !== undefined)
          assert.ok(open.delete(arrival.evicted), 'evicted what is open');
        open.set(arrival.id, step);
        assert.equal(admission.pending, open.size);
        assert.ok(open.size <= LIMITS.pendingMax);
        const own = [...open.values()].filter((one) => one === step).length;
        assert.ok(own <= LIMITS.pendingPerAddressMax);
      }
    }),
  );
});

test('where the places are taken, the oldest of the busiest address goes', () => {
  const admission = new Admission(LIMITS);
  const arrive = (address: string): unknown => admission.arrive(address, 0);
  assert.deepEqual(arrive('10.0.0.1'), { admitted: true, id: 1, evicted: undefined });
  assert.deepEqual(arrive('10.0.0.2'), { admitted: true, id: 2, evicted: undefined });
  assert.deepEqual(arrive('10.0.0.2'), { admitted: true, id: 3, evicted: undefined });
  assert.deepEqual(arrive('10.0.0.3'), { admitted: true, id: 4, evicted: undefined });
  assert.deepEqual(arrive('10.0.0.1'), { admitted: true, id: 5, evicted: 2 });
});

test('an address that floods is refused before it uses up what is for all', () => {
  const admission = new Admission({
    ...LIMITS,
    arrivals: { perSecond: 1, burst: 4 },
    arrivalsPerAddress: { perSecond: 1, burst: 2 },
  });
  const why = (address: string): string => {
    const arrival = admission.arrive(address, 0);
    return arrival.admitted ? 'in' : arrival.why;
  };
  assert.deepEqual(['a', 'a', 'a', 'a'].map(why), ['in', 'in', 'address-rate', 'address-rate']);
  assert.deepEqual(['b', 'c', 'd'].map(why), ['in', 'in', 'rate']);
});

const revocation: fc.Arbitrary<Revocation> = fc.record(
  {
    kind: fc.constantFrom('node' as const, 'serial' as const),
    id: fc.constantFrom('a', 'b', 'c'),
    revokedAtMs: fc.nat({ max: 3 }),
    untilMs: fc.nat({ max: 5 }),
    reason: fc.constantFrom('x', 'y'),
  },
  PLAIN,
);

test('revocations merge to the same set in any order and grouping', () => {
  const list = fc.array(revocation, { maxLength: 8 });
  fc.assert(
    fc.property(list, list, list, (a, b, c) => {
      const merged = (...lists: readonly (readonly Revocation[])[]): Revocation[] => {
        const all = new Revocations();
        for (const one of lists) all.merge(new Revocations(one));
        return all.entries();
      };
      const expected = merged(a, b, c);
      assert.deepEqual(merged(c, a, b), expected);
      assert.deepEqual(merged(merged(b, c), a), expected);
      assert.deepEqual(merged(expected, a), expected);
      for (const { kind, id } of [...a, ...b, ...c]) {
        assert.ok(expected.some((one) => one.kind === kind && one.id === id));
      }
    }),
  );
});

test('a revoked node is refused with any certificate, a revoked serial only with that', () => {
  const set = new Revocations([
    { kind: 'node', id: 'n', revokedAtMs: 1, untilMs: 100, reason: '' },
    { kind: 'serial', id: 'AB', revokedAtMs: 1, untilMs: 100, reason: '' },
  ]);
  assert.equal(set.find('n', 'XX')?.kind, 'node');
  assert.equal(set.find('m', 'AB')?.kind, 'serial');
  assert.equal(set.find('m', 'XX'), undefined);
  assert.equal(set.find('AB', 'n'), undefined);
});

test('of two simultaneous dials both ends keep the same one', () => {
  const pair = { low: 'a', high: 'b' };
  const by = (dialledBy: 'self' | 'peer', connection: string, instance: string): Established => {
    return { dialledBy, connection, instance };
  };
  const late = (connection: string, instance: string) => ({ connection, instance, after: '' });
  // x was dialled by the low node, y by the high one; each end has met the one before the other comes.
  assert.equal(arrivingWins(pair.low, pair.high, by('self', 'x', 'B'), late('y', 'B')), false);
  assert.equal(arrivingWins(pair.high, pair.low, by('self', 'y', 'A'), late('x', 'A')), true);
  assert.equal(ownWins(pair.low, pair.high, by('peer', 'y', 'B'), 'B'), true);
  assert.equal(ownWins(pair.high, pair.low, by('peer', 'x', 'A'), 'A'), false);
});

test('a peer that lost the connection, or is a new process, gets its new one', () => {
  const mine: Established = { dialledBy: 'self', connection: 'x', instance: 'B' };
  assert.equal(arrivingWins('a', 'b', mine, { connection: 'y', instance: 'B', after: 'x' }), true);
  assert.equal(arrivingWins('a', 'b', mine, { connection: 'y', instance: 'B2', after: '' }), true);
  assert.equal(ownWins('b', 'a', { ...mine, dialledBy: 'peer' }, 'B2'), true);
  const theirs: Established = { ...mine, dialledBy: 'peer' };
  assert.equal(arrivingWins('a', 'b', theirs, { connection: 'y', instance: 'B', after: '' }), true);
});

test('certificates are valid ten minutes back and renewed before two thirds of their life', () => {
  const validity = validityFrom(1e12, 30 * 86_400_000);
  assert.equal(validity.notBeforeMs, 1e12 - SKEW_MS);
  assert.ok(SKEW_MS >= 5 * 60_000);
  const length = validity.notAfterMs - validity.notBeforeMs;
  assert.equal(renewAtMs(validity, 0), validity.notBeforeMs + (length * 2) / 3);
  assert.ok(renewAtMs(validity, 0.999) > validity.notBeforeMs + length * 0.6);
  assert.equal(retryAfterMs(validity, 1e12, 0), 3_600_000);
  assert.equal(retryAfterMs(validity, validity.notAfterMs - 600_000, 0), 60_000);
  assert.equal(retryAfterMs(validity, validity.notAfterMs - 1, 0), 1000);
  assert.equal(retryAfterMs(validity, validity.notAfterMs, 0), 60_000);
});

test('backoff doubles up to its limit, and draws from the upper half', () => {
  assert.deepEqual(
    [1, 2, 3, 9, 99].map((n) => backoffMs(n, 1)),
    [100, 200, 400, 10_000, 10_000],
  );
  assert.deepEqual(
    [1, 2, 3].map((n) => backoffMs(n, 0)),
    [50, 100, 200],
  );
});

test('addresses are host and port, in brackets for IPv6', () => {
  for (const [text, host, port] of [
    ['10.0.0.7:80', '10.0.0.7', 80],
    ['10.0.0.7', '10.0.0.7', 7946],
    ['[fd00::7]:80', 'fd00::7', 80],
    ['[fd00::7]', 'fd00::7', 7946],
    ['node-1.example:80', 'node-1.example', 80],
  ] as const) {
    assert.deepEqual(parseAddress(text), { host, port });
  }
  assert.equal(formatAddress({ host: 'fd00::7', port: 80 }), '[fd00::7]:80');
  for (const bad of ['', ':80', 'fd00::7:80', '10.0.0.7:0', '10.0.0.7:65536', 'a b:1', '[x]:1']) {
    assert.throws(() => parseAddress(bad), /is not an address/, bad);
  }
});
