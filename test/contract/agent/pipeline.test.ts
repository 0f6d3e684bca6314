/** What other hosts wrote, and who of them cannot be reached, on the way into the tables. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ALL_REACHABLE } from '../../../src/agent/context.ts';
import { readDeparture, writeGone } from '../../../src/cluster/departures.ts';
import { SHARED, type Write } from '../../../src/state/replica/replica.ts';
import { writeService } from '../../../src/state/replica/schema.ts';
import type { Change } from '../../../src/state/records.ts';
import { eventually } from '../../harness/eventually.ts';
import { AgentHost, Stranger, tell } from './host.ts';
import { backend, close, put, service } from './records.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-pipeline-'));
after(() => rmSync(root, { recursive: true, force: true }));

let hosts = 0;
const newHost = (): AgentHost => new AgentHost(join(root, `data-${hosts++}`));

test('what comes while the tables are filled for the first time gets into them', async () => {
  const host = newHost();
  const stranger = new Stranger();
  host.kernel.whileStarting = () => tell(host, stranger.commit([put('web', 1)]));
  await host.start();
  await eventually('the service', () => host.kernel.services.has('web'));
  await host.close();
});

test('what came in one turn of the event loop is one plan, and told of once', async () => {
  const host = newHost();
  await host.start();
  const stranger = new Stranger();
  await nextTurn(); // for what the start has woken
  await host.pipeline.settled();
  const told: string[] = [];
  host.pipeline.whenApplied((touched) => told.push(Array.from(touched).toSorted().join()));
  tell(host, stranger.commit([put('api', 1)]));
  await Promise.resolve(); // as between the messages of two neighbours
  tell(host, stranger.commit([put('web', 2)]));
  await eventually('both', () => host.kernel.services.size === 2);
  await host.pipeline.exclusive(() => Promise.resolve());
  assert.deepEqual(told, ['api,web']);
  assert.deepEqual(host.kernel.plans, [['api', 'web']]);
  await host.close();
});

test('a service that does not fit keeps no other one from changing', async () => {
  const host = newHost();
  host.kernel.servicesMax = 2;
  await host.start();
  const stranger = new Stranger();
  const node = stranger.replica.node;
  tell(host, stranger.commit([put('api', 1), backend('api', '10.0.0.1')]));
  tell(host, stranger.commit([backend('api', '10.0.0.2'), put('web', 2)]));
  await eventually('both', () => host.kernel.services.size === 2);
  tell(host, stranger.commit([put('zoo', 3), put('bar', 4)]));
  await eventually('a word of it', () => host.pipeline.problem);
  assert.match(host.pipeline.problem ?? '', /2 services .*bar, zoo.*services is full.*raise it/);

  // A host dies: its backends leave the services that are there.
  tell(host, stranger.tellOfSelf('10.0.0.2'));
  host.pipeline.reachability({ ...ALL_REACHABLE, unreachable: new Set([node]) });
  await eventually('only the other backend', () => host.kernel.takers('api').length === 1);
  assert.deepEqual(host.kernel.takers('api'), ['10.0.0.1']);

  // Room is made: one of the two gets it, and with more the other.
  tell(host, stranger.commit([{ kind: 'remove-service', name: 'web' }]));
  await eventually('the first', () => host.kernel.services.has('bar'), { timeoutMs: 15_000 });
  assert.deepEqual([...host.kernel.services.keys()].toSorted(), ['api', 'bar']);
  tell(host, stranger.commit([{ kind: 'remove-service', name: 'zoo' }]));
  await eventually('no word of it', () => host.pipeline.problem === undefined);
  await host.close();
});

test('a backend at the address of a host that left is in use where it was put there since', async () => {
  const host = newHost();
  await host.start();
  const stranger = new Stranger();
  tell(host, stranger.commit([put('api', 1), backend('api', '10.0.0.1')]));
  tell(host, stranger.commit([backend('api', '10.0.0.2')]));
  const left = { why: 'left', at: 'now', atMs: 1, addresses: ['10.0.0.2', '10.0.0.3'] } as const;
  const id = 'aaaaaaaaaaaaaaaaaaaaaaaaaa';
  const { key, value } = writeGone(id, left);
  const gone = readDeparture(key, value);
  assert.equal(gone?.type, 'gone');
  host.pipeline.reachability({ ...ALL_REACHABLE, gone: new Map([[id, gone]]) });
  await eventually('only the other one', () => host.kernel.takers('api').join() === '10.0.0.1');
  const put3 = { port: 8080, portName: 'p', weight: 1, state: 'active' } as const;
  await host.pipeline.submit(
    { kind: 'put-backend', service: 'api', backend: { ...put3, address: '10.0.0.3' } },
    { dryRun: false },
  );
  const said = readDeparture(key, host.pipeline.state.replica.get(SHARED, key));
  assert.deepEqual(said, { ...gone, addresses: ['10.0.0.2'] });
  // Also one that is there already, as nothing of it changes.
  const same = { port: 8080, portName: 'p', weight: 1, state: 'active' } as const;
  const again = {
    kind: 'put-backend',
    service: 'api',
    backend: { ...same, address: '10.0.0.2' },
  } as const;
  host.pipeline.reachability({ ...ALL_REACHABLE, gone: new Map([[id, { ...gone, ...said }]]) });
  await host.pipeline.submit(again, { dryRun: true });
  assert.deepEqual(readDeparture(key, host.pipeline.state.replica.get(SHARED, key)), said);
  const { changes } = await host.pipeline.submit(again, { dryRun: false });
  assert.deepEqual(changes, []);
  const none = readDeparture(key, host.pipeline.state.replica.get(SHARED, key));
  assert.deepEqual(none, { ...gone, addresses: [] });
  await host.close();
});

test('a service that grew beyond the tables keeps what it has until it fits again', async () => {
  const host = newHost();
  host.kernel.backendsMax = 2;
  await host.start();
  const stranger = new Stranger();
  tell(host, stranger.commit([put('api', 1), backend('api', '10.0.0.1'), put('web', 2)]));
  await eventually('both', () => host.kernel.services.size === 2);
  tell(host, stranger.commit([backend('api', '10.0.0.2'), backend('api', '10.0.0.3')]));
  tell(host, stranger.commit([backend('web', '10.0.0.4')]));
  await eventually('the one that fits', () => host.kernel.takers('web').length === 1);
  assert.deepEqual(host.kernel.takers('api'), ['10.0.0.1']);
  const gone = { service: 'api', portName: 'p', address: '10.0.0.1', port: 8080 };
  tell(
    host,
    stranger.commit([
      { kind: 'remove-backend', ...gone },
      { kind: 'remove-backend', ...gone, address: '10.0.0.3' },
    ]),
  );
  await eventually('the other one', () => host.kernel.takers('api')[0] === '10.0.0.2');
  await eventually('no word of it', () => host.pipeline.problem === undefined);
  await host.close();
});

test('of a thousand services that do not fit as many are planned as there is room for', async () => {
  const host = newHost();
  host.kernel.servicesMax = 100;
  await host.start();
  const stranger = new Stranger();
  const many = Array.from({ length: 1000 }, (_, i) => ({
    ...service(`s${i}`, 1),
    vips: [`240.1.${i >> 8}.${i & 255}`],
  }));
  tell(host, stranger.commit(many.map((one) => ({ kind: 'put-service', service: one }))));
  await eventually('all that fit', () => host.kernel.services.size === 100);
  await host.pipeline.settled();
  const plans = host.kernel.plans.length;
  assert.ok(plans < 100, `${plans} plans`);
  // And what comes then is not planned together with all that do not fit.
  tell(host, stranger.commit([{ ...put('s1', 1) }]));
  await eventually('a plan', () => host.kernel.plans.length > plans);
  assert.deepEqual(host.kernel.plans[plans], ['s1']);
  await host.close();
});

test("of many changes at once some are applied at a time, rules first; the revision is the last ones'", async () => {
  const host = newHost();
  await host.start();
  const before = host.pipeline.catalog.revision;
  const many = Array.from({ length: 1200 }, (_, i) => ({
    ...service(`s${i}`, 1),
    vips: [`240.1.${i >> 8}.${i & 255}`],
  }));
  const stranger = new Stranger();
  tell(
    host,
    stranger.commit([
      ...many.map((one) => ({ kind: 'put-service' as const, service: one })),
      ...many.flatMap(({ name }) =>
        Array.from({ length: 5 }, (_, i) => backend(name, `10.0.0.${i + 1}`)),
      ),
      close('nobody', 's1199'),
    ]),
  );
  await host.pipeline.settled();
  const { revision } = host.state.snapshot();
  assert.deepEqual(host.kernel.applied, [
    { revision: before, services: 500, rules: 1 },
    { revision: before, services: 1000, rules: 1 },
    { revision, services: 1200, rules: 1 },
  ]);
  assert.ok(revision > before);
  assert.equal(host.kernel.takers('s1199').length, 5);
  await host.close();
});

test('what the tables refused is no problem any more once they were put right', async () => {
  const host = newHost();
  await host.start();
  host.kernel.isRefusing = true;
  tell(host, new Stranger().commit([put('web', 1)]));
  await eventually('the problem', () => host.pipeline.problem);
  host.kernel.isRefusing = false;
  await eventually('none', () => host.pipeline.problem === undefined);
  assert.ok(host.kernel.services.has('web'));
  await host.close();
});

test('a command is decided on all that was heard before its turn', async () => {
  const host = newHost();
  await host.start();
  const stranger = new Stranger();
  const turn = Promise.withResolvers<undefined>();
  const busy = host.pipeline.exclusive(() => turn.promise);
  const removed = host.pipeline.submit({ kind: 'remove-service', name: 'web' }, { dryRun: false });
  tell(host, stranger.commit([put('web', 1), backend('web', '10.0.0.1')]));
  turn.resolve(undefined);
  await busy;
  await removed;
  await host.pipeline.settled();
  assert.equal(host.kernel.services.size, 0);
  assert.equal(host.state.view.unseenCount, 0);
  await host.close();
});

test('what is written while a plan is made is in the next one', async () => {
  const host = newHost();
  await host.start();
  host.kernel.whilePlanning = () => {
    const value = writeService(service('web', 2), undefined);
    host.pipeline.writeNow([{ document: 'shared', key: 'service/web', value }]);
  };
  tell(host, new Stranger().commit([put('web', 1)]));
  const vips = (): unknown => host.kernel.services.get('web')?.vips;
  await eventually('the newer one', () => String(vips()) === '240.0.0.2');
  await host.close();
});

/** The service of a stranger, whose VIP another one has, with other ports. */
function withPort(number: number): Change {
  const record = service('web', 1);
  const ports = [{ name: 'p', port: number, protocol: 'tcp' as const }];
  return { kind: 'put-service', service: { ...record, ports } };
}

