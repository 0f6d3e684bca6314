import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { allocateVip, fnv1a64, inPools, type VipPools } from '../../../src/catalog/vips.ts';
import { canonicalIp } from '../../../src/net/ip.ts';
import { cidr, pools } from '../state/generators.ts';

const serviceName = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}[a-z0-9]$/);

function allocate(
  name: string,
  family: 4 | 6,
  taken: ReadonlySet<string> = new Set(),
  from: VipPools = pools,
): string {
  const result = allocateVip(name, family, from, (vip) => taken.has(vip));
  assert.ok(result.ok, result.ok ? '' : result.reason);
  return result.vip;
}

test('FNV-1a gives the values of its authors', () => {
  // RFC 9923, the 64-bit test vectors for "", "a" and "foobar".
  assert.equal(fnv1a64(''), 0xcbf29ce484222325n);
  assert.equal(fnv1a64('a'), 0xaf63dc4c8601ec8cn);
  assert.equal(fnv1a64('foobar'), 0x85944171f73967e8n);
});

test('every node computes the same VIPs for a name', () => {
  // Fixed for good: nodes of different versions must agree, so a change here breaks clusters.
  assert.equal(allocate('web', 4), '252.189.37.169');
  assert.equal(allocate('web', 6), 'fd7a:6572:6f68:6f70:8b8f:9c35:7cbd:25a9');
});

test('a VIP is canonical, in its block, free, and ends in neither 0 nor 255', () => {
  fc.assert(
    fc.property(serviceName, fc.integer({ min: 0, max: 5 }), (name, collisions) => {
      for (const family of [4, 6] as const) {
        const taken = new Set<string>();
        for (let i = 0; i <= collisions; i++) {
          const vip = allocate(name, family, taken);
          assert.equal(canonicalIp(vip), vip);
          assert.ok(inPools(pools, vip));
          assert.ok(!taken.has(vip));
          if (family === 4) assert.doesNotMatch(vip, /\.(0|255)$/);
          taken.add(vip);
        }
      }
    }),
  );
});

test('a small block is given out to its last address, then the reason names it', () => {
  const small: VipPools = { ...pools, v4: cidr('10.1.2.248/29') };
  const taken = new Set<string>();
  for (let i = 0; i < 7; i++) taken.add(allocate(`s${i}`, 4, taken, small));
  assert.deepEqual(
    [...taken].toSorted(),
    [248, 249, 250, 251, 252, 253, 254].map((d) => `10.1.2.${d}`),
  );
  const result = allocateVip('one-more', 4, small, (vip) => taken.has(vip));
  assert.deepEqual(result, { ok: false, reason: 'no IPv4 VIP is left in 10.1.2.248/29' });
});

test('VIPs of 20,000 names are spread evenly over the block', () => {
  const eighths = Array.from({ length: 16 }, () => 0);
  for (let i = 0; i < 20_000; i++) {
    const first = Number(allocate(`service-${i}`, 4).split('.')[0]) - 240;
    eighths[first] = (eighths[first] ?? 0) + 1;
  }
  // 1250 expected in each; six standard deviations are 205.
  for (const n of eighths) assert.ok(Math.abs(n - 1250) < 205, eighths.join(' '));
});
