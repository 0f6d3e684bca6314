/**
 * `zerohop dns install` beside what systemd-resolved and resolvconf are told by others: each case was
 * seen with the real ones (src/dns/README.md, "Tried").
 */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { DROP_IN, PLAIN, Tree, withResolved } from './install-tree.ts';

const DROP_INS = dirname(DROP_IN);

test('systemd-resolved: the folder of our drop-in goes with it, but for files of others', async (t) => {
  const tree = withResolved(t);
  await tree.run('install');
  await tree.run('uninstall');
  assert.equal(existsSync(tree.at(DROP_INS)), false);
  tree.write(`${DROP_INS}/other.conf`, '[Resolve]\nLLMNR=no\n');
  await tree.run('install');
  await tree.run('uninstall');
  assert.equal(tree.read(`${DROP_INS}/other.conf`), '[Resolve]\nLLMNR=no\n');
});

test('systemd-resolved: a file that is read after our drop-in and empties what that says is told of', async (t) => {
  const tree = withResolved(t, { [`${DROP_INS}/50-early.conf`]: '[Resolve]\nDomains=\nDNS=\n' });
  const before = await tree.run('install');
  assert.deepEqual([before.warnings, before.installed], [[], { methods: ['resolved'] }]);
  for (const setting of ['Domains', 'DNS']) {
    tree.write(`${DROP_INS}/zz-late.conf`, `[Resolve]\n${setting} =\n`);
    const late =
      /zz-late\.conf empties DNS= or Domains= after \/etc\/systemd\/resolved\.conf\.d\/zerohop\.conf/;
    const { warnings = [], installed } = await tree.run('install');
    assert.match(warnings.join(), late);
    assert.match(installed.problem ?? '', late);
  }
});

test('systemd-resolved: a domain of ours in which others search goes on being searched', async (t) => {
  const search = '[Resolve]\nDomains=corp.example zerohop.internal\n';
  const tree = withResolved(t, { [`${DROP_INS}/50-search.conf`]: search });
  await tree.run('install');
  assert.match(tree.read(DROP_IN), /^Domains=zerohop\.internal ~240\.in-addr\.arpa /m);
  tree.write(`${DROP_INS}/50-search.conf`, '[Resolve]\nDomains=zerohop.internal\nDomains=\n');
  await tree.run('install');
  assert.match(tree.read(DROP_IN), /^Domains=~zerohop\.internal /m);
});

test('systemd-resolved that asks over TLS only: the agent is not put there, and goes before it only with --all', async (t) => {
  const tree = withResolved(t);
  const before = tree.etc();
  await tree.run('install');
  const dropIn = tree.etc();
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNSOverTLS=yes\n');
  for (const options of [{}, { all: true }]) {
    const { problems = [] } = await tree.run('install', options);
    assert.match(problems[0]?.message ?? '', /asks over TLS only \(DNSOverTLS=yes\)/);
    assert.doesNotMatch(problems[0]?.hint ?? '', /--all/);
  }
  const seen = await tree.run('look');
  assert.match(seen.installed.problem ?? '', /asks over TLS only since/);
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNS=192.0.2.77\nDNSOverTLS=yes\n');
  assert.match((await tree.run('install')).problems?.[0]?.hint ?? '', /--all/);
  const all = await tree.run('install', { all: true });
  assert.deepEqual([all.methods, all.installed], [['resolv.conf'], { methods: ['resolv.conf'] }]);
  assert.equal(existsSync(tree.at(DROP_IN)), false);
  await tree.run('uninstall');
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNSOverTLS=yes\nDNSOverTLS=opportunistic\n');
  await tree.run('install');
  const settings = { 'etc/systemd/resolved.conf': tree.etc()['etc/systemd/resolved.conf'] };
  assert.deepEqual(tree.etc(), { ...dropIn, ...settings });
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), { ...before, ...settings });
});

test('systemd-resolved that asks over TLS somewhere: it is told that the agent does not', async (t) => {
  const lists = "#!/bin/sh\necho 'Global: no'\necho 'Link 2 (eth0): opportunistic'\n";
  const told = async (resolvectl: string): Promise<string> => {
    const tree = withResolved(t, { 'bin/resolvectl': resolvectl });
    return ((await tree.run('install')).warnings ?? []).join();
  };
  assert.match(await told(lists), /over TLS \(DNSOverTLS, eth0\); .* asks in plain text$/);
  assert.equal(await told(lists.replace('opportunistic', 'no')), '');
});

test('systemd-resolved that wants signatures: names that it takes for signed are told of', async (t) => {
  const tree = withResolved(t, {
    'etc/systemd/resolved.conf': '[Resolve]\nDNSSEC=allow-downgrade\n',
  });
  const told = async (options = {}): Promise<string> =>
    ((await tree.run('install', { dryRun: true, ...options })).warnings ?? []).join();
  assert.match(await told(), /names under 240\.in-addr\.arpa .* 255\.in-addr\.arpa fail where/);
  assert.match(await told({ domain: 'zh.example' }), /names under zh\.example 240\.in-addr\.arpa /);
  const names = Array.from({ length: 16 }, (_, i) => `${240 + i}.in-addr.arpa\n`).join('');
  tree.write('etc/dnssec-trust-anchors.d/own.negative', `; ours\n${names}`);
  assert.match(
    await told(),
    /under zerohop\.internal \S+ip6\.arpa fail/,
    'in place of those built in',
  );
  tree.write('etc/dnssec-trust-anchors.d/zz.negative', 'internal.\nd.f.ip6.arpa\n');
  assert.equal(await told(), '');
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNSSEC=no\n');
  assert.equal(await told({ domain: 'zh.example' }), '');
});

