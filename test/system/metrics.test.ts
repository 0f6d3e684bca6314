/**
 * What Prometheus is told by a real agent, over its socket and over TCP, and the
 * key-value store of one host over a kill -9.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { smallConfig } from '../harness/config.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { ask } from '../harness/clients.ts';
import { echoes } from '../harness/servers.ts';
import { putService, VIP4 } from '../harness/services.ts';
import { parseExposition, type Family } from '../unit/telemetry/exposition.ts';

const LISTEN = '127.0.0.1:9477';

async function curl(host: TestHost, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.exec(['curl', '-sS', '--max-time', '10', ...args]);
  assert.equal(code, 0, stderr);
  return stdout;
}

function value(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const samples = families.get(name)?.samples ?? [];
  return samples.find((sample) =>
    Object.entries(labels).every(([label, given]) => sample.labels[label] === given),
  )?.value;
}

test('metrics follow the kernel and the state, over TCP and over the socket', async () => {
  await using host = await TestHost.create();
  const config = host.writeConfig({ ...smallConfig, metrics: { listen: LISTEN } });
  await host.agent.start({ config });
  const scrape = async (): Promise<ReadonlyMap<string, Family>> =>
    parseExposition(await curl(host, '--unix-socket', host.socket, 'http://localhost/metrics'));

  const empty = await scrape();
  assert.equal(value(empty, 'zerohop_services'), 0);
  assert.equal(value(empty, 'zerohop_datapath_in_sync'), 1);
  assert.equal(value(empty, 'zerohop_datapath_map_entries', { map: 'zh_services' }), 0);
  assert.equal(value(empty, 'zerohop_datapath_map_max_entries', { map: 'zh_services' }), 64);
  assert.equal(value(empty, 'zerohop_datapath_hook_effective', { hook: 'connect4' }), 1);
  assert.equal(value(empty, 'zerohop_datapath_no_such_port_total'), 0);
  assert.equal(value(empty, 'zerohop_cluster_member'), 0);

  const {
    echoes: [echo],
  } = await echoes(host, { name: 'a' });
  const backends = [{ address: '127.0.0.1', port: echo?.port ?? 0 }];
  await putService(host, 'web', { vips: [VIP4], ports: [{ port: 80 }], backends });
  assert.match((await ask(host, 'C', 'tcp', VIP4, 80)).reply ?? '', /^a /);
  const refused = await ask(host, 'C', 'tcp', VIP4, 81);
  assert.equal(refused.reply, undefined);

  const full = await scrape();
  assert.equal(value(full, 'zerohop_services'), 1);
  assert.equal(value(full, 'zerohop_backends'), 1);
  assert.equal(value(full, 'zerohop_datapath_map_entries', { map: 'zh_services' }), 1);
  assert.equal(value(full, 'zerohop_datapath_no_such_port_total'), 1);
  assert.equal(
    value(full, 'zerohop_state_revision'),
    value(full, 'zerohop_datapath_applied_revision'),
  );

  const deny = ['acl', 'add', 'closed', '--to', 'web', '--from', 'user:root', '--action', 'deny'];
  assert.equal((await host.zerohop(...deny)).code, 0);
  assert.equal((await ask(host, 'C', 'tcp', VIP4, 80)).reply, undefined);
  const denied = value(await scrape(), 'zerohop_acl_verdicts_total', { verdict: 'denied' });
  assert.ok((denied ?? 0) >= 1, `${denied}`);
  assert.equal((await host.zerohop('acl', 'rm', 'closed')).code, 0);
  assert.equal(
    value(await scrape(), 'zerohop_acl_verdicts_total', { verdict: 'denied' }),
    denied,
    'it went backwards with the rule',
  );

  const overTcp = parseExposition(await curl(host, `http://${LISTEN}/metrics`));
  assert.equal(value(overTcp, 'zerohop_services'), 1);
  const status = ['-o', '/dev/null', '-w', '%{http_code}'];
  assert.equal(await curl(host, ...status, `http://${LISTEN}/v1/status`), '404');
  assert.equal(await curl(host, ...status, '-X', 'POST', `http://${LISTEN}/metrics`), '405');
  await host.agent.stop();
});

test('without metrics.listen nothing listens on TCP', async () => {
  await using host = await TestHost.create();
  const config = { ...smallConfig, dns: { enabled: false } };
  await host.agent.start({ config: host.writeConfig(config) });
  const { stdout } = await host.exec(['ss', '-Htln']);
  assert.equal(stdout, '');
});

test('keys and values survive a kill -9, and a watch tells of each change', async () => {
  await using host = await TestHost.create();
  await host.agent.start({ config: host.writeConfig(smallConfig) });
  const kv = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await host.zerohop('kv', ...args);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const watch = host.spawn([host.bin, 'kv', 'watch', '--socket', host.socket]);
  await kv('set', 'ready', '0');
  for (let i = 1; !watch.stdout.includes('ready'); i++) await kv('set', 'ready', `${i}`);
  await kv('set', 'config/motd', 'hello');
  assert.equal(await kv('incr', 'hits', '--by', '5'), '5\n');
  await kv('add', 'team', 'ann');
  await kv('enable', 'beta');
  await kv('rm', 'ready');
  await eventually('all changes', () => watch.stdout.includes('register ready: "'));
  const lines = watch.stdout.split('\n').filter((line) => line !== '' && !line.includes('ready'));
  assert.deepEqual(lines, [
    'register config/motd: (none) → "hello"',
    'counter hits: (none) → 5',
    'set team: (none) → ["ann"]',
    'flag beta: (none) → enabled',
  ]);
  const before = await kv('ls', '--json');
  await host.agent.kill('SIGKILL');
  await host.agent.start({ config: host.writeConfig(smallConfig) });
  assert.equal(await kv('ls', '--json'), before);
  assert.equal(await kv('incr', 'hits'), '6\n');
  assert.equal(await kv('get', 'config/motd'), 'hello\n');
});
