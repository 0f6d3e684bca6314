import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesToKey, encodeService } from '../../../src/datapath/abi.ts';
import { anyPortKey, frontendKey } from '../../../src/datapath/desired.ts';
import type { Frontend } from '../../../src/datapath/desired.ts';
import { LimitError, Planner, SetSizeError, setBackendsMax } from '../../../src/datapath/plan.ts';
import { Tables } from '../../../src/datapath/tables.ts';
import type { WriteGroup } from '../../../src/datapath/tables.ts';
import { viewOf } from '../../../src/datapath/view.ts';
import { parseIp } from '../../../src/net/ip.ts';

const limits = { services: 64, slots: 1024, backends: 512 };
const inVipRange = (): boolean => true;
const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail(text);

type World = ReadonlyMap<string, readonly Frontend[]>;

const target = fc.record({
  address: fc.nat(9).map((n) => bytesToKey(ip(`10.0.0.${n}`))),
  port: fc.constantFrom(80, 8080),
  weight: fc.oneof(fc.constant(0), fc.constant(1), fc.nat(65_535)),
  state: fc.constantFrom('active' as const, 'draining' as const),
});
const targets = fc.uniqueArray(target, { maxLength: 8, selector: (t) => t.address + t.port });
/** Six possible frontends; each belongs to some service or to nobody. */
const world: fc.Arbitrary<World> = fc
  .array(fc.tuple(fc.constantFrom('none', 'a', 'b', 'c'), targets), { minLength: 6, maxLength: 6 })
  .map((owners) => {
    const out = new Map<string, Frontend[]>();
    for (const [i, [service, list]] of owners.entries()) {
      if (service === 'none') continue;
      const port = i % 2 === 0 ? 80 : 443;
      const key = frontendKey(ip(`240.0.0.${i >> 1}`), port, 6);
      const frontends = out.get(service) ?? [];
      frontends.push({ key, service, port: `p${i}`, targets: list });
      out.set(service, frontends);
    }
    return out;
  });

const keys = [0, 1, 2].flatMap((n) => [80, 443].map((p) => frontendKey(ip(`240.0.0.${n}`), p, 6)));
const everyService = (to: World): World =>
  new Map(['a', 'b', 'c'].map((name) => [name, to.get(name) ?? []]));

const byName = ([a]: readonly [string, number], [b]: readonly [string, number]): number =>
  a < b ? -1 : 1;

type Seen = readonly [name: unknown, rows: readonly (readonly [string, number])[]] | string;

/** What the tables say: backend with weight and state → share of the draws. */
function seen(tables: Tables, key: string): Seen {
  const view = viewOf(tables, key);
  if (view.kind !== 'service') return view.kind;
  const rows = view.members.map(
    (m) => [`${bytesToKey(m.addr)}:${m.port}=${m.weight},${m.state}`, m.share] as const,
  );
  return [view.name, rows.toSorted(byName)];
}

function wanted(to: World, key: string): Seen {
  const f = [...to.values()].flat().find((frontend) => frontend.key === key);
  if (f === undefined) return 'pass';
  const usable = f.targets.map((t) => (t.state === 'active' ? t.weight : 0));
  const total = usable.reduce((a, b) => a + b, 0);
  const rows = f.targets.map((t, i) => {
    const share = total === 0 ? 0 : (usable[i] ?? 0) / total;
    return [`${t.address}:${t.port}=${t.weight},${t.state === 'active' ? 1 : 2}`, share] as const;
  });
  return [{ service: f.service, port: f.port }, rows.toSorted(byName)];
}

/** Shares are equal to what 2^32 can tell, and exactly 0 where nothing may go. */
function assertSeen(tables: Tables, to: World): void {
  for (const key of keys) {
    const [actual, expected] = [seen(tables, key), wanted(to, key)];
    const names = (s: Seen): unknown => (typeof s === 'string' ? s : [s[0], s[1].map(([n]) => n)]);
    assert.deepEqual(names(actual), names(expected));
    if (typeof actual === 'string' || typeof expected === 'string') continue;
    for (const [i, [, share]] of actual[1].entries()) {
      const want = expected[1][i]?.[1] ?? Number.NaN;
      assert.ok(want === 0 ? share === 0 : Math.abs(share - want) < 1e-8, `${share} for ${want}`);
    }
  }
}

