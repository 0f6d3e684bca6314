/** A member whose host has another address: it comes back as a new one, and holds nothing of the old. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Cluster } from '../../../src/agent/io/cluster.ts';
import type { HostKernel } from '../../../src/agent/io/host-kernel.ts';
import { configSchema } from '../../../src/config/schema.ts';
import { Health } from '../../../src/health/io/health.ts';
import { factKey } from '../../../src/health/teller.ts';
import { eventually } from '../../harness/eventually.ts';
import { Hosts, SLOW } from '../cluster/hosts.ts';
import { AgentHost } from './host.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-moved-'));
const hosts = new Hosts();
const about = { name: 'a', zone: '', version: '1', address: '10.77.0.9:7946', signer: false };
after(async () => {
  await hosts.stop();
  rmSync(root, { recursive: true, force: true });
});

test('what others take back while the membership begins anew is not held against them', async () => {
  const other = await hosts.found('a');
  const host = new AgentHost(root);
  const parsed = configSchema.parse({ dataDir: root });
  // With another port each time it has moved whenever it is looked at.
  const listen = { host: '127.0.0.1', port: 0 };
  const config = { ...parsed, cluster: { ...parsed.cluster, listen } };
  const node = { ...about, addresses: ['10.77.0.9'] };
  let unhealthy: ReadonlySet<string> = new Set();
  const health = new Health({
    settings: { listening: false, intervalMs: 1000 },
    log: host.logger,
    world: () => ({
      self: host.state.node,
      snapshot: host.state.snapshot(),
      nodes: new Map([[other.id, node]]),
    }),
    changed: (next) => {
      unhealthy = next;
    },
  });
  const cluster = new Cluster(config, host.logger, host.pipeline, health);
  await cluster.start();
  await host.pipeline.start(host.kernel as unknown as HostKernel);
  const { token } = other.member.issueToken(60_000, false);
  await cluster.join({ address: other.member.address, token });
  const [taken, kept] = ['10.77.0.9 80 tcp', '10.77.0.9 81 tcp'];
  const says = (endpoint: string, value: Uint8Array | undefined): void =>
    other.member.fact(factKey(endpoint), value, 60_000, 'urgent');
  for (const endpoint of [taken, kept]) says(endpoint, Uint8Array.of(1));
  await eventually('both to be heard', () => unhealthy.size === 2, SLOW);

  const moved = cluster.refresh();
  says(taken, undefined);
  await moved;
  assert.ok(host.log.some((line) => line.includes('another address')));
  await eventually('the other one to be heard again', () => unhealthy.has(kept), SLOW);
  assert.deepEqual([...unhealthy], [kept]);
  health.close();
  await cluster.stop(false);
  await host.close();
});