function portsOf({ state }: AgentHost): unknown {
  return state
    .snapshot()
    .services.get('web')
    ?.ports.map(({ port }) => port);
}

const vipsOf = ({ state }: AgentHost): string => String(state.snapshot().services.get('web')?.vips);

test('what settles a VIP takes back nothing that another host changes meanwhile', async () => {
  const host = newHost();
  await host.start();
  const stranger = new Stranger();
  const beganMs = Date.now() - 10_000;
  tell(host, stranger.commit([put('api', 1), withPort(80)], beganMs));
  await host.pipeline.tidy(0);
  const settled = vipsOf(host);
  assert.notEqual(settled, '240.0.0.1');
  // Written before that, as clocks say, by one that has not heard of it.
  tell(host, stranger.commit([withPort(81)], beganMs + 5000));
  await host.pipeline.settled();
  assert.deepEqual([portsOf(host), vipsOf(host)], [[81], '240.0.0.1']);
  await host.pipeline.tidy(0);
  assert.deepEqual([portsOf(host), vipsOf(host)], [[81], settled]);
  await host.close();
});

test('a VIP is not settled by what came before a change that is heard while it is planned', async () => {
  const host = newHost();
  await host.start();
  const stranger = new Stranger();
  tell(host, stranger.commit([put('api', 1), withPort(80)]));
  await host.pipeline.settled();
  host.kernel.whilePlanning = () => tell(host, stranger.commit([withPort(81)]));
  await host.pipeline.tidy(0);
  await host.pipeline.settled();
  assert.deepEqual([portsOf(host), vipsOf(host)], [[81], '240.0.0.1']);
  await host.pipeline.tidy(0);
  assert.deepEqual(portsOf(host), [81]);
  assert.notEqual(vipsOf(host), '240.0.0.1');
  await host.close();
});

