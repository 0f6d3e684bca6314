/** Who gets into a cluster and who does not: tokens, strangers at the port, other clusters' members, the revoked. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CliResult, TestHost } from '../harness/host.ts';
import type { LogLine } from '../harness/agent.ts';
import { type MemberSeen, TestCluster } from '../harness/cluster.ts';
import { addService, expectedOn, serveOn } from '../harness/cluster-services.ts';
import { eventually } from '../harness/eventually.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { found, joinCluster, tokenFrom } from '../harness/forming.ts';
import { kvEntries, kvSet } from '../harness/kv.ts';
import { putService } from '../harness/services.ts';

/** Fails as a command should: a reason, what to do, no stack trace. */
function refused(result: CliResult, code: number, ...says: RegExp[]): void {
  assert.equal(result.code, code, `${result.stdout}${result.stderr}`);
  for (const pattern of says) assert.match(result.stderr, pattern);
  assert.doesNotMatch(result.stderr, /^\s+at .*:\d+/m, 'a stack trace');
}

const text = (line: LogLine): string => JSON.stringify(line);

/** Waits for a line of the agent's log. */
async function logged(host: TestHost, pattern: RegExp): Promise<void> {
  await eventually(`a line like ${String(pattern)}`, () =>
    host.agent.log().some((line) => pattern.test(text(line))),
  );
}

/** The names of the members in one state. */
const namesOf =
  (wanted: string) =>
  (members: readonly MemberSeen[]): string[] =>
    members
      .filter(({ state }) => state === wanted)
      .map(({ name }) => name)
      .toSorted();

const isMember = async (host: TestHost): Promise<boolean> =>
  ((await host.api('GET', '/v1/cluster')).json() as { member: boolean }).member;

test('a token is good once, until it expires, and where it was made; anything else is refused and explained', async () => {
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  const [one, two, three] = [cluster.host(0), cluster.host(1), cluster.host(2)];
  const at = cluster.listenOf(0);
  await found(one);
  const token = await tokenFrom(one);
  await two.must('cluster', 'join', at, '--token', token);

  refused(await three.zerohop('cluster', 'join', at, '--token', token), 1, /used/);
  await logged(one, /used/);

  const short = (await one.api('POST', '/v1/cluster/tokens', { validForS: 1 })).json() as {
    token: string;
    expiresAt: string;
  };
  await eventually('it to expire', () => Date.now() > Date.parse(short.expiresAt));
  refused(await three.zerohop('cluster', 'join', at, '--token', short.token), 1, /expired/);
  await logged(one, /expired/);

  const withdrawn = (await one.api('POST', '/v1/cluster/tokens', {})).json() as {
    token: string;
    id: string;
  };
  assert.equal((await one.api('DELETE', `/v1/cluster/tokens/${withdrawn.id}`)).status, 200);
  refused(await three.zerohop('cluster', 'join', at, '--token', withdrawn.token), 1, /token/);

  const good = await tokenFrom(one);
  const last = good.endsWith('a') ? 'b' : 'a';
  const mistyped = good.slice(0, -1) + last;
  refused(await three.zerohop('cluster', 'join', at, '--token', mistyped), 1, /token/);
  refused(
    await three.zerohop('cluster', 'join', cluster.listenOf(1), '--token', good),
    1,
    /h1|10\.77\.0\.1|node/,
  );
  assert.equal(await isMember(three), false);
  await three.must('cluster', 'join', at, '--token', good);
  await cluster.allAlive();
  for (const host of cluster.hosts) {
    const words = host.agent.output;
    for (const secret of [token, short.token, withdrawn.token, good])
      assert.ok(!words.includes(secret), 'a token in the log');
  }
});

