/** Founding, joining and leaving by whole agents (without kernel), and what goes wrong half way. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs, { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, mock, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { blankWrite, isBlank } from '../../../src/agent/blank.ts';
import { hasOthers } from '../../../src/agent/io/enrolment.ts';
import { readSecret, writeSecret } from '../../../src/cluster/io/files.ts';
import { configSchema } from '../../../src/config/schema.ts';
import { State } from '../../../src/state/io/state.ts';
import { eventually, within } from '../../harness/eventually.ts';
import { SLOW } from '../cluster/hosts.ts';
import { AgentHost, Stranger, tell } from './host.ts';
import { putAll } from './records.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-agent-'));
after(() => rmSync(root, { recursive: true, force: true }));

let hosts = 0;
async function started(port = 0): Promise<AgentHost> {
  const host = new AgentHost(join(root, `data-${hosts++}`), port);
  await host.start();
  return host;
}

async function put(host: AgentHost, name: string): Promise<void> {
  const ports = [{ name: 'p', port: 80, protocol: 'tcp' as const }];
  await host.pipeline.submit({ kind: 'put-service', service: { name, ports } }, { dryRun: false });
}

function names({ state }: AgentHost): string[] {
  return [...state.snapshot().services.keys()].toSorted();
}

/** Somebody else has this port. */
async function takenPort(): Promise<{ port: number; release: () => void }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { port, release: () => void server.close() };
}

async function founded(): Promise<AgentHost> {
  const host = await started();
  await host.cluster.init();
  return host;
}

function portOf({ cluster }: AgentHost): number {
  const status = cluster.status();
  return status.member ? Number(status.address.split(':')[1]) : 0;
}

function tokenOf({ cluster }: AgentHost, signer = false): { address: string; token: string } {
  return cluster.issueToken({ validForS: 600, signer });
}

test('what is written while a host joins is there afterwards', async () => {
  const first = await founded();
  const second = await started();
  const { address, token } = tokenOf(first);
  const joined = second.cluster.join({ address, token });
  await put(second, 'web');
  await joined;
  assert.deepEqual(names(second), ['web']);
  await eventually('the other one has it', () => names(first).includes('web'), SLOW);
  await Promise.all([first.close(), second.close()]);
});

test('a host that died while it left has left when it comes back', async () => {
  const first = await founded();
  await put(first, 'web');
  const { nodeId = '' } = { nodeId: undefined, ...first.cluster.status() };
  const value = JSON.stringify({ at: '2026-01-01T00:00:00.000Z', why: 'left', addresses: [] });
  await first.pipeline.write(() => [{ document: 'shared', key: `gone/${nodeId}`, value }]);
  await first.cluster.stop(false);
  await first.close();
  const again = new AgentHost(first.directory);
  await again.start();
  assert.equal(again.cluster.status().member, false);
  assert.equal(again.state.node, 'local');
  assert.deepEqual(names(again), ['web']);
  await again.close();
});

test('a host that has left waits for no state, also where it had none', async () => {
  const first = await founded();
  const second = await started();
  await second.cluster.join(tokenOf(first));
  const { node } = second.state;
  const value = JSON.stringify({ at: '2026-01-01T00:00:00.000Z', why: 'left', addresses: [] });
  await second.cluster.stop(false);
  const left = { document: 'shared', key: `gone/${node}`, value } as const;
  await second.pipeline.write(() => [left, blankWrite([])]);
  await Promise.all([first.close(), second.close()]);
  const again = new AgentHost(second.directory);
  await within('the start', again.start(), 10_000);
  assert.equal(again.cluster.status().member, false);
  await again.close();
});

