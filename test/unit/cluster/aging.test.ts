/** What one member writes about hosts that are long gone, and that nothing of them is left then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agedOut, EXPIRED_AFTER_MS, GONE_KEPT_MS } from '../../../src/cluster/aging.ts';
import { base32 } from '../../../src/cluster/base32.ts';
import { writeGone } from '../../../src/cluster/departures.ts';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { Revocations } from '../../../src/cluster/revocation.ts';
import { Roll } from '../../../src/cluster/roll.ts';
import { documentOf, Replica, SHARED } from '../../../src/state/replica/replica.ts';
import { NODE_KEY } from '../../../src/state/replica/schema.ts';

const DAY_MS = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();
const idOf = (n: number): string => base32(Buffer.from(n.toString(16).padStart(32, '0'), 'hex'));

/** A member, and what it hears of others. */
function member() {
  const replica = Replica.open({ node: idOf(0), writer: 1 });
  const liveness = new Liveness({ self: idOf(0), remembered: [] });
  const roll = new Roll({ replica, liveness, revocations: new Revocations() });
  const aging = { iso, replica, liveness, roll };
  const look = (wallMs: number): string[] => {
    const writes = agedOut(aging, wallMs, wallMs);
    const { changed } = replica.transact(writes, wallMs);
    for (const node of roll.follow(changed, wallMs).gone) replica.forgetDocument(documentOf(node));
    return writes.map(({ key, value }) => `${value === undefined ? '-' : '+'} ${key}`);
  };
  /** A host that says who it is and writes something that all share, and removes it again. */
  const comes = (id: string, writer: number, nowMs: number, signer = false): void => {
    const host = Replica.open({ node: id, writer });
    const value = JSON.stringify({
      name: id,
      zone: 'z',
      version: '1',
      address: '10.0.0.1:7946',
      addresses: ['10.0.0.1'],
      signer,
    });
    host.transact([{ document: 'own', key: NODE_KEY, value }], nowMs);
    host.transact([{ document: 'shared', key: 'kv/x', value: '1' }], nowMs);
    host.transact([{ document: 'shared', key: 'kv/x', value: undefined }], nowMs);
    for (const document of [host.own, SHARED])
      roll.follow(replica.receive(host.whole(document), nowMs).changed, nowMs);
    liveness.heard(id, 'alive', nowMs);
  };
  return { ...aging, look, comes };
}

test('a host that was not there for so long that it cannot come back is gone for good', () => {
  const [dead, stopped, there] = [idOf(1), idOf(2), idOf(3)];
  const { replica, liveness, look, comes, roll } = member();
  [dead, stopped, there].forEach((id, i) => comes(id, 11 + i, 0));
  liveness.heard(dead, 'dead', DAY_MS);
  liveness.heard(stopped, 'left', 2 * DAY_MS);
  assert.deepEqual(look(2 * DAY_MS - 1), []);
  assert.deepEqual(look(3 * DAY_MS), [`+ missed/${dead}`, `+ missed/${stopped}`]);
  assert.deepEqual(look(DAY_MS + EXPIRED_AFTER_MS - 1), []);
  assert.deepEqual(look(DAY_MS + EXPIRED_AFTER_MS), [`+ gone/${dead}`]);
  assert.deepEqual(look(2 * DAY_MS + EXPIRED_AFTER_MS), [`+ gone/${stopped}`, `- missed/${dead}`]);
  assert.deepEqual(
    look(1000 * DAY_MS).filter((line) => line.startsWith('+')),
    [],
  );
  const atMs = DAY_MS + EXPIRED_AFTER_MS;
  assert.deepEqual(roll.gone.get(dead), {
    type: 'gone',
    node: dead,
    at: iso(atMs),
    atMs,
    why: 'expired',
    addresses: ['10.0.0.1'],
    writers: [11],
  });
  assert.deepEqual(replica.documents(), [SHARED, replica.own, documentOf(there)]);
});

