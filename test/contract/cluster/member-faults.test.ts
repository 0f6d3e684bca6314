/** Members on hosts where something is wrong: a clock, a disk, a certificate, a backup, bytes of others. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseAddress } from '../../../src/cluster/address.ts';
import { systemClock, type Clock } from '../../../src/cluster/io/clock.ts';
import { joinCluster, renewIdentity } from '../../../src/cluster/io/joining.ts';
import { writeGone } from '../../../src/cluster/departures.ts';
import { documentOf, Replica } from '../../../src/state/replica/replica.ts';
import { NODE_KEY, readNode } from '../../../src/state/replica/schema.ts';
import { eventually } from '../../harness/eventually.ts';
import { alive, Hosts, POOLS, SLOW, unreachable, type Host } from './hosts.ts';
import { TestCluster, TestNode } from './kit.ts';

const DAY_MS = 86_400_000;

const clusters: Hosts[] = [];
const strangers: TestNode[] = [];
after(async () => {
  await Promise.all(strangers.map(({ transport }) => transport.stop()));
  for (const hosts of clusters) await hosts.stop();
});

function cluster(): Hosts {
  const hosts = new Hosts();
  clusters.push(hosts);
  return hosts;
}

const memoryOf = ({ directory }: Host): string => join(directory, 'cluster', 'overlay.json');
const tellsItSigns = ({ replica }: Host): boolean =>
  readNode(replica.get(replica.own, NODE_KEY) ?? '')?.signer === true;
const lived = (host: Host): number => host.member.status().incarnation;
const warnings = ({ log }: Host, what: RegExp): number =>
  log.filter((line) => line.startsWith('warn ') && what.test(line)).length;

test('each life counts higher than the one before, also when the clock was set back', async () => {
  const host = await cluster().found('a');
  const first = lived(host);
  assert.ok(Math.abs(first - Date.now() / 1000) < 60, 'seconds of the clock, where that is more');
  await host.stop(true);
  const back = { ...systemClock, wallMs: () => Date.now() - DAY_MS };
  await host.start({ clock: back });
  assert.equal(lived(host), first + 1);
  await host.stop(false);
  await host.start({ clock: back });
  assert.equal(lived(host), first + 2);
  assert.equal(statSync(memoryOf(host)).mode & 0o777, 0o600);
});

test('a join token that a member saw end has ended for good', async () => {
  const host = await cluster().found('a');
  host.member.issueToken(3_600_000, false);
  assert.deepEqual(
    host.vault.ledger().map(({ ended }) => ended),
    [undefined],
  );
  await host.stop(true);
  await host.start({ clock: { ...systemClock, wallMs: () => Date.now() + 7_200_000 } });
  assert.deepEqual(
    host.vault.ledger().map(({ ended }) => ended),
    [true],
  );
});

test('who is revoked stays so when the clock is months ahead for a moment', async () => {
  const hosts = cluster();
  const host = await hosts.found('a');
  const out = await hosts.join('b', host);
  await eventually('both to be there', () => alive(host) === 2, SLOW);
  const { id: revoked } = out;
  host.member.revoke(revoked, 'stolen');
  await out.stop(false);
  await host.stop(true);
  let aheadMs = 100 * DAY_MS;
  // What a member looks after now and then it does at its start, too.
  await host.start({ clock: { ...systemClock, wallMs: () => Date.now() + aheadMs } });
  aheadMs = 0;
  assert.equal(host.member.status().revocations, 1);
  const word = host.member.issueToken(60_000, false).token;
  const joined = await joinCluster(host.member.address, word, systemClock);
  assert.deepEqual(
    joined.revocations.map(({ id }) => id),
    [revoked],
  );
  aheadMs = 31 * DAY_MS;
  const later = host.member.issueToken(60_000, false).token;
  const after31Days = await joinCluster(host.member.address, later, {
    ...systemClock,
    wallMs: () => Date.now() + aheadMs,
  });
  assert.deepEqual(after31Days.revocations, [], 'no certificate of it is good any more');
  assert.equal(host.member.status().revocations, 1);
});

test('who is gone for good is cut, let in no more and gets no certificate, also where no revocation says so', async () => {
  const hosts = cluster();
  const [a, b, c] = await hosts.three();
  const copies = [b, c].map(({ vault }) => vault.identity());
  const { key, value } = writeGone(b.id, { why: 'revoked', at: '2026-01-01', atMs: Date.now() });
  a.write('shared', key, value);
  await eventually(
    'the cut',
    () => a.member.metrics['cluster_connections_closed_total.revoked'] === 1,
  );
  await b.stop(false);
  assert.deepEqual(await c.member.leave(), { told: true });
  c.ended();
  await eventually('the news', () => a.member.gone().has(c.id));
  await eventually('the end of all links', () => a.member.status().neighbours.length === 0);
  assert.equal(a.member.metrics['cluster_connections_closed_total.revoked'], 1);
  assert.equal(a.member.status().revocations, 0);
  const peer = { id: a.id, address: a.member.address, zone: '' };
  for (const copy of copies) {
    assert.ok(copy !== undefined);
    await assert.rejects(renewIdentity(copy, peer, systemClock));
    const again = await TestNode.start(copy);
    strangers.push(again);
    again.transport.keep(peer);
    await eventually('the refusal', () => again.unreachable.length > 0);
    assert.deepEqual(again.ups, []);
  }
});

test('who says that it leaves, and stays, is cut all the same', async () => {
  const hosts = cluster();
  const host = await hosts.found('a');
  await host.stop(true);
  let isOver = (): void => undefined;
  const clock: Clock = {
    ...systemClock,
    after(ms, run) {
      const cancel = systemClock.after(ms, run);
      if (ms !== 5000) return cancel;
      isOver = () => {
        cancel();
        run();
      };
      return cancel;
    },
  };
  await host.start({ clock });
  const other = await hosts.join('b', host);
  await eventually('both to be there', () => alive(host) === 2, SLOW);
  const { key, value } = writeGone(other.id, { why: 'left', at: '2026-01-01', atMs: Date.now() });
  host.write('shared', key, value);
  assert.equal(host.member.metrics['cluster_connections_closed_total.revoked'], 0);
  isOver();
  await eventually('the cut', () => host.member.status().neighbours.length === 0);
  assert.equal(host.member.metrics['cluster_connections_closed_total.revoked'], 1);
});

test('a member whose peers are all away goes on asking for them', async () => {
  const hosts = cluster();
  const host = await hosts.found('a');
  const other = await hosts.join('b', host);
  await eventually('both to be there', () => alive(host) === 2, SLOW);
  await host.stop(true);
  await other.stop(true);
  await host.start({ seeds: [] });
  const inVain = (): boolean => host.member.metrics.cluster_dial_failures_total >= 5;
  await eventually('five dials', inVain, SLOW);
});

test('a memory that cannot be read, or written, is told of and stops nobody', async () => {
  const host = await cluster().found('a');
  const path = memoryOf(host);
  await host.stop(true);
  writeFileSync(path, readFileSync(path, 'utf8').replace('incarnation', 'incantation'));
  await host.start();
  assert.equal(warnings(host, /what was remembered of the cluster cannot be read/), 1);
  await host.stop(true);
  assert.match(readFileSync(path, 'utf8'), /"incarnation":\d+/, 'it is written afresh');
  rmSync(path);
  mkdirSync(path);
  await host.start();
  assert.equal(warnings(host, /peers cannot be remembered for the next start/), 1);
  assert.equal(alive(host), 1);
});

test('a key that others may read now is told of, ends no member, and is used when it is put right', async () => {
  const host = await cluster().found('a');
  await host.stop(true);
  const path = join(host.directory, 'cluster', 'ca-key.pem');
  chmodSync(path, 0o644);
  await host.start();
  const status = host.member.status();
  assert.equal(status.signer, false);
  assert.match(status.problems.join(), /cannot sign: .*ca-key\.pem is open to others \(mode 644\)/);
  assert.throws(() => host.member.issueToken(60_000, false), /ca-key\.pem is open to others/);
  assert.equal(warnings(host, /the CA key cannot be used.*ca-key.pem/), 1);
  chmodSync(path, 0o600);
  await eventually('it to sign', () => host.member.status().signer, SLOW);
  assert.deepEqual(host.member.status().problems, []);
  await eventually('it to say so', () => tellsItSigns(host), SLOW);
});

test('a document that the disk refuses does not keep a member from starting', async () => {
  const host = await cluster().found('a');
  const seen = host.replica.get(host.replica.own, NODE_KEY);
  await host.stop(true);
  host.isDiskFull = true;
  await host.start({ software: '2.0.0' });
  assert.equal(warnings(host, /what this host is cannot be written down/), 1);
  assert.equal(host.replica.get(host.replica.own, NODE_KEY), seen);
});

test('a member whose start fails at the end leaves nothing behind that listens or dials', async () => {
  const host = await cluster().found('a');
  await host.stop(true);
  const info = (_fields: object, message: string): void => {
    if (message === 'member of a cluster') throw new Error('the log is full');
  };
  const log = { debug: () => undefined, warn: () => undefined, info };
  await assert.rejects(host.start({ log }), /the log is full/);
  await host.start(); // at the same port
  assert.equal(alive(host), 1);
});

test('who was gone before a host came, or lost its memory, is known to it from the others', async () => {
  const hosts = cluster();
  const [a, b, c] = await hosts.three();
  await b.stop(true);
  await a.stop(true);
  rmSync(memoryOf(a));
  await a.start();
  assert.deepEqual(unreachable(a), []);
  await eventually('c again', () => alive(a) === 2, SLOW);
  await eventually('b to be missed', () => unreachable(a).join() === b.id, SLOW);
  assert.equal(a.member.members().find(({ id }) => id === b.id)?.state, 'left');
  const d = await hosts.join('d', a);
  await eventually('b to be missed', () => unreachable(d).join() === b.id, SLOW);
  assert.equal(c.isRunning, true);
});

test('a node of which there is nothing but a document is missed after a while among others', async () => {
  const hosts = cluster();
  const a = await hosts.found('a');
  const ghost = Replica.open({ node: 'gaaaaaaaaaaaaaaaaaaaaaaaaa', writer: 7 });
  ghost.transact([{ document: 'own', key: 'x', value: '1' }], Date.now());
  await a.stop(true);
  a.restore({ ...a.saved, updates: [...a.saved.updates, ghost.whole(ghost.own)] });
  await a.start();
  const told = a.told;
  const b = await hosts.join('b', a);
  const stateOnA = (): string | undefined =>
    a.member.members().find(({ id }) => id === ghost.node)?.state;
  assert.equal(stateOnA(), 'unknown');
  assert.deepEqual(unreachable(a), []);
  const isMissed = (host: Host): boolean => unreachable(host).join() === ghost.node;
  await eventually('it to be missed', () => isMissed(a) && isMissed(b), SLOW);
  assert.equal(stateOnA(), 'unknown');
  assert.equal(a.told, told + 1);
});

test('bytes that are no message end the connection of whoever sent them', async () => {
  const made = await TestCluster.found();
  const { authority, founder: identity } = made;
  const host = await cluster().found('a', { authority, identity });
  const member = await TestNode.start(await made.identity());
  strangers.push(member);
  const to = { id: host.id, address: host.member.address, zone: '' };
  member.transport.send(to, 'state', Uint8Array.of(1, 2, 3, 4));
  await eventually('the end of it', () => member.downs.length === 1);
  assert.equal(host.member.metrics['cluster_connections_closed_total.protocol'], 1);
  assert.equal(warnings(host, /a member sent bytes that are no message/), 1);
});

/** c as it was before it wrote two backends, and removed one that it has again. */
async function setBack(): Promise<{ hosts: Host[]; c: Host; keys: () => string[][] }> {
  const [a, b, c] = await cluster().three();
  const key = (i: number): string => `backend/web/http/10.0.0.${i}/80`;
  const hosts = [a, b, c];
  const keys = (): string[][] =>
    hosts.map(({ replica }) =>
      [1, 2, 3, 4].map(key).filter((one) => replica.get(documentOf(c.id), one) !== undefined),
    );
  c.write('own', key(1), '{}');
  await eventually('the first', () => keys().every(({ length }) => length === 1));
  const backup = c.saved;
  c.write('own', key(2), '{}');
  c.write('own', key(3), '{}');
  c.write('own', key(1), undefined);
  await eventually('all', () => keys().every((list) => list.join() === [key(2), key(3)].join()));
  await c.stop(true);
  c.restore(backup);
  await c.start();
  return { hosts, c, keys };
}

