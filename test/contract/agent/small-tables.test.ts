/** Tables that are too small at a start for what other hosts wrote meanwhile. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { CatalogService } from '../../../src/catalog/catalog.ts';
import type { Change } from '../../../src/state/records.ts';
import { eventually } from '../../harness/eventually.ts';
import { AgentHost, Stranger, tell } from './host.ts';
import { close, put, putAll, service } from './records.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-small-'));
after(() => rmSync(root, { recursive: true, force: true }));

let hosts = 0;

/** As an agent that was there before left it. */
function left(name: string, number: number, ...addresses: string[]): CatalogService {
  const { vips, ports } = service(name, number);
  const backends = addresses.map((address) => {
    return { address, port: 8080, weight: 1, state: 'active' } as const;
  });
  return { name, vips, ports: ports.map((port) => ({ ...port, backends })) };
}

/** A host that is not started yet, in whose tables an agent before left services. */
function hostWith(services: readonly CatalogService[], heard: readonly Change[]): AgentHost {
  const host = new AgentHost(join(root, `data-${hosts++}`));
  host.kernel.services = new Map(services.map((one) => [one.name, one]));
  tell(host, new Stranger().commit(heard));
  return host;
}

const namesIn = ({ kernel }: AgentHost): string[] => [...kernel.services.keys()].toSorted();

test('a start applies what fits, keeps what the others had, and tells of them', async () => {
  const host = hostWith(
    [left('api', 1, '10.0.0.1'), left('gone', 8), left('web', 2, '10.0.0.2')],
    [
      ...putAll('api', 1, '10.0.0.1', '10.0.0.3', '10.0.0.4', '10.0.0.5'),
      ...putAll('web', 2, '10.0.0.6'),
      put('zoo', 3),
      put('bar', 4),
    ],
  );
  host.kernel.servicesMax = 3;
  host.kernel.backendsMax = 4;
  await host.start();
  assert.ok(host.kernel.isFilled);
  assert.deepEqual(namesIn(host), ['api', 'bar', 'web']);
  assert.deepEqual(host.kernel.takers('web'), ['10.0.0.6']);
  assert.deepEqual(host.kernel.takers('api'), ['10.0.0.1'], 'as the agent before left it');
  assert.match(host.pipeline.problem ?? '', /2 services .*\(api, zoo\).* is full: raise it/);
  assert.ok(host.log.some((line) => /^error .*does not fit here/.test(line)));

  // What is written now is answered, and makes room.
  await host.pipeline.submit({ kind: 'remove-service', name: 'bar' }, { dryRun: false });
  await eventually('the other', () => host.kernel.services.has('zoo'), { timeoutMs: 15_000 });
  host.kernel.backendsMax = 5;
  await eventually('all', () => host.kernel.takers('api').length === 4, { timeoutMs: 15_000 });
  await eventually('no word of it', () => host.pipeline.problem === undefined);
  await host.close();
});

test('rules are in force at a start also where not all services fit', async () => {
  const host = hostWith([], [put('api', 1), put('web', 2), close('no-api', 'api')]);
  host.kernel.servicesMax = 1;
  await host.start();
  assert.deepEqual(namesIn(host), ['api']);
  assert.deepEqual([host.kernel.rules, host.kernel.isHeld], [['no-api'], false]);
  await host.close();
});

test('rules that do not fit at a start leave the kernel as it is, until enough of them are gone', async () => {
  const host = hostWith(
    [left('api', 1, '10.0.0.1')],
    [
      ...putAll('api', 1, '10.0.0.2'),
      ...putAll('web', 2, '10.0.0.3'),
      close('a', 'web'),
      close('b', 'web'),
      close('c', 'api'),
    ],
  );
  host.kernel.rulesMax = 1;
  await host.start();
  assert.ok(host.kernel.isHeld);
  assert.equal(host.kernel.isFilled, false);
  assert.deepEqual(host.kernel.takers('api'), ['10.0.0.1']);
  assert.match(
    host.pipeline.problem ?? '',
    /the rules do not fit, and all stays: rules is full: raise it/,
  );

  // Nothing is added, as nobody knows what would guard it.
  const ports = [{ name: 'p', port: 80, protocol: 'tcp' as const }];
  const added = host.apply({ kind: 'service', name: 'new', ports });
  await assert.rejects(added, /nothing is added here for now: the rules do not fit/);
  assert.equal(host.state.snapshot().services.size, 2);
  const remove = (name: string, dryRun = false): ReturnType<typeof host.pipeline.submit> =>
    host.pipeline.submit({ kind: 'remove-acl', name }, { dryRun });
  assert.equal((await remove('a', true)).changes.length, 1);
  assert.equal(host.state.snapshot().acls.size, 3);
  const { warnings } = await remove('a');
  assert.match(warnings[0]?.message ?? '', /stored.*not in this kernel until the rules fit/);
  await host.pipeline.settled();
  assert.equal(host.kernel.isFilled, false);
  await remove('b');
  await host.pipeline.settled();
  assert.ok(host.kernel.isFilled);
  assert.deepEqual(namesIn(host), ['api', 'web']);
  assert.deepEqual(host.kernel.takers('api'), ['10.0.0.2']);
  assert.equal(host.pipeline.problem, undefined);
  await host.close();
});

test('rules of others that came too many can be removed one by one', async () => {
  const host = hostWith([], []);
  const stranger = new Stranger();
  tell(host, stranger.commit([put('web', 1)]));
  host.kernel.rulesMax = 1;
  await host.start();
  tell(host, stranger.commit([close('a', 'web'), close('b', 'web'), close('c', 'web')]));
  await eventually('a word of it', () => host.pipeline.problem);
  assert.match(host.pipeline.problem ?? '', /^rules of other hosts are not in force/);
  const options = { dryRun: false };
  await host.pipeline.submit({ kind: 'remove-acl', name: 'a' }, options);
  await host.pipeline.settled();
  assert.deepEqual(host.kernel.rules, []);
  await host.pipeline.submit({ kind: 'remove-acl', name: 'c' }, options);
  await eventually('the last one', () => host.kernel.rules.length === 1);
  assert.deepEqual(host.kernel.rules, ['b']);
  await eventually('no word of it', () => host.pipeline.problem === undefined);
  await host.close();
});
