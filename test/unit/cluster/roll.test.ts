/** Who is out for good, by shared keys that anybody may have written; and who is known, by its record. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  readDeparture,
  readdressed,
  writeGone,
  writeRevocation,
} from '../../../src/cluster/departures.ts';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { Revocations } from '../../../src/cluster/revocation.ts';
import { Roll } from '../../../src/cluster/roll.ts';
import { documentOf, Replica, SHARED, type Write } from '../../../src/state/replica/replica.ts';
import { NODE_KEY } from '../../../src/state/replica/schema.ts';

const [ME, A, B] = ['me', 'aaaaaaaaaaaaaaaaaaaaaaaaaa', 'baaaaaaaaaaaaaaaaaaaaaaaaa'] as const;
const NOW = { at: 'now', atMs: 1000 };
const revocation = (id: string) =>
  ({ kind: 'node', id, revokedAtMs: 1000, untilMs: 5000, reason: 'stolen' }) as const;

test('what is written of a departure is read again', () => {
  const gone = writeGone(A, {
    why: 'left',
    at: '2026-01-01T00:00:00.000Z',
    atMs: 1_767_225_600_000,
    addresses: ['10.0.0.1'],
    writers: [7],
  });
  assert.equal(gone.key, `gone/${A}`);
  assert.deepEqual(readDeparture(gone.key, gone.value), {
    type: 'gone',
    node: A,
    at: '2026-01-01T00:00:00.000Z',
    atMs: 1_767_225_600_000,
    why: 'left',
    addresses: ['10.0.0.1'],
    writers: [7],
  });
  const out = writeRevocation(revocation(A));
  assert.equal(out.key, `revocation/${A}`);
  assert.deepEqual(readDeparture(out.key, out.value), {
    type: 'revoked',
    revocation: revocation(A),
  });
  const serial = { ...revocation(A), kind: 'serial', id: '0AF3' } as const;
  const written = writeRevocation(serial);
  assert.deepEqual(readDeparture(written.key, written.value), {
    type: 'revoked',
    revocation: serial,
  });
});

test('a departure that says nothing, or of another than its key, is none', () => {
  const none = (key: string, value: unknown): void =>
    assert.equal(readDeparture(key, JSON.stringify(value)), undefined, `${key} ${String(value)}`);
  const gone = { at: '2026-01-01T00:00:00Z', why: 'left' };
  none('gone/../etc', gone);
  none(`gone/${A}`, { ...gone, why: 7 });
  none(`gone/${A}`, [gone]);
  none(`gone/${A}`, null);
  none(`kv/gone/${A}`, gone);
  none(`revocation/${A}`, revocation(B));
  none(`revocation/${A}`, { ...revocation(A), kind: 'all' });
  none(`revocation/${A}`, { ...revocation(A), untilMs: '5000' });
  none(`revocation/${A}`, { ...revocation(A), untilMs: -1 });
  none('revocation/x y', { ...revocation('x y'), kind: 'serial' });
  assert.equal(readDeparture(`gone/${A}`, undefined), undefined);
  assert.equal(readDeparture(`gone/${A}`, '{'), undefined);
  const unknown = readDeparture(`gone/${A}`, JSON.stringify({ ...gone, why: 'renamed' }));
  assert.equal(unknown?.type, 'gone', 'a reason of a newer version counts');
  fc.assert(
    fc.property(fc.constantFrom(`gone/${A}`, `revocation/${A}`), fc.json(), (key, json) => {
      readDeparture(key, json);
    }),
  );
});

interface Setup {
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly revocations: Revocations;
  readonly roll: Roll;
}

function setup(nodes: Readonly<Record<string, string>> = {}, shared: readonly Write[] = []): Setup {
  const updates = Object.entries(nodes).map(([id, value], i) => {
    const other = Replica.open({ node: id, writer: 10 + i });
    other.transact([{ document: 'own', key: NODE_KEY, value }], 1000);
    return other.whole(other.own);
  });
  const replica = Replica.open({ node: ME, writer: 1 }, { clock: '', updates });
  replica.transact(shared, 1000);
  const liveness = new Liveness({ self: ME, remembered: [] });
  const revocations = new Revocations();
  const roll = new Roll({ replica, liveness, revocations });
  return { replica, liveness, revocations, roll };
}

const record = (name: string, signer: boolean, address = '10.0.0.1:7946'): string =>
  JSON.stringify({ name, zone: 'z', version: '1', address, addresses: [], signer });

test('all that the replica holds is looked at, at the start and when it changes', () => {
  const gone = writeGone(A, { why: 'revoked', ...NOW });
  const { replica, liveness, revocations, roll } = setup({ [A]: record('a', true), [B]: '{}' }, [
    gone,
    writeRevocation(revocation(A)),
  ]);
  assert.deepEqual(roll.begin(0), { gone: [A], isRevocation: true, isReachability: false });
  assert.deepEqual([roll.isGone(A), roll.whyGone(A), roll.isGone(B)], [true, 'revoked', false]);
  assert.equal(revocations.node(A)?.reason, 'stolen');
  assert.deepEqual(liveness.ids(), [B]);
  assert.deepEqual(
    [A, B, ME].map((id) => roll.isWelcome(documentOf(id))),
    [false, true, true],
  );
  assert.equal(roll.isWelcome(SHARED), true);
  liveness.heard(B, 'dead', 1);
  const addresses = ['10.0.0.2', 'fd00::2', 'not one', 7] as string[];
  const done = replica.transact([writeGone(B, { why: 'left', ...NOW, addresses })], 2000);
  const followed = roll.follow(done.changed, 0);
  assert.deepEqual(roll.gone.get(B)?.addresses, ['10.0.0.2', 'fd00::2']);
  assert.deepEqual(followed, { gone: [B], isRevocation: false, isReachability: true });
  assert.deepEqual([...liveness.unreachable], []);
  assert.deepEqual(roll.follow(done.changed, 0), {
    gone: [],
    isRevocation: false,
    isReachability: false,
  });
});

test('what is at an address of one that is gone is in use again when somebody puts a backend there', () => {
  const left = { why: 'left', ...NOW, writers: [7] } as const;
  const { replica, roll } = setup({}, [
    writeGone(A, { ...left, addresses: ['10.0.0.1', '10.0.0.2'] }),
  ]);
  roll.begin(0);
  assert.deepEqual(readdressed(new Set(['10.0.0.3']), roll.gone), []);
  const writes = readdressed(new Set(['10.0.0.1', '10.0.0.3']), roll.gone);
  assert.deepEqual(writes, [writeGone(A, { ...left, addresses: ['10.0.0.2'] })]);
  const followed = roll.follow(replica.transact(writes, 2000).changed, 0);
  assert.deepEqual(followed, { gone: [], isRevocation: false, isReachability: true });
  assert.deepEqual(roll.gone.get(A)?.addresses, ['10.0.0.2']);
});

test('what a newer version says of one that is gone is kept when it is written anew', () => {
  const { key, value } = writeGone(A, {
    why: 'left',
    ...NOW,
    addresses: ['10.0.0.1', '10.0.0.2'],
    writers: [7],
  });
  const told = { ...(JSON.parse(value) as object), by: 'somebody' };
  const { roll, replica } = setup({}, [{ document: 'shared', key, value: JSON.stringify(told) }]);
  roll.begin(0);
  const [reused] = readdressed(new Set(['10.0.0.1']), roll.gone);
  assert.deepEqual(JSON.parse(reused?.value ?? ''), { ...told, addresses: ['10.0.0.2'] });
  const revoked = roll.goneWrite(A, { why: 'revoked', at: 'later', atMs: 2000 });
  const again = { ...told, why: 'revoked', at: 'later', atMs: 2000 };
  assert.deepEqual(JSON.parse(revoked.value), again, 'its document is not here any more');
  roll.follow(replica.transact([revoked], 2000).changed, 0);
  assert.deepEqual(roll.gone.get(A)?.more, { by: 'somebody' });
});

test('that somebody is gone may be said no more', () => {
  const { replica, roll } = setup({}, [writeGone(A, { why: 'left', ...NOW })]);
  roll.begin(0);
  const { key } = writeGone(A, { why: 'left', ...NOW });
  const { changed } = replica.transact([{ document: 'shared', key, value: undefined }], 2000);
  assert.deepEqual(roll.follow(changed, 0), {
    gone: [],
    isRevocation: false,
    isReachability: true,
  });
  assert.deepEqual([roll.isGone(A), roll.isWelcome(documentOf(A))], [false, true]);
});

test('a host that is put out itself keeps its own document, and knows why', () => {
  const me = 'caaaaaaaaaaaaaaaaaaaaaaaaa';
  const replica = Replica.open({ node: me, writer: 1 });
  const roll = new Roll({
    replica,
    liveness: new Liveness({ self: me, remembered: [] }),
    revocations: new Revocations(),
  });
  const done = replica.transact([writeGone(me, { why: 'revoked', ...NOW })], 1000);
  assert.deepEqual(roll.follow(done.changed, 0).gone, [me]);
  assert.equal(roll.whyGone(me), 'revoked');
  assert.equal(roll.isWelcome(documentOf(me)), true);
});

test('a node that shows up by its document is waited for', () => {
  const { replica, liveness, roll } = setup();
  roll.begin(0);
  liveness.linked(0);
  const other = Replica.open({ node: A, writer: 9 });
  other.transact([{ document: 'own', key: 'x', value: '1' }], 1000);
  const { changed } = replica.receive(other.whole(other.own), 1000);
  roll.follow(changed, 500);
  assert.equal(liveness.nextAtMs, 10_500);
});

test('who is known begins with the run before; who signs is asked where it is', () => {
  const bad = record('c', true, 'nonsense');
  const { roll } = setup({
    [A]: record('a', true),
    [B]: record('b', false, '[fd00::7]:7946'),
    ['daaaaaaaaaaaaaaaaaaaaaaaaa']: bad,
  });
  roll.begin(0);
  const a = { id: A, address: '10.0.0.1:7946', zone: 'z' };
  const b = { id: B, address: '[fd00::7]:7946', zone: 'z' };
  const before = { ...b, address: '10.9.9.9:1' };
  const self = { ...a, id: ME };
  assert.deepEqual(roll.known([before, self]), [before, a]);
  assert.deepEqual(roll.signers(new Set()), [a]);
  assert.deepEqual(roll.signers(new Set([A])), [a], 'the only one there is');
  assert.equal(setup({ [B]: record('b', false) }).roll.signers(new Set()), undefined);
});