test('a host with services of its own joins only when told what becomes of them', async () => {
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  const [one, two, three] = [cluster.host(0), cluster.host(1), cluster.host(2)];
  const at = cluster.listenOf(0);
  await found(one);
  await addService(cluster, 0, 'shared', [0]);
  await addService(cluster, 1, 'shared', [1]);
  await addService(cluster, 1, 'own', [1]);
  await kvSet(two, ['own'], 2);
  await addService(cluster, 2, 'dropped', [2]);
  await kvSet(three, ['dropped'], 3);

  for (const host of [two, three]) {
    const before = await cluster.catalogOf(host);
    const token = await tokenFrom(one);
    const result = await host.zerohop('cluster', 'join', at, '--token', token);
    refused(result, 1, /--merge/, /--discard/);
    assert.deepEqual(await cluster.catalogOf(host), before);
    assert.equal(await isMember(host), false);
  }
  await joinCluster(one, at, two, { by: 'cli', state: 'merge' });
  await joinCluster(one, at, three, { by: 'cli', state: 'discard' });
  await cluster.allAlive();
  await cluster.backendsBecome('own', expectedOn(cluster, [1]));
  await cluster.backendsBecome('dropped', []);
  await cluster.sameMaps();
  await cluster.settled('the same keys', async (host) => {
    const paths = (await kvEntries(host)).map(({ path }) => path.join('/'));
    return paths.join() === 'own';
  });
  const documents = await cluster.everywhere((host) => cluster.catalogOf(host));
  for (const other of documents.slice(1)) assert.deepEqual(other, documents[0]);
});

/** What somebody without a certificate may send, each on a connection of its own, by a client in C or OpenSSL. */
const STRANGERS: readonly (readonly [string, string])[] = [
  ['nothing, and closes', ':'],
  ['random bytes', 'head -c 100000 /dev/urandom'],
  ['zeros', 'head -c 100000 /dev/zero'],
  ['HTTP', "printf 'GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'"],
  ['the first bytes of a handshake, and no more', "printf '\\026\\003\\001\\002\\000\\001'"],
];

const TLS_STRANGERS: readonly (readonly [string, readonly string[]])[] = [
  ['TLS 1.2', ['-tls1_2']],
  ['TLS 1.3 without a certificate', ['-tls1_3', '-alpn', 'zerohop/1']],
  ['another protocol', ['-tls1_3', '-alpn', 'h2']],
  ['a certificate of its own making', ['-tls1_3', '-alpn', 'zerohop/1', '-cert', 'own']],
  ['a certificate of another cluster', ['-tls1_3', '-alpn', 'zerohop/1', '-cert', 'other']],
];

test('strangers at the port get nothing, harm nobody, and leave a few lines in the log', async () => {
  await using cluster = await TestCluster.create(4);
  await cluster.start();
  const [one, two, other, stranger] = [0, 1, 2, 3].map((at) => cluster.host(at)) as [
    TestHost,
    TestHost,
    TestHost,
    TestHost,
  ];
  await found(one);
  await joinCluster(one, cluster.listenOf(0), two);
  await found(other);
  const address = cluster.listenOf(0).replace(':', '/');
  for (const [what, say] of STRANGERS) {
    const talk = `exec 3<>/dev/tcp/${address} && { ${say}; } >&3; timeout 1 cat <&3 | wc -c`;
    const { stdout } = await stranger.exec(['bash', '-c', talk]);
    // At most an alert of TLS (7 bytes; RFC 8446, 6).
    assert.ok(Number(stdout.trim()) <= 7, `${what}: ${stdout}`);
  }
  const own = join(stranger.dir, 'own.pem');
  const subject = ['-subj', '/CN=zerohop', '-days', '1'];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', own];
  const certificate = await stranger.output(['openssl', 'req', '-x509', ...made, ...subject]);
  writeFileSync(own, certificate, { flag: 'a' });
  const files: Readonly<Record<string, string>> = {
    own,
    other: join(other.dataDir, 'cluster', 'node.pem'),
  };
  for (const [what, words] of TLS_STRANGERS) {
    const args = words.map((word) => files[word] ?? word);
    const client = ['openssl', 's_client', '-connect', cluster.listenOf(0), ...args];
    const { stdout } = await stranger.exec(['timeout', '5', ...client], { input: 'hello\n' });
    const said = stdout.replaceAll(/-----BEGIN[^]*?-----END [A-Z ]+-----/g, '');
    assert.doesNotMatch(said, /\bh[12]\b|10\.77/, what);
  }
  // A thousand connections that only sit there.
  const squat = `
import socket, time
socks = []
for i in range(1000):
    sock = socket.socket()
    sock.settimeout(2)
    try:
        sock.connect(('${cluster.addressOf(0)}', 7946))
        socks.append(sock)
    except OSError:
        break
print(len(socks), flush=True)
input()
`;
  const squatter = stranger.spawn(['/usr/bin/python3', '-c', squat]);
  await squatter.says(/^\d+$/m);

  // Everything goes on meanwhile, new members included.
  await addService(cluster, 0, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]), [0, 1]);
  squatter.endInput('\n');
  await logged(one, /a connection to the cluster port was refused/);
  const refusals = one.agent.log().filter((line) => /was refused/.test(text(line)));
  assert.ok(refusals.length < 100, `${refusals.length} lines`);
  for (const line of refusals) assert.match(text(line), /"why":"[^"]+"/);
  for (const host of [one, two]) {
    assert.ok(host.agent.running);
    assert.deepEqual(
      host.agent.log().filter((line) => line['level'] === 'error'),
      [],
    );
  }
  assert.equal((await cluster.membersOf(one)).length, 2);
});