function go(planner: Planner, to: World, now: number, whole = false): readonly WriteGroup[] {
  const plan = planner.plan(everyService(to), now, now, whole);
  planner.applied(plan);
  return plan.groups;
}

test('applying the plan between any two states gives exactly the second', () => {
  fc.assert(
    fc.property(fc.array(world, { minLength: 1, maxLength: 6 }), (worlds) => {
      const planner = new Planner(new Tables(), { limits, inVipRange });
      let now = 0;
      for (const to of worlds) {
        go(planner, to, (now += 1000));
        assertSeen(planner.tables, to);
      }
    }),
    { numRuns: 500 },
  );
});

test('no prefix of a plan shows a frontend that is neither the old one nor the new one', () => {
  fc.assert(
    fc.property(world, world, (from, to) => {
      const planner = new Planner(new Tables(), { limits, inVipRange });
      go(planner, from, 1000);
      const tables = new Tables(planner.tables);
      const groups = go(planner, to, 2000);
      const before = new Map(keys.map((key) => [key, shares(seen(tables, key))]));
      const after = new Map(keys.map((key) => [key, shares(seen(planner.tables, key))]));
      for (const group of groups) {
        for (let at = 0; at < group.count; at++) {
          tables.write(group, at);
          for (const key of keys) {
            const now = shares(seen(tables, key));
            const allowed = [before.get(key), after.get(key)];
            assert.ok(allowed.includes(now), `${now} is neither of ${allowed.join(' | ')}`);
          }
        }
      }
    }),
    { numRuns: 500 },
  );
});

/** Who gets how much; the drain mark is written just before the set, and shows in dumps alone. */
function shares(what: Seen): string {
  if (typeof what === 'string') return what;
  return what[1].map(([row, share]) => `${row.replace(/=\d+,\d$/, '')} ${share}`).join(' ');
}

test('planning what is there already writes nothing, also after a restart', () => {
  fc.assert(
    fc.property(world, (to) => {
      const first = new Planner(new Tables(), { limits, inVipRange });
      go(first, to, 1000);
      const again = first.plan(everyService(to), 1000, 2000, true);
      assert.equal(again.writes, 0);
      assert.equal(again.groups.length, 0);
      first.abandoned();
      const restarted = new Planner(new Tables(first.tables), { limits, inVipRange });
      const plan = restarted.plan(everyService(to), 1000, 3000, true);
      assert.deepEqual(plan.reasons, []);
      assert.equal(plan.groups.length, 0);
      assert.deepEqual(restarted.used, first.used);
    }),
  );
});

test('whatever is broken in the tables, a whole plan puts right', () => {
  const damage = fc.record({
    table: fc.constantFrom('vips', 'services', 'slots', 'backends', 'names'),
    at: fc.nat(40),
    byte: fc.nat(31),
    value: fc.nat(255),
  });
  fc.assert(
    fc.property(world, fc.array(damage, { minLength: 1, maxLength: 8 }), (to, hits) => {
      const planner = new Planner(new Tables(), { limits, inVipRange });
      go(planner, to, 1000);
      const broken = new Tables(planner.tables);
      for (const hit of hits) {
        if (hit.table === 'names') broken.names.delete(hit.at);
        else if (hit.table === 'vips') {
          const key = [...broken.vips.keys()][hit.at];
          if (key !== undefined && hit.byte % 2 === 0) broken.vips.delete(key);
          else if (key !== undefined) broken.vips.set(key, hit.value);
        } else {
          const table = broken[hit.table];
          if (hit.at >= table.high) continue;
          const bytes = table.get(hit.at).slice();
          bytes[hit.byte % bytes.length] = hit.value;
          table.set(hit.at, bytes);
        }
      }
      const mender = new Planner(broken, { limits, inVipRange });
      go(mender, to, 2000, true);
      assertSeen(mender.tables, to);
      const vips = new Set([...to.values()].flat().map((f) => f.key.slice(0, 16)));
      for (const key of keys) {
        assert.equal(mender.tables.vips.has(anyPortKey(key)), vips.has(key.slice(0, 16)));
      }
      const after = new Planner(new Tables(mender.tables), { limits, inVipRange });
      assert.equal(after.plan(everyService(to), 2000, 3000, true).writes, 0);
    }),
    { numRuns: 3000 },
  );
});