test('systemd-resolved with --all: a resolv.conf made of its servers is left, as it names us first', async (t) => {
  const tree = new Tree(t, {
    'run/systemd/resolve/resolv.conf': 'nameserver 127.0.0.55\nnameserver 192.0.2.5\n',
  });
  tree.link('etc/resolv.conf', '../run/systemd/resolve/resolv.conf');
  assert.deepEqual((await tree.run('install', { all: true })).methods, ['resolved']);
  assert.equal(lstatSync(tree.at('etc/resolv.conf')).isSymbolicLink(), true);
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNS=192.0.2.77\n');
  const { warnings = [] } = await tree.run('install');
  assert.match(
    warnings.join(),
    /was what systemd-resolved makes of its servers, and is a file now/,
  );
});

test("systemd-resolved with --all: the package's own file is not written, but its symlink replaced", async (t) => {
  const stub = 'nameserver 127.0.0.53\n';
  const tree = withResolved(t, { 'run/lib/systemd/resolv.conf': stub });
  const link = '../run/lib/systemd/resolv.conf';
  tree.unlink('etc/resolv.conf');
  tree.link('etc/resolv.conf', link);
  await tree.run('install', { all: true });
  assert.equal(tree.read('run/lib/systemd/resolv.conf'), stub);
  assert.match(
    tree.read('etc/resolv.conf'),
    /^nameserver 127\.0\.0\.55\n[\s\S]*^nameserver 127\.0\.0\.53$/m,
  );
  await tree.run('uninstall');
  assert.equal(readlinkSync(tree.at('etc/resolv.conf')), link);
});

test('systemd-resolved that takes its servers from resolv.conf: programs that ask it are told of', async (t) => {
  const told = async (files: Readonly<Record<string, string>>): Promise<string> => {
    const tree = new Tree(t, { 'etc/resolv.conf': PLAIN, ...files });
    return ((await tree.run('install')).warnings ?? []).join();
  };
  const resolve = { 'etc/nsswitch.conf': 'hosts: files resolve [!UNAVAIL=return] dns\n' };
  const there = { 'run/systemd/resolve/resolv.conf': '' };
  assert.match(
    await told({ ...resolve, ...there }),
    /stays with the next one when the agent was down/,
  );
  assert.equal(await told(resolve), '');
  assert.equal(await told(there), '');
});

/** As Debian's makes it of its head. */
function withResolvconf(t: TestContext, made: string): Tree {
  const tree = new Tree(t, {
    'run/resolvconf/resolv.conf': made,
    'run/resolvconf/of-links': made,
    'etc/resolvconf/resolv.conf.d/head': '# do not edit\n',
    'bin/resolvconf':
      '#!/bin/sh\ncat /etc/resolvconf/resolv.conf.d/head /run/resolvconf/of-links >/run/resolvconf/resolv.conf\n',
  });
  tree.link('etc/resolv.conf', '../run/resolvconf/resolv.conf');
  return tree;
}

test("Debian's resolvconf: what it made of our lines goes with them, and nobody is blamed", async (t) => {
  const tree = withResolvconf(t, 'nameserver 192.0.2.1\n');
  const { warnings } = await tree.run('install');
  assert.deepEqual(warnings, []);
  assert.match(readFileSync(tree.at('run/resolvconf/resolv.conf'), 'utf8'), /127\.0\.0\.55/);
  // Of this moment, and not of when it was looked at.
  tree.write('run/resolvconf/of-links', 'nameserver 192.0.2.2\n');
  const back = await tree.run('uninstall');
  assert.deepEqual([back.methods, back.warnings], [['resolvconf'], []]);
  assert.equal(tree.read('run/resolvconf/resolv.conf'), '# do not edit\nnameserver 192.0.2.2\n');
});

test('resolvconf: what it made is looked at', async (t) => {
  const told = async (made: string): Promise<string> =>
    ((await withResolvconf(t, made).run('install')).warnings ?? []).join();
  assert.match(await told('nameserver 192.0.2.1\noptions rotate\n'), /has the option `rotate`/);
  assert.match(await told(''), /names no other server/);
  const three = [1, 2, 3].map((n) => `nameserver 192.0.2.${n}\n`).join('');
  assert.match(await told(three), /192\.0\.2\.3 is not asked any more/);
  const off = withResolvconf(t, 'nameserver 192.0.2.1\n');
  off.write('bin/resolvconf', '#!/bin/sh\n');
  const { warnings = [] } = await off.run('install');
  assert.match(warnings.join(), /does not name 127\.0\.0\.55 first, though resolvconf was told so/);
});
