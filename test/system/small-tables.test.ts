/**
 * Tables that are too small at a start for what was written meanwhile: connects go on, the agent
 * answers and says what is missing, and nothing is open that a rule closes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Change } from '../../src/state/records.ts';
import { State } from '../../src/state/io/state.ts';
import { smallMaps, withoutHealth } from '../harness/config.ts';
import { endLoad, startLoad } from '../harness/clients.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { echoes } from '../harness/servers.ts';
import { putService, removeService, VIP4 } from '../harness/services.ts';
import { Stage } from './attacks/stage.ts';

interface Told {
  readonly state: string;
  readonly problem?: string;
}

async function told(host: TestHost): Promise<Told> {
  return ((await host.api('GET', '/v1/status')).json() as { datapath: Told }).datapath;
}

/** What other hosts wrote while this one's agent was down. */
function meanwhile(host: TestHost, ...changes: readonly Change[]): void {
  const state = State.open(host.dataDir);
  try {
    state.commit(changes, Date.now());
  } finally {
    state.close();
  }
}

const put = (name: string, number: number): Change => ({
  kind: 'put-service',
  service: {
    name,
    vips: [`240.0.1.${number}`],
    ports: [{ name: 'p', port: 80, protocol: 'tcp' }],
  },
});

const many = (prefix: string, count: number): Change[] =>
  Array.from({ length: count }, (_, i) => put(`${prefix}${i}`, i));

for (const [what, sizes] of [
  ['adopted', { ...smallMaps, services: 16 }],
  ['made anew', { ...smallMaps, services: 17 }],
] as const)
  test(`services that have no room in maps that are ${what}: those that are there go on, and as many as fit come`, async () => {
    await using host = await TestHost.create();
    const first = host.writeConfig({ maps: { ...smallMaps, services: 16 }, ...withoutHealth });
    await host.agent.start({ config: first });
    const {
      echoes: [echo],
    } = await echoes(host, { name: 'a' });
    const backends = [{ address: '127.0.0.1', port: echo?.port ?? 0 }];
    await putService(host, 'alone', { vips: [VIP4], ports: [{ port: 80 }], backends });
    const load = await startLoad(host, 'tcp', VIP4, 80, { pauseUs: 200 });
    await host.agent.stop();
    meanwhile(host, ...many('b', 20));
    const config = host.writeConfig({ maps: sizes, ...withoutHealth });
    await host.agent.start({ config });
    const { state, problem = '' } = await told(host);
    assert.equal(state, 'degraded');
    const left = 21 - sizes.services;
    assert.match(
      problem,
      new RegExp(`^${left} services are not as the cluster has it .*maps\\.services`),
    );
    assert.equal((await host.zerohop('status')).code, 1);
    for (let i = 0; i < left; i++) await removeService(host, `b${i}`);
    await eventually('all of the rest', async () => (await told(host)).state === 'in-sync', {
      timeoutMs: 15_000,
    });
    const { errors, rounds } = await endLoad(load);
    assert.deepEqual(errors, {});
    assert.ok(rounds > 0);
  });

const rule = (name: string, port: number): Change => ({
  kind: 'put-acl',
  acl: {
    name,
    to: { kind: 'ports', ports: [{ port, protocol: 'tcp' }] },
    from: [],
    action: 'deny',
  },
});

test('rules that have no room at a start: those that are pinned stay in force; after a reboot all is closed', async () => {
  await using stage = await Stage.create('cgroup');
  const { host } = stage;
  await stage.witnesses('one=tcp,127.0.0.1,6001', 'two=tcp,127.0.0.1,6002');
  await stage.apply({ kind: 'acl', name: 'a', to: { ports: ['6001/tcp'] }, action: 'deny' });
  const [one, two] = ['tcp.connect=127.0.0.1,6001', 'tcp.connect=127.0.0.1,6002'];
  await stage.expect({}, { [one]: 'EPERM', [two]: 'two' });
  await host.agent.stop();
  meanwhile(
    host,
    ...Array.from({ length: 20 }, (_, i) => rule(`r${i}`, 7000 + i)),
    rule('s', 6002),
  );
  const config = host.writeConfig({ maps: { ...smallMaps, aclRules: 16 } });

  // Not the maps that are pinned, as they have another size.
  await host.agent.start({ config });
  assert.match(
    (await told(host)).problem ?? '',
    /^the rules do not fit, and .* stay as the agent before left them: there are 22 rules, and room for 15.*maps\.aclRules/,
  );
  await stage.expect({}, { [one]: 'EPERM', [two]: 'two' });
  assert.match((await host.zerohop('acl', 'ls')).stdout, /r0/);

  await host.agent.stop();
  assert.equal((await host.zerohop('detach', '--pin', host.pinDir)).code, 0);
  await host.agent.start({ config });
  assert.match((await told(host)).problem ?? '', /can connect to nothing: there are 22 rules/);
  await stage.expect({}, { [one]: 'EPERM', [two]: 'EPERM' });

  // As it is after the next start, until enough of them are gone.
  await host.agent.stop();
  await host.agent.start({ config });
  await stage.expect({}, { [one]: 'EPERM', [two]: 'EPERM' });
  for (let i = 0; i < 7; i++) await stage.removeAcl(`r${i}`);
  await stage.removeAcl('s');
  await eventually('the rules', async () => (await told(host)).state === 'in-sync');
  await stage.expect({}, { [one]: 'EPERM', [two]: 'two' });
});