test('a plan that does not fit names the limit and leaves everything as it was', () => {
  const small = { services: 2, slots: 1024, backends: 512 };
  const planner = new Planner(new Tables(), { limits: small, inVipRange });
  const frontends = keys
    .slice(0, 3)
    .map((key, i) => ({ key, service: 'a', port: `p${i}`, targets: [] }));
  assert.throws(
    () => planner.plan(new Map([['a', frontends]]), 1, 1000),
    (error) => error instanceof LimitError && error.limit === 'services' && error.max === 2,
  );
  assert.equal(planner.used.services, 0);
  const plan = planner.plan(new Map([['a', frontends.slice(0, 2)]]), 1, 1000);
  planner.applied(plan);
  assert.equal(planner.used.services, 2);
});

test('a freed index rests before it is used again', () => {
  const one = { services: 1, slots: 8, backends: 8 };
  const planner = new Planner(new Tables(), { limits: one, inVipRange });
  const [first = '', second = ''] = keys;
  const at = (key: string): World =>
    new Map([['a', [{ key, service: 'a', port: 'p', targets: [] }]]]);
  planner.applied(planner.plan(at(first), 1, 1000));
  planner.applied(planner.plan(new Map([['a', []]]), 2, 1000));
  assert.throws(
    () => planner.plan(at(second), 3, 1001),
    (error) => error instanceof LimitError && error.retryAfterMs !== undefined,
  );
  planner.applied(planner.plan(at(second), 3, 2000));
  assert.equal(viewOf(planner.tables, second).kind, 'service');
});

test('a damaged entry that points into the slots of another service does not free them', () => {
  const [ours = '', theirs = ''] = keys;
  const targets = [1, 2, 3].map((n) => ({
    address: bytesToKey(ip(`10.0.0.${n}`)),
    port: 80,
    weight: 1,
    state: 'active' as const,
  }));
  const to: World = new Map([
    ['a', [{ key: ours, service: 'a', port: 'p', targets }]],
    ['b', [{ key: theirs, service: 'b', port: 'p', targets }]],
  ]);
  const tight = { services: 8, slots: 16, backends: 64 };
  const healthy = new Planner(new Tables(), { limits: tight, inVipRange });
  go(healthy, to, 1000);
  const broken = new Tables(healthy.tables);
  const [a = 0, b = 0] = [broken.vips.get(ours), broken.vips.get(theirs)];
  const stolen = { ...broken.service(b), key: broken.service(a).key };
  broken.services.set(a, encodeService(stolen));
  const mender = new Planner(broken, { limits: tight, inVipRange });
  go(mender, to, 2000, true);
  assertSeen(mender.tables, to);
  // New sets of one service until every free block has been used.
  for (let now = 3000; now < 8000; now += 1000) {
    const weighted = targets.map((t) => ({ ...t, weight: now }));
    const changed: World = new Map([
      ['a', [{ key: ours, service: 'a', port: 'p', targets: weighted }]],
    ]);
    mender.applied(mender.plan(changed, now, now));
    assert.deepEqual(seen(mender.tables, theirs), seen(healthy.tables, theirs));
  }
});

test('more backends than a set can count are refused, and nothing is written', () => {
  const planner = new Planner(new Tables(), {
    limits: { services: 4, slots: 2 ** 18, backends: 2 ** 17 },
    inVipRange,
  });
  const [key = ''] = keys;
  const targets = Array.from({ length: setBackendsMax + 1 }, (_, i) => ({
    address: bytesToKey(ip(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)),
    port: 80,
    weight: 1,
    state: 'active' as const,
  }));
  const to = (count: number): World =>
    new Map([['a', [{ key, service: 'a', port: 'p', targets: targets.slice(0, count) }]]]);
  assert.throws(() => planner.plan(to(setBackendsMax + 1), 1, 1000), SetSizeError);
  assert.equal(planner.used.backends, 0);
  planner.applied(planner.plan(to(setBackendsMax), 1, 1000));
  assert.equal(planner.plan(to(setBackendsMax), 1, 2000).writes, 0);
});