test('a join with discard that fails leaves everything as it was', async () => {
  const first = await founded();
  const { port, release } = await takenPort();
  const second = await started(port);
  await put(second, 'web');
  const { writer } = second.state.replica;
  const { address, token } = tokenOf(first);
  await assert.rejects(
    second.cluster.join({ address, token, state: 'discard' }),
    /EADDRINUSE|in use/,
  );
  assert.deepEqual(names(second), ['web']);
  assert.equal(second.state.node, 'local');
  assert.notEqual(second.state.replica.writer, writer);
  await put(second, 'api');
  await Promise.all([first.close(), second.close()]);
  const state = State.open(second.directory);
  assert.deepEqual([...state.snapshot().services.keys()].toSorted(), ['api', 'web']);
  state.close();
  release();
});

for (const state of ['discard', 'merge'] as const)
  test(`a host that dies in the middle of a join with ${state} is what it was, or goes on with it`, async () => {
    const first = await founded();
    await put(first, 'theirs');
    const second = await started();
    await put(second, 'mine');
    const [none, before, after] = ['none', 'before', 'after'].map(
      (step) => `${second.directory}-${step}`,
    ) as [string, string, string];
    const copy = (to: string): void => void execFileSync('cp', ['-a', second.directory, to]);
    second.pipeline.aroundRebase((work) => {
      copy(none);
      copy(before);
      work();
      copy(after);
    });
    await second.cluster.join({ ...tokenOf(first, state === 'merge'), state });
    const port = portOf(second);
    await second.close();

    rmSync(join(none, 'cluster', 'node.pem'));
    const local = new AgentHost(none);
    await local.start();
    assert.deepEqual([local.cluster.status().member, names(local)], [false, ['mine']]);
    assert.deepEqual(readdirSync(join(none, 'cluster')), []);
    await local.close();

    const expected = state === 'discard' ? ['theirs'] : ['mine', 'theirs'];
    for (const directory of [before, after]) {
      const again = new AgentHost(directory, port);
      let has: string[] = [];
      again.kernel.whileStarting = () => (has = names(again));
      await again.start();
      assert.deepEqual(has, expected, 'it waits for the state of the cluster');
      assert.equal(again.cluster.status().member, true);
      await eventually('what the cluster has', () => names(again).join() === expected.join(), SLOW);
      assert.ok(!readdirSync(join(directory, 'cluster')).includes('joining'));
      await again.close();
    }
    await first.close();
  });

/** A directory takes the place of the file: it cannot be removed as one. */
function whileJoining(host: AgentHost, joining: string): void {
  host.pipeline.aroundRebase((work) => {
    work();
    rmSync(joining, { recursive: true });
    mkdirSync(joining);
  });
}

test('why a join failed is told also where it cannot be taken back from the disk', async () => {
  const first = await founded();
  const { port, release } = await takenPort();
  const second = await started(port);
  await put(second, 'mine');
  whileJoining(second, join(second.directory, 'cluster', 'joining'));
  await assert.rejects(
    second.cluster.join({ ...tokenOf(first), state: 'merge' }),
    /EADDRINUSE|in use/,
  );
  assert.ok(second.log.some((line) => line.startsWith('error a join failed, and not all of it')));
  assert.deepEqual([second.state.node, names(second)], ['local', ['mine']]);
  await Promise.all([first.close(), second.close()]);
  release();
});

test('a host whose last step of a join fails on the disk is a member all the same', async () => {
  const first = await founded();
  await put(first, 'theirs');
  const second = await started();
  const joining = join(second.directory, 'cluster', 'joining');
  whileJoining(second, joining);
  await second.cluster.join(tokenOf(first));
  assert.equal(second.cluster.status().member, true);
  assert.notEqual(second.state.node, 'local');
  assert.ok(second.log.some((line) => line.startsWith('warn what was kept of a join')));
  await eventually('what the cluster has', () => names(second).join() === 'theirs', SLOW);
  rmdirSync(joining);
  const port = portOf(second);
  await second.close();
  const again = new AgentHost(second.directory, port);
  await again.start();
  assert.equal(again.cluster.status().member, true);
  await Promise.all([first.close(), again.close()]);
});