test('a data directory that was set back, and written to since, is told of as soon as others are there', async () => {
  const { c } = await setBack();
  c.write('own', 'backend/web/http/10.0.0.4/80', '{}');
  const isTold = (): boolean => c.member.status().problems.some((one) => /was set back/.test(one));
  await eventually('it to be known', isTold, SLOW);
  assert.equal(warnings(c, /data directory was set back/) > 0, true);
});

test('a data directory that was set back, and not written to, takes all back under a new writer', async () => {
  const { c, keys } = await setBack();
  const lost = [2, 3].map((i) => `backend/web/http/10.0.0.${i}/80`);
  await eventually(
    'what it lacks',
    () => keys().every((list) => list.join() === lost.join()),
    SLOW,
  );
  assert.equal(warnings(c, /was set back .*: nothing was written since/), 1);
  assert.equal(c.replica.writer, c.writer ^ 1);
  assert.deepEqual(c.member.status().problems, []);
  c.write('own', 'backend/web/http/10.0.0.4/80', '{}');
  await eventually('the next', () => keys().every(({ length }) => length === 3), SLOW);
});

test('a certificate whose time has come is renewed by a member that has the key, links go on', async () => {
  const made = await TestCluster.found();
  const hosts = cluster();
  const a = await hosts.found('a', { authority: made.authority, identity: made.founder });
  const b = await hosts.join('b', a);
  await eventually('both to know both', () => alive(a) === 2 && alive(b) === 2, SLOW);
  await b.stop(true);
  const old = { notBeforeMs: Date.now() - 29 * DAY_MS, notAfterMs: Date.now() + DAY_MS };
  const ending = await made.identity(b.id, old);
  b.vault.saveIdentity(ending);
  await b.start();
  await eventually('a new one', () => b.vault.identity()?.serial !== ending.serial, SLOW);
  const until = Date.parse(b.member.status().certificateUntil);
  assert.ok(until > Date.now() + 29 * DAY_MS);
  assert.equal(a.member.metrics['cluster_renewals_total.granted'], 1);
  await eventually('both to know both', () => alive(a) === 2 && alive(b) === 2, SLOW);
  assert.deepEqual(b.member.status().problems, []);
});