test('a revoked member is out at once everywhere, cannot come back, and its backends go', async () => {
  await using cluster = await TestCluster.formed(3);
  for (const at of [1, 2]) await serveOn(cluster, at);
  await addService(cluster, 0, 'web', [1, 2]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1, 2]));
  await cluster.host(0).must('cluster', 'revoke', 'h3', '--reason', 'stolen');
  await cluster.backendsBecome('web', expectedOn(cluster, [1]), [0, 1]);
  await putService(cluster.host(1), 'secret', { ports: [{ port: 80 }] });
  await cluster.sameMaps([0, 1]);
  await cluster.host(2).agent.kill('SIGKILL');
  await cluster.start([2]);
  await logged(cluster.host(0), /revoked/);
  const known = cluster.mapsOf(2).map(({ service }) => service);
  assert.ok(!known.includes('secret'));
  for (const at of [0, 1]) {
    const members = await cluster.membersOf(cluster.host(at));
    assert.notEqual(members.find(({ name }) => name === 'h3')?.state, 'alive');
  }
});

const DAY_S = 86_400;

test('certificates are renewed in time; a host that was off until its own had ended is refused, is told why, and may join anew', async () => {
  await using cluster = await TestCluster.formed(3);
  await cluster.everywhere((host) => host.agent.stop());
  const clocks = cluster.hosts.map((host) => new FakeClock(host, 25 * DAY_S));
  const start = async (at: number): Promise<void> =>
    cluster.start([at], { env: clocks[at]?.env ?? {} });
  const until = async (host: TestHost): Promise<number> => {
    const status = (await host.api('GET', '/v1/cluster')).json() as { certificateUntil: string };
    return Date.parse(status.certificateUntil);
  };
  const seesTwo = async (host: TestHost): Promise<boolean> =>
    namesOf('alive')(await cluster.membersOf(host)).join() === 'h1,h2';
  await start(0);
  await start(1);
  const renewed = Date.now() + 50 * DAY_S * 1000;
  await cluster.settled(
    'to have a new certificate',
    async (host) => (await until(host)) > renewed,
    [0, 1],
  );
  await cluster.settled('to see two', seesTwo, [0]);

  for (const clock of clocks) clock.set(31 * DAY_S);
  await start(2);
  await logged(cluster.host(2), /certificate has ended: leave, and join/);
  await logged(cluster.host(0), /CERT_HAS_EXPIRED/);
  assert.ok(await seesTwo(cluster.host(0)));
  await cluster.host(2).must('cluster', 'leave', '--yes', '--force');
  await joinCluster(cluster.host(0), cluster.listenOf(0), cluster.host(2), { state: 'discard' });
  await cluster.allAlive();
  await addService(cluster, 2, 'web', [1]);
  await cluster.backendsBecome('web', expectedOn(cluster, [1]));
});

test('the CLI says what a host outside of a cluster cannot do, and what to do', async () => {
  await using cluster = await TestCluster.create(1);
  await cluster.start();
  const host = cluster.host(0);
  for (const args of [
    ['cluster', 'token'],
    ['cluster', 'leave'],
    ['cluster', 'revoke', 'h1', '--reason', 'x'],
  ])
    refused(await host.zerohop(...args), 1, /cluster (init|join)/);
  await host.must('cluster', 'init');
  refused(await host.zerohop('cluster', 'init'), 1, /in the cluster .* already/);
});
