/** Members as the agent runs them: what one writes all have, who is gone is known, who is put out stays out. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ProblemError } from '../../../src/state/problem.ts';
import { documentOf, Replica } from '../../../src/state/replica/replica.ts';
import { NODE_KEY, readNode } from '../../../src/state/replica/schema.ts';
import { joinCluster } from '../../../src/cluster/io/joining.ts';
import { systemClock } from '../../../src/cluster/io/clock.ts';
import { eventually } from '../../harness/eventually.ts';
import { alive, Hosts, names, SLOW, unreachable, valuesOf, type Host } from './hosts.ts';

const clusters: Hosts[] = [];
after(async () => {
  for (const hosts of clusters) await hosts.stop();
});

async function three(): Promise<{ hosts: Hosts; a: Host; b: Host; c: Host }> {
  const hosts = new Hosts();
  clusters.push(hosts);
  const [a, b, c] = await hosts.three();
  return { hosts, a, b, c };
}

function stateOf(host: Host, of: Host): string | undefined {
  return host.member.members().find(({ id }) => id === of.id)?.state;
}

test('what one host writes is on all, stored there, and told to their agents', async () => {
  const { a, b, c } = await three();
  b.write('shared', 'kv/colour', '"blue"');
  b.write('own', 'backend/web/http/10.0.0.2/80', '{}');
  await eventually('both writes', () =>
    [a, b, c].every(
      (host) =>
        host.reads('kv/colour') === '"blue"' &&
        host.seen.get(`${documentOf(b.id)} backend/web/http/10.0.0.2/80`) === '{}',
    ),
  );
  const heardOf = ({ heard }: Host): number => heard.filter((key) => key === 'kv/colour').length;
  assert.deepEqual([a, b, c].map(heardOf), [1, 0, 1], 'who wrote it knows');
  c.write('shared', 'kv/colour', undefined);
  await eventually('the removal', () =>
    [a, b, c].every((host) => host.reads('kv/colour') === undefined),
  );
  for (const host of [a, b, c]) {
    assert.deepEqual(host.seen, valuesOf(host.replica), `${host.name}: followed`);
    assert.deepEqual(valuesOf(Replica.open(host, host.saved)), host.seen, `${host.name}: stored`);
    assert.deepEqual(unreachable(host), []);
  }
  a.member.fact('health/web', Uint8Array.of(1), 60_000, 'urgent');
  await eventually('the fact', () => b.facts.length === 1 && c.facts.length === 1);
  const heard = b.facts.map(({ origin, key, value }) => [origin, key, ...(value ?? [])]);
  assert.deepEqual(heard, [[a.id, 'health/web', 1]]);
});

test('a member tells what it is, and shows how the others are reached', async () => {
  const { a, b } = await three();
  const record = readNode(b.replica.get(documentOf(a.id), NODE_KEY) ?? '');
  assert.equal(record?.name, 'a');
  assert.equal(record.version, '1.2.3');
  assert.equal(record.address, a.member.address);
  assert.equal(record.signer, true);
  const [self, other] = b.member.members();
  assert.deepEqual([self?.name, self?.self, self?.signer], ['b', true, false]);
  assert.deepEqual([other?.name, other?.self, other?.signer], ['a', false, true]);
  assert.equal(other?.address, a.member.address);
  assert.equal(other.zone, 'here');
  assert.deepEqual(
    b.member.routes().map(({ name, path }) => [name, path.length > 0]),
    [
      ['a', true],
      ['c', true],
    ],
  );
  const status = b.member.status();
  assert.deepEqual(status.members, { alive: 3, suspect: 0, dead: 0, left: 0, unknown: 0 });
  assert.deepEqual(status.problems, []);
  assert.equal(status.address, b.member.address);
  assert.equal(status.documents, 4);
  assert.ok(status.neighbours.length >= 1 && status.sentBytes > 0 && status.messagesReceived > 0);
});

test('who says goodbye is out of use at the others before it has stopped', async () => {
  const { a, b, c } = await three();
  const told = [a.told, c.told];
  const goodbye = b.stop(true).then(() => [unreachable(a), unreachable(c)]);
  assert.deepEqual(await goodbye, [[b.id], [b.id]]);
  assert.deepEqual([stateOf(a, b), stateOf(c, b)], ['left', 'left']);
  assert.deepEqual([a.told, c.told], [(told[0] ?? 0) + 1, (told[1] ?? 0) + 1]);
  await b.start();
  await eventually(
    'it to be back',
    () => unreachable(a).length + unreachable(c).length === 0,
    SLOW,
  );
});

test('who is killed is out of use, and back in it when it comes back in another life', async () => {
  const { a, b, c } = await three();
  const { incarnation } = c.member.status();
  await c.stop(false);
  await eventually('its death', () => [a, b].every((host) => unreachable(host)[0] === c.id), SLOW);
  assert.equal(stateOf(a, c), 'dead');
  a.write('shared', 'kv/meanwhile', '1');
  await c.start();
  assert.ok(c.member.status().incarnation > incarnation);
  await eventually(
    'it to be back',
    () => [a, b].every((host) => unreachable(host).length === 0),
    SLOW,
  );
  await eventually('what it missed', () => c.reads('kv/meanwhile') === '1', SLOW);
  await eventually('it to see all', () => alive(c) === 3, SLOW);
});

test('who was gone in the run before counts as gone until it is seen', async () => {
  const { a, b, c } = await three();
  await c.stop(false);
  await eventually('its death', () => [a, b].every((host) => unreachable(host)[0] === c.id), SLOW);
  await b.stop(true);
  assert.deepEqual(unreachable(a), [b.id, c.id].sort());
  await a.stop(true);
  await a.start();
  assert.deepEqual(unreachable(a), [b.id, c.id].sort());
  assert.deepEqual([stateOf(a, b), stateOf(a, c)], ['left', 'dead']);
  await c.start();
  await eventually('one to be back', () => unreachable(a).join() === b.id, SLOW);
});

test('who is revoked is cut, and its document forgotten everywhere, also by who was away', async () => {
  const { a, b, c } = await three();
  b.write('own', 'backend/web/http/10.0.0.2/80', '{}');
  const document = documentOf(b.id);
  const has = (host: Host): boolean => host.replica.documents().includes(document);
  await eventually('its document', () =>
    [a, c].every((host) => host.replica.get(document, 'backend/web/http/10.0.0.2/80') === '{}'),
  );
  await c.stop(false);
  a.member.revoke(b.id, 'stolen');
  assert.equal(has(a), false);
  assert.deepEqual(
    [...a.seen.keys()].filter((key) => key.startsWith(document)),
    [],
  );
  await eventually('the cut', () => a.member.status().neighbours.length === 0, SLOW);
  assert.deepEqual(names(a), 'a c');
  assert.equal(a.member.metrics['cluster_connections_closed_total.revoked'], 1);
  await b.stop(false); // whoever has not heard of it yet would talk to it
  await c.start();
  assert.equal(has(c), true, 'it has not heard of it yet');
  await eventually('the news', () => !has(c), SLOW);
  assert.equal(names(c), 'a c');
  a.write('shared', 'kv/x', '1');
  await eventually('all to be equal', () => c.reads('kv/x') === '1', SLOW);
  assert.deepEqual(valuesOf(c.replica), valuesOf(a.replica));
  assert.equal(has(a), false);
  assert.deepEqual(c.seen, valuesOf(c.replica));
  for (const host of [a, c])
    assert.deepEqual(valuesOf(Replica.open(host, host.saved)), host.seen, `${host.name}: stored`);
  assert.throws(() => a.member.revoke(a.id, ''), ProblemError);
  assert.throws(() => a.member.revoke('b', ''), ProblemError);
});

test('who leaves is forgotten by all and keeps no key; alone, it says that nobody heard', async () => {
  const { a, b, c } = await three();
  assert.deepEqual(await b.member.leave(), { told: true });
  b.ended();
  for (const host of [a, c]) {
    assert.equal(host.replica.documents().includes(documentOf(b.id)), false, host.name);
    assert.equal(names(host), 'a c');
    assert.deepEqual(unreachable(host), []);
  }
  assert.equal(b.vault.identity(), undefined);
  await c.stop(true);
  await eventually('the end of the link', () => a.member.status().neighbours.length === 0);
  a.isDiskFull = true;
  await assert.rejects(a.member.leave(), /full disk/);
  assert.notEqual(a.vault.identity(), undefined);
  a.isDiskFull = false;
  assert.deepEqual(await a.member.leave(), { told: false });
  a.ended();
  assert.equal(a.vault.identity(), undefined);
  assert.equal(a.vault.authority(), undefined);
});

test('who joins has the whole state; a token is good once, and not after it was withdrawn', async () => {
  const { hosts, a, b, c } = await three();
  for (let i = 0; i < 200; i++) (i % 2 === 0 ? b : c).write('shared', `kv/${i}`, `"${i}"`);
  c.write('shared', 'kv/large', JSON.stringify('x'.repeat(30_000)));
  const { token, id, expiresAtMs } = a.member.issueToken(60_000, false);
  assert.deepEqual(
    a.member.tokens().find((one) => one.id === id),
    {
      id,
      expiresAtMs,
      signer: false,
    },
  );
  const d = await hosts.join('d', a, token);
  const isWhole = (): boolean =>
    d.reads('kv/large') !== undefined &&
    [a, b, c, d].every((host) => names(host) === 'a b c d' && alive(host) === 4);
  await eventually('the whole state', isWhole, SLOW);
  assert.deepEqual(valuesOf(d.replica), valuesOf(a.replica));
  assert.deepEqual(d.seen, valuesOf(d.replica));
  assert.equal(a.member.tokens().find((one) => one.id === id)?.used?.nodeId, d.id);
  const again = joinCluster(a.member.address, token, systemClock);
  await assert.rejects(again, /was used before/);
  assert.equal(a.member.withdrawToken(id), false);
  const other = a.member.issueToken(60_000, false);
  assert.equal(a.member.withdrawToken(other.id), true);
  await assert.rejects(
    joinCluster(a.member.address, other.token, systemClock),
    /is not known there/,
  );
  assert.throws(() => d.member.issueToken(60_000, false), /has not the CA key/);
});