test('a host that dies while it leaves keeps its records, also where a join was not over', async () => {
  const host = await founded();
  await put(host, 'web');
  await host.close();
  const at = join(host.directory, 'cluster');
  writeSecret(join(at, 'joining'), `${JSON.stringify({ shared: 'drop', seeds: [] })}\n`);
  rmSync(join(at, 'node.pem'));
  const again = new AgentHost(host.directory);
  await again.start();
  assert.deepEqual([again.cluster.status().member, names(again)], [false, ['web']]);
  await again.close();
});

test('what is left of a join and cannot be removed keeps no agent from starting, and is told', async () => {
  const host = await founded();
  await put(host, 'web');
  await host.close();
  const at = join(host.directory, 'cluster');
  const joining = join(at, 'joining');
  writeSecret(joining, `${JSON.stringify({ shared: 'drop', seeds: [] })}\n`);
  rmSync(join(at, 'node.pem'));
  const { rmSync: remove } = fs;
  const faked = mock.method(fs, 'rmSync', (path: string, options: object) => {
    if (path === joining) throw new Error(`EPERM: operation not permitted, rm '${path}'`);
    remove(path, options);
  });
  syncBuiltinESMExports();
  const again = new AgentHost(host.directory);
  try {
    await again.start();
  } finally {
    faked.mock.restore();
    syncBuiltinESMExports();
  }
  assert.deepEqual([again.cluster.status().member, names(again)], [false, ['web']]);
  const left = readdirSync(at);
  assert.deepEqual([left.includes('joining'), left.includes('ca-key.pem')], [true, false]);
  assert.ok(again.log.some((line) => line.startsWith('warn what was left of a cluster')));
  await again.close();
});

test('a host that ends right after its join knows whom to ask when it comes back', async () => {
  const first = await founded();
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first));
  const port = portOf(second);
  await second.close();
  const again = new AgentHost(second.directory, port);
  const start = again.start();
  await eventually('what the cluster has', () => names(again).join() === 'web', SLOW);
  await start;
  await again.close();
  await first.close();
});

test('an agent that ends while it joins leaves no member running', async () => {
  const first = await founded();
  const second = await started();
  const { address, token } = tokenOf(first);
  const joined = second.cluster.join({ address, token }).then(
    () => 'joined',
    (error: Error) => error.message,
  );
  await second.close();
  assert.match(await joined, /stopping/);
  assert.equal(second.cluster.status().member, false);
  const open = process.getActiveResourcesInfo().filter((one) => one === 'TCPServerWrap');
  assert.equal(open.length, 1, 'only the first one listens');
  await first.close();
});

test('a member that has no port yet joins no other cluster, and can leave', async () => {
  const first = await founded();
  await put(first, 'web');
  const { port, release } = await takenPort();
  await first.close();
  const again = new AgentHost(first.directory, port);
  await again.start();
  const status = again.cluster.status();
  assert.equal(status.member, false);
  assert.match(JSON.stringify(status), /waiting/);
  await assert.rejects(again.cluster.init(), /is in cluster .* already/);
  await again.cluster.leave();
  assert.equal(again.state.node, 'local');
  assert.deepEqual(names(again), ['web']);
  release();
  await again.cluster.init();
  assert.equal(again.cluster.status().member, true);
  await again.close();
});

test('who was dead when a member ran last stays so while it waits for a port', async () => {
  const first = await founded();
  const stranger = new Stranger();
  const { node } = stranger.replica;
  tell(first, stranger.commit(putAll('web', 1, '10.0.0.1', '10.0.0.2')));
  tell(first, stranger.tellOfSelf('10.0.0.2'));
  const { port, release } = await takenPort();
  await first.close();
  const memory = join(first.directory, 'cluster', 'overlay.json');
  const told = JSON.parse(readSecret(memory) ?? '') as object;
  const absent = [{ id: node, standing: 'dead', sinceMs: 1 }];
  writeSecret(memory, JSON.stringify({ ...told, absent }));

  const again = new AgentHost(first.directory, port);
  await again.start();
  assert.match(JSON.stringify(again.cluster.status()), /waiting/);
  assert.deepEqual(again.kernel.takers('web'), ['10.0.0.1']);
  release();
  await again.cluster.refresh();
  assert.equal(again.cluster.status().member, true);
  await again.pipeline.settled();
  assert.deepEqual(again.kernel.takers('web'), ['10.0.0.1']);
  await again.close();
});