test('since when a host is missed is known to all: who saw it go may be gone itself', () => {
  const { replica, liveness, look, comes } = member();
  comes(idOf(1), 11, 0);
  liveness.heard(idOf(1), 'dead', 0);
  assert.deepEqual(look(DAY_MS), [`+ missed/${idOf(1)}`]);
  const next = member();
  const { changed } = next.replica.receive(replica.whole(SHARED), DAY_MS);
  next.roll.follow(changed, DAY_MS);
  next.comes(idOf(1), 11, 40 * DAY_MS);
  next.liveness.heard(idOf(1), 'dead', 40 * DAY_MS);
  assert.deepEqual(next.look(EXPIRED_AFTER_MS), [`+ gone/${idOf(1)}`]);
});

test('one that is back is missed no more', () => {
  const { liveness, look, comes } = member();
  comes(idOf(1), 11, 0);
  liveness.heard(idOf(1), 'dead', 0);
  look(DAY_MS);
  liveness.heard(idOf(1), 'alive', 50 * DAY_MS);
  assert.deepEqual(look(50 * DAY_MS), [`- missed/${idOf(1)}`]);
});

test('of the last one that can sign nobody knows whether it is given up', () => {
  const { liveness, look, comes } = member();
  comes(idOf(1), 11, 0, true);
  liveness.heard(idOf(1), 'dead', 0);
  look(DAY_MS);
  assert.deepEqual(look(1000 * DAY_MS), []);
  comes(idOf(2), 12, 1000 * DAY_MS, true);
  assert.deepEqual(look(1000 * DAY_MS), [`+ gone/${idOf(1)}`]);
});

test('one that was only missed, and never seen, expires too, also over a restart', () => {
  const { liveness } = member();
  liveness.linked(0);
  liveness.known('missed', 0);
  assert.deepEqual(liveness.remembered(1000, 5000), [], 'it is waited for');
  liveness.expire(20_000);
  const [missed] = liveness.remembered(DAY_MS, 3 * DAY_MS + 5000);
  assert.deepEqual(missed, { id: 'missed', standing: 'dead', sinceMs: 2 * DAY_MS });
});

test('that a host is gone is said no more when no epoch knows it; that it is revoked, for ever', () => {
  const { replica, look, comes, roll } = member();
  const [left, revoked] = [idOf(1), idOf(2)];
  comes(left, 11, 0);
  comes(revoked, 12, 0);
  const done = replica.transact(
    [
      writeGone(left, { why: 'left', at: '', atMs: 0, writers: [11] }),
      writeGone(revoked, { why: 'revoked', at: '', atMs: 0, writers: [12] }),
    ],
    0,
  );
  for (const node of roll.follow(done.changed, 0).gone) replica.forgetDocument(documentOf(node));
  assert.deepEqual(look(GONE_KEPT_MS), [], 'its writer is known in the shared document');
  replica.compact(SHARED, 49 * DAY_MS);
  assert.deepEqual(
    look(GONE_KEPT_MS),
    [],
    'not forgotten yet: one that was away then may come back',
  );
  replica.compact(SHARED, GONE_KEPT_MS);
  assert.deepEqual(look(GONE_KEPT_MS - 1), []);
  assert.deepEqual(look(GONE_KEPT_MS), [`- gone/${left}`]);
  assert.deepEqual([roll.isGone(left), roll.isGone(revoked)], [false, true]);
  assert.deepEqual(look(1000 * DAY_MS), []);
});

test('2,000 hosts that came and went leave nothing behind', () => {
  const { replica, liveness, look, comes } = member();
  replica.transact([{ document: 'shared', key: 'kv/stays', value: '1' }], 1);
  let epochs = 0;
  for (let day = 0; day < 300; day++) {
    const nowMs = day * DAY_MS;
    const coming = day < 100 ? Array.from({ length: 20 }, (_, n) => 1 + day * 20 + n) : [];
    for (const number of coming) {
      comes(idOf(number), 10 + number, nowMs);
      liveness.heard(idOf(number), 'dead', nowMs);
    }
    look(nowMs);
    if (!replica.compactionDue(SHARED, nowMs)) continue;
    replica.compact(SHARED, nowMs);
    epochs += 1;
  }
  assert.deepEqual(
    [...replica.winners(SHARED)].map(({ key }) => key),
    ['kv/stays'],
  );
  assert.deepEqual(replica.documents(), [SHARED, replica.own]);
  const { writers } = replica.stats(SHARED);
  assert.ok(writers <= 30, `${writers} writers are known`);
  assert.ok(epochs < 300, `${epochs} epochs`);
});