/** Both documents with as many remains as entries: what is between them cannot become one item. */
function leaveRemains({ pipeline }: AgentHost, value = '1'): void {
  const put = (i: number, said: string | undefined): Write[] =>
    (['shared', 'own'] as const).map((document) => ({ document, key: `kv/r:${i}`, value: said }));
  const all = Array.from({ length: 100 }, (_, i) => i);
  pipeline.writeNow(all.flatMap((i) => put(i, value)));
  for (const i of all) if (i % 2 === 0) pipeline.writeNow(put(i, undefined));
}

const epochsOf = ({ state: { replica } }: AgentHost): number[] =>
  [SHARED, replica.own].map((id) => replica.vector(id).epoch.number);

test('a host that may have an old state drops no history, not even its own', async () => {
  const host = newHost();
  await host.start();
  leaveRemains(host);
  for (let look = 0; look < 30; look++) await host.pipeline.tidy(undefined);
  assert.deepEqual(epochsOf(host), [0, 0]);
  await host.pipeline.tidy(0);
  assert.deepEqual(epochsOf(host), [1, 1]);
  await host.close();
});

test('history that all share is dropped by the next host where the first one does not', async () => {
  const host = newHost();
  await host.start();
  leaveRemains(host);
  for (let look = 0; look < 24; look++) await host.pipeline.tidy(2);
  assert.deepEqual(epochsOf(host), [0, 1]);
  await host.pipeline.tidy(2);
  assert.deepEqual(epochsOf(host), [1, 1]);
  // It is the first one's again.
  leaveRemains(host, '2');
  await host.pipeline.tidy(2);
  assert.deepEqual(epochsOf(host), [1, 2]);
  await host.close();
});

test('VIPs that two services have are settled by the next host where the first one does not', async () => {
  const host = newHost();
  await host.start();
  tell(host, new Stranger().commit([put('api', 1), withPort(80)]));
  for (let look = 0; look < 12; look++) await host.pipeline.tidy(1);
  assert.equal(vipsOf(host), '240.0.0.1');
  await host.pipeline.tidy(1);
  assert.notEqual(vipsOf(host), '240.0.0.1');
  await host.close();
});
