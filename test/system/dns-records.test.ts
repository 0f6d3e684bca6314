/** DNS records that people write: one host's word is every host's answer, also after a split. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestCluster } from '../harness/cluster.ts';
import type { TestHost } from '../harness/host.ts';
import { putService } from '../harness/services.ts';

/** What dig is told by a host's own resolver, sorted. */
async function dig(host: TestHost, name: string, type: string): Promise<string> {
  const question = ['dig', '+short', '+tries=1', '+time=2', '@127.0.0.55', name, type];
  return (await host.output(question)).trim().split('\n').toSorted().join(' ');
}

async function isEverywhere(
  cluster: TestCluster,
  answers: Readonly<Record<string, string>>,
): Promise<void> {
  await cluster.settled('to answer with the records', async (host) => {
    for (const [question, expected] of Object.entries(answers)) {
      const [name = '', type = ''] = question.split(' ');
      const answer = await dig(host, name, type);
      if (answer !== expected) throw new Error(`${question}: "${answer}"`);
    }
    return true;
  });
}

async function hiddenOn(host: TestHost): Promise<readonly string[]> {
  const { records } = (await host.must('dns', 'record', 'ls', '--json')).json() as {
    records: { name: string; type: string; hidden?: string }[];
  };
  return records.flatMap(({ name, type, hidden }) =>
    hidden === undefined ? [] : `${name} ${type}`,
  );
}

test('a record is answered when its command returns, and on every other host soon after', async () => {
  await using cluster = await TestCluster.formed(3);
  const [first, second] = [cluster.host(0), cluster.host(1)];
  const add = ['dns', 'record', 'add'];
  await first.must(...add, 'db.zerohop.internal', 'A', '192.0.2.7', '192.0.2.8');
  assert.equal(await dig(first, 'db.zerohop.internal', 'A'), '192.0.2.7 192.0.2.8');
  await second.must(...add, 'www.example.com', 'CNAME', 'db.zerohop.internal');
  await second.must(...add, 'zerohop.internal', 'MX', '10', 'mail.example.com');
  await second.must(...add, '_sip._udp.example', 'SRV', '0', '5', '5060', 'sip.example');
  await second.must(...add, '9.2.0.192.in-addr.arpa', 'PTR', 'old.example');
  await second.must(...add, 'a.example', 'TXT', String.raw`a "b" \ ä`);
  await second.must(...add, 'a.example', 'AAAA', '2001:db8::7');
  await isEverywhere(cluster, {
    'db.zerohop.internal A': '192.0.2.7 192.0.2.8',
    'www.example.com A': '192.0.2.7 192.0.2.8 db.zerohop.internal.',
    'zerohop.internal MX': '10 mail.example.com.',
    '_sip._udp.example SRV': '0 5 5060 sip.example.',
    '9.2.0.192.in-addr.arpa PTR': 'old.example.',
    'a.example TXT': String.raw`"a \"b\" \\ \195\164"`,
    'a.example AAAA': '2001:db8::7',
    'a.example A': '',
  });
  const exported = (await cluster.host(2).must('export')).stdout;
  assert.equal((await first.must('export')).stdout, exported);
  const again = await cluster.host(2).zerohopWithInput(exported, 'apply', '-f', '-');
  assert.equal(again.stdout, 'nothing to change\n', again.stderr);

  await cluster.host(2).must('dns', 'record', 'rm', 'db.zerohop.internal');
  assert.equal(await dig(cluster.host(2), 'db.zerohop.internal', 'A'), '');
  await isEverywhere(cluster, {
    'db.zerohop.internal A': '',
    'www.example.com A': 'db.zerohop.internal.',
  });
});

test('a service and a record of one name, made on two sides of a split: the service is answered, the record told of', async () => {
  await using cluster = await TestCluster.formed(2);
  const [one, other] = [cluster.host(0), cluster.host(1)];
  await cluster.partition([[0], [1]]);
  await putService(one, 'web', { ports: [{ port: 80 }], vips: ['240.0.0.80'] });
  const name = 'web.zerohop.internal';
  await other.must('dns', 'record', 'add', name, 'A', '192.0.2.7');
  assert.deepEqual(
    [await dig(one, name, 'A'), await dig(other, name, 'A')],
    ['240.0.0.80', '192.0.2.7'],
  );
  await cluster.heal();
  await isEverywhere(cluster, { [`${name} A`]: '240.0.0.80' });
  // the side of the service answers so before it has heard of the record
  await cluster.settled('to tell of the record', async (host) => {
    return (await hiddenOn(host)).join() === `${name} A`;
  });
  await other.must('service', 'rm', 'web');
  await isEverywhere(cluster, { [`${name} A`]: '192.0.2.7' });
  for (const host of cluster.hosts) assert.deepEqual(await hiddenOn(host), []);
});

test('records survive a killed agent, and a host that joins brings its own along', async () => {
  await using cluster = await TestCluster.create(2);
  await cluster.start();
  const [one, other] = [cluster.host(0), cluster.host(1)];
  await one.must('dns', 'record', 'add', 'a.example', 'A', '192.0.2.1');
  await one.agent.kill('SIGKILL');
  await cluster.start([0]);
  assert.equal(await dig(one, 'a.example', 'A'), '192.0.2.1');
  await other.must('dns', 'record', 'add', 'b.example', 'A', '192.0.2.2');
  await one.must('cluster', 'init');
  const word = (await one.must('cluster', 'token')).stdout.trim();
  const join = ['cluster', 'join', cluster.addressOf(0), '--token', word];
  const refused = await other.zerohop(...join);
  assert.match(refused.stderr, /0 services, 0 rules, 1 DNS records and 0 keys of its own/);
  await other.must(...join, '--merge');
  await isEverywhere(cluster, { 'a.example A': '192.0.2.1', 'b.example A': '192.0.2.2' });
});
