/** A member whose network comes late, goes, or gives it another address. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import type { TestHost } from '../harness/host.ts';
import { putService } from '../harness/services.ts';

interface Standing {
  readonly member: boolean;
  readonly waiting?: string;
  readonly address?: string;
}

async function standing(host: TestHost): Promise<Standing> {
  return (await host.api('GET', '/v1/cluster')).json() as Standing;
}

async function addresses(host: TestHost, ...four: readonly string[]): Promise<void> {
  await host.ip('addr', 'flush', 'dev', 'eth0');
  for (const address of four) await host.ip('addr', 'add', `${address}/16`, 'dev', 'eth0');
}

test('a member that starts before its address is there serves, and connects when it comes', async () => {
  await using cluster = await TestCluster.formed(2);
  const [first, second] = [cluster.host(0), cluster.host(1)];
  await putService(first, 'web', { ports: [{ port: 80 }] });
  await cluster.sameMaps();
  await second.agent.stop();
  await addresses(second);
  await cluster.start([1]);
  const { member, waiting } = await standing(second);
  assert.equal(member, false);
  assert.match(waiting ?? '', /^cannot listen on 10\.77\.0\.2 port 7946/);
  assert.match((await second.must('status')).stdout, /a member, but not connected yet/);
  // Its own writes are taken meanwhile, and so are those of the others.
  await putService(second, 'mine', { ports: [{ port: 80 }] });
  await putService(first, 'ours', { ports: [{ port: 80 }] });
  await addresses(second, '10.77.0.2');
  await cluster.allAlive();
  await cluster.sameMaps();
  const { services } = (await first.api('GET', '/v1/services')).json() as {
    services: { name: string }[];
  };
  assert.deepEqual(
    services.map(({ name }) => name),
    ['mine', 'ours', 'web'],
  );
});

test('a member that listens everywhere and gets another address is dialled there', async () => {
  const config = { cluster: { listen: '0.0.0.0:7946' } };
  await using cluster = await TestCluster.formed(2, { config });
  const [first, second] = [cluster.host(0), cluster.host(1)];
  assert.equal((await standing(second)).address, '10.77.0.2:7946');
  await addresses(second, '10.77.9.9');
  const moved = async (): Promise<boolean> => {
    const members = await cluster.membersOf(first);
    return members.some(({ address, state }) => address === '10.77.9.9:7946' && state === 'alive');
  };
  await eventually('the new address at the other member', moved, { timeoutMs: 40_000 });
  await putService(second, 'web', { ports: [{ port: 80 }] });
  await cluster.sameMaps();
});