test('a member that takes VIPs from other blocks is told of, and logged once, until it has the same', async () => {
  const hosts = cluster();
  const a = await hosts.found('a');
  const b = await hosts.join('b', a);
  const both = [a, b];
  const problemsOf = ({ member }: Host): readonly string[] => member.status().problems;
  const logged = (host: Host): number => warnings(host, /takes VIPs from other blocks/);
  await eventually('both to know both', () => alive(a) === 2 && alive(b) === 2, SLOW);
  assert.deepEqual(both.map(problemsOf), [[], []]);

  const listen = parseAddress(b.member.address);
  const settings = { listen, advertise: undefined, zone: 'here', name: 'b' };
  const again = async (vips: readonly string[]): Promise<void> => {
    await b.stop(true);
    await b.start({ settings: { ...settings, vips } });
  };
  await again(['10.96.0.0/12', POOLS[1] ?? '']);
  await eventually('both to tell', () => both.every((host) => problemsOf(host).length === 1), SLOW);
  assert.match(problemsOf(a)[0] ?? '', /^b takes VIPs from 10\.96\.0\.0\/12 and fd7a:/);
  assert.match(problemsOf(b)[0] ?? '', /^a takes VIPs from 240\.0\.0\.0\/4 and fd7a:/);
  await eventually('both to log it', () => both.every((host) => logged(host) > 0), SLOW);

  await again(POOLS);
  await eventually(
    'nothing to tell',
    () => both.every((host) => problemsOf(host).length === 0),
    SLOW,
  );
  assert.deepEqual(both.map(logged), [1, 1]);
});

test('an address that nobody can dial is refused, and the port is free again', async () => {
  const host = await cluster().found('a');
  const listen = parseAddress(host.member.address);
  await host.stop(true);
  const settings = { listen, advertise: 'here.example', zone: '', name: 'a', vips: POOLS };
  await assert.rejects(host.start({ settings }), /"here.example" is not an address/);
  await host.start({ settings: { ...settings, advertise: undefined } });
  assert.deepEqual(parseAddress(host.member.address), listen);
});

test('a state and a certificate of two nodes are no member', async () => {
  const host = await cluster().found('a');
  await host.stop(true);
  const { founder } = await TestCluster.found();
  await assert.rejects(
    host.start({ identity: founder }),
    new RegExp(`bug: the state is of node ${host.id}, the certificate of ${founder.nodeId}`),
  );
});