test('a member that lost its state fills no tables before it has it from another one', async () => {
  const first = await founded();
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first));
  await eventually('the service', () => names(second).includes('web'), SLOW);
  const ports = [first, second].map((host) => portOf(host));
  await Promise.all([first.close(), second.close()]);
  State.setAside(second.directory);

  const again = new AgentHost(second.directory, ports[1]);
  let isFilled = false;
  again.kernel.whileStarting = () => (isFilled = true);
  const start = again.start();
  await eventually('a word of it', () => again.log.some((line) => line.includes('it waits for')));
  assert.equal(isFilled, false);
  const other = new AgentHost(first.directory, ports[0]);
  await other.start();
  await start;
  assert.deepEqual([...again.kernel.services.keys()], ['web']);
  await Promise.all([other.close(), again.close()]);
});

/** Members of one cluster that are closed, and the ports that they had. */
async function closedMembers(count: number): Promise<{ directory: string; port: number }[]> {
  const first = await founded();
  await put(first, 'web');
  const others: AgentHost[] = [];
  for (let i = 1; i < count; i++) {
    const other = await started();
    others.push(other);
    await other.cluster.join(tokenOf(first));
  }
  const all = [first, ...others];
  const isKnown = ({ state }: AgentHost): boolean =>
    state.snapshot().services.has('web') && state.view.nodes().size === count;
  await eventually('all to know all', () => all.every(isKnown), SLOW);
  const members = all.map((host) => ({ directory: host.directory, port: portOf(host) }));
  await Promise.all(all.map((host) => host.close()));
  return members;
}

/** Whether a neighbour has all that this one has. */
function isLevel({ cluster }: AgentHost): boolean {
  const status = cluster.status();
  return status.member && status.neighbours.some(({ behind }) => behind === 0);
}

test('members that lost their state do not take each other for one that has it', async () => {
  const [first, ...others] = await closedMembers(3);
  for (const { directory } of others) State.setAside(directory);
  const blank = others.map(({ directory, port }) => new AgentHost(directory, port));
  let filled = 0;
  for (const { kernel } of blank) kernel.whileStarting = () => (filled += 1);
  const starts = blank.map((host) => host.start());
  await eventually('them to be equal', () => blank.every(isLevel), SLOW);
  // Some looks later.
  await sleep(300);
  assert.equal(filled, 0);
  // One that dies now still knows that it waits.
  const copies = blank.map(({ directory }) => `${directory}-dead`);
  for (const [i, { directory }] of blank.entries())
    execFileSync('cp', ['-a', directory, copies[i] ?? '']);
  const full = new AgentHost(first?.directory ?? '', first?.port);
  await full.start();
  await Promise.all(starts);
  for (const host of blank) {
    assert.deepEqual([...host.kernel.services.keys()], ['web']);
    await eventually('its word of it', () => !isBlank(full.state.replica, host.state.node), SLOW);
  }
  await Promise.all([full, ...blank].map((host) => host.close()));
  const again = new AgentHost(copies[0] ?? '', others[0]?.port);
  again.kernel.whileStarting = () => (filled += 1);
  const start = again.start();
  await eventually('a word of it', () => again.log.some((line) => line.includes('it waits for')));
  assert.equal(filled, 2);
  const last = new AgentHost(first?.directory ?? '', first?.port);
  await last.start();
  await start;
  assert.deepEqual([...again.kernel.services.keys()], ['web']);
  await Promise.all([last, again].map((host) => host.close()));
});

