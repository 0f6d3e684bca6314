/** The wires of test clusters as rules; that they do it is shown by test/system/harness-cluster.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lonely, lossy, muted, partitioned, rules, whole } from '../../harness/wires.ts';

const cutOf = (wires: { cut: ReadonlySet<string> }): string[] => [...wires.cut].toSorted();

test('groups hear each other inside and not across, and a new partition ends the one before', () => {
  const first = partitioned(whole, 3, [[0], [1, 2]]);
  assert.deepEqual(cutOf(first), ['0 1', '0 2', '1 0', '2 0']);
  const second = partitioned(first, 3, [[2], [0, 1]]);
  assert.deepEqual(cutOf(second), ['0 2', '1 2', '2 0', '2 1']);
  assert.deepEqual(cutOf(partitioned(second, 3, [[0, 1, 2]])), []);
});

test('groups that leave a host out, have it twice or invent one are refused', () => {
  assert.throws(() => partitioned(whole, 3, [[0], [1]]), /2 of the 3 hosts/);
  assert.throws(
    () =>
      partitioned(whole, 3, [
        [0, 1],
        [1, 2],
      ]),
    /host 1 is in several/,
  );
  assert.throws(() => partitioned(whole, 3, [[0, 1, 2, 3]]), /host 3/);
});

test('one way is one way, and a lonely host is cut both ways, besides what was cut', () => {
  const one = muted(whole, 0, 2);
  assert.deepEqual(cutOf(one), ['0 2']);
  assert.deepEqual(cutOf(lonely(one, 3, 1)), ['0 1', '0 2', '1 0', '1 2', '2 1']);
});

test('loss is kept for each host until it is none, also over partitions', () => {
  const wires = partitioned(lossy(lossy(whole, 0, 10), 1, 2.5), 2, [[0], [1]]);
  assert.deepEqual(
    [...wires.loss],
    [
      [0, 10],
      [1, 2.5],
    ],
  );
  assert.deepEqual([...lossy(wires, 0, 0).loss], [[1, 2.5]]);
  assert.throws(() => lossy(whole, 0, 101), /101 is no percentage/);
});

test('the rules replace the earlier ones, and name the ports of the bridge', () => {
  const text = rules(lossy(muted(whole, 0, 1), 1, 2.5), (place) => `p${place}`);
  assert.equal(
    text,
    `table bridge wires
delete table bridge wires
table bridge wires {
  set cut { type ifname . ifname; elements = { "p0" . "p1" } }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @cut drop
    iifname "p1" numgen random mod 10000 < 250 drop
    oifname "p1" numgen random mod 10000 < 250 drop
  }
}
`,
  );
  assert.doesNotMatch(rules(whole, String), /elements|numgen/);
});