test('one that has just joined, and has no state yet, is not taken for one that has it', async () => {
  const first = await founded();
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first, true));
  await eventually('the service', () => names(second).includes('web'), SLOW);
  const token = tokenOf(second);
  const ports = [first, second].map((host) => portOf(host));
  await Promise.all([first.close(), second.close()]);
  State.setAside(second.directory);
  const blank = new AgentHost(second.directory, ports[1]);
  let isFilled = false;
  blank.kernel.whileStarting = () => (isFilled = true);
  const start = blank.start();
  await eventually('a word of it', () => blank.log.some((line) => line.includes('it waits for')));

  const joiner = await started();
  await put(joiner, 'mine');
  await joiner.cluster.join({ ...token, state: 'merge' });
  await eventually('them to be equal', () => [blank, joiner].every(isLevel), SLOW);
  // Some looks later.
  await sleep(300);
  assert.deepEqual([isFilled, isBlank(joiner.state.replica, joiner.state.node)], [false, true]);
  assert.equal(joiner.cluster.rank, undefined);
  // One that dies now still knows that it has only its own.
  const copy = `${joiner.directory}-dead`;
  execFileSync('cp', ['-a', joiner.directory, copy]);

  const full = new AgentHost(first.directory, ports[0]);
  await full.start();
  await start;
  for (const host of [full, blank, joiner])
    await eventually('both services', () => names(host).join() === 'mine,web', SLOW);
  const isFull = (): boolean => !isBlank(full.state.replica, joiner.state.node);
  await eventually('its word of it', isFull, SLOW);
  await eventually('a turn', () => joiner.cluster.rank !== undefined, SLOW);
  const port = portOf(joiner);
  await Promise.all([full, blank, joiner].map((host) => host.close()));

  const again = new AgentHost(copy, port);
  let had: string[] = [];
  again.kernel.whileStarting = () => (had = names(again));
  const startAgain = again.start();
  await eventually('a word of it', () => again.log.some((line) => line.includes('it waits for')));
  const last = new AgentHost(first.directory, ports[0]);
  await last.start();
  await startAgain;
  assert.deepEqual(had, ['mine', 'web']);
  await Promise.all([last, again].map((host) => host.close()));
});

test('a cluster in which nobody has a state starts without one, once all are there', async () => {
  const members = await closedMembers(3);
  for (const { directory } of members) State.setAside(directory);
  const hosts = members.map(({ directory, port }) => new AgentHost(directory, port));
  let filled = 0;
  for (const { kernel } of hosts) kernel.whileStarting = () => (filled += 1);
  const [last, ...others] = hosts;
  const starts = others.map((host) => host.start());
  await eventually('them to be equal', () => others.every(isLevel), SLOW);
  await sleep(300);
  assert.equal(filled, 0);
  await Promise.all([...starts, last?.start()]);
  assert.equal(filled, 3);
  for (const host of others.slice(1)) await put(host, 'new');
  await eventually('all to have it', () => hosts.every((host) => names(host)[0] === 'new'), SLOW);
  await Promise.all(hosts.map((host) => host.close()));
});

test('the wait for one that will not come back ends by hand, for all; who comes back all the same brings its state', async () => {
  const [third, ...lost] = await closedMembers(3);
  for (const { directory } of lost) {
    State.setAside(directory);
    fs.writeFileSync(join(directory, 'cluster', 'without-state'), 'of an earlier wait');
    fs.utimesSync(join(directory, 'cluster', 'without-state'), 1, 1);
  }
  const hosts = lost.map(({ directory, port }) => new AgentHost(directory, port));
  let filled = 0;
  for (const { kernel } of hosts) kernel.whileStarting = () => (filled += 1);
  const starts = hosts.map((host) => host.start());
  await eventually('them to be equal', () => hosts.every(isLevel), SLOW);
  await sleep(300);
  assert.equal(filled, 0);
  const [one, other] = hosts as [AgentHost, AgentHost];
  const file = join(one.directory, 'cluster', 'without-state');
  assert.ok(one.log.some((line) => line.includes('it waits for') && line.includes(file)));
  fs.writeFileSync(file, '');
  await Promise.all(starts);
  assert.equal(filled, 2);
  assert.equal(fs.existsSync(file), false);
  await put(other, 'new');
  await eventually('both to have it', () => names(one).join() === 'new', SLOW);
  const back = new AgentHost(third?.directory ?? '', third?.port);
  await back.start();
  const all = [back, ...hosts];
  await eventually('both', () => all.every((host) => names(host).join() === 'new,web'), SLOW);
  await Promise.all(all.map((host) => host.close()));
});

test('a state from before the join that is put back overwrites nothing of the cluster', async () => {
  const first = await founded();
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first));
  const port = portOf(second);
  await second.close();
  // One of the same name, with something that the cluster's lacks.
  const old = await started();
  const ports = [{ name: 'old', port: 81, protocol: 'tcp' as const }];
  const service = { name: 'web', ports };
  await old.pipeline.submit({ kind: 'put-service', service }, { dryRun: false });
  await put(old, 'mine');
  await old.close();
  execFileSync('cp', ['-a', join(old.directory, 'state.db'), second.directory]);
  const again = new AgentHost(second.directory, port);
  await again.start();
  await eventually('both have both', () => names(first).includes('mine'), SLOW);
  const portsOf = ({ state }: AgentHost): unknown =>
    state
      .snapshot()
      .services.get('web')
      ?.ports.map(({ name }) => name);
  await eventually('the one of the cluster', () => String(portsOf(again)) === 'p', SLOW);
  assert.deepEqual(portsOf(first), ['p']);
  await Promise.all([first.close(), again.close()]);
});

test('a member that comes back drops no history before it has what another one has', async () => {
  const first = await founded();
  assert.equal(first.cluster.rank, 0);
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first));
  await eventually('the service', () => names(second).includes('web'), SLOW);
  const isFull = (): boolean => !isBlank(second.state.replica, second.state.node);
  await eventually('its word of it', isFull, SLOW);
  const ports = [first, second].map((host) => portOf(host));
  await Promise.all([first.close(), second.close()]);
  const again = new AgentHost(second.directory, ports[1]);
  await again.start();
  const whileAlone = again.cluster.rank;
  const other = new AgentHost(first.directory, ports[0]);
  await other.start();
  const keepers = (): number => [again, other].filter(({ cluster }) => cluster.rank === 0).length;
  await eventually('one of them to', () => keepers() === 1, SLOW);
  await Promise.all([other.close(), again.close()]);
  assert.equal(whileAlone, undefined);
});

test('a member that is left alone drops history again, once all others are gone for good', async () => {
  const first = await founded();
  await put(first, 'web');
  const second = await started();
  await second.cluster.join(tokenOf(first));
  const isFull = (): boolean => !isBlank(second.state.replica, second.state.node);
  await eventually('the state', isFull, SLOW);
  const port = portOf(second);
  const { node } = first.state;
  await Promise.all([first.close(), second.close()]);
  const again = new AgentHost(second.directory, port);
  await again.start();
  assert.equal(again.cluster.rank, undefined, 'the other one may come back');
  await again.cluster.revoke({ node, reason: 'burnt' });
  assert.equal(again.cluster.rank, 0);
  await again.close();
  const last = new AgentHost(second.directory, port);
  await last.start();
  assert.equal(last.cluster.rank, 0);
  await last.close();
});

test('a member that nobody ever joined has nobody to get a state from', async () => {
  const alone = await founded();
  await put(alone, 'web');
  await alone.close();
  const config = configSchema.parse({ dataDir: alone.directory });
  assert.equal(hasOthers(config, alone.logger), false);
  // And waits for nobody where it has none.
  State.setAside(alone.directory);
  const again = new AgentHost(alone.directory);
  await again.start();
  assert.equal(again.cluster.rank, 0);
  await again.close();
});
