/**
 * `zerohop dns install` on an /etc and a /run of its own, in a mount namespace: what is written for
 * each kind of host, and that everything is back afterwards, to the byte.
 */
import assert from 'node:assert/strict';
import fs, {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { replaceWith } from '../../../src/dns/io/etc-file.ts';
import { Child } from '../../harness/child.ts';
import {
  BLOCK,
  DROP_IN,
  OURS,
  ours,
  PLAIN,
  RESTARTED,
  STUB_TEXT,
  Tree,
  withResolved,
} from './install-tree.ts';

test('resolv.conf: ours goes first, the others stay, and uninstall restores it to the byte', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  chmodSync(tree.at('etc/resolv.conf'), 0o640);
  const before = tree.etc();

  const planned = await tree.run('install', { dryRun: true });
  assert.deepEqual(tree.etc(), before);
  const done = await tree.run('install');
  assert.deepEqual(planned.steps, done.steps);
  assert.deepEqual([done.methods, done.steps?.length, done.warnings], [['resolv.conf'], 1, []]);
  assert.equal(ours(tree.read('etc/resolv.conf')), BLOCK + PLAIN);
  assert.deepEqual(done.upstreams, ['192.0.2.1', '192.0.2.2']);
  assert.deepEqual(done.installed, { methods: ['resolv.conf'] });

  const installed = tree.etc();
  assert.deepEqual((await tree.run('install')).steps, [], 'a second time');
  assert.deepEqual(tree.etc(), installed);

  const back = await tree.run('uninstall');
  assert.deepEqual([back.steps?.length, back.warnings], [1, []]);
  assert.deepEqual(tree.etc(), before);
  assert.deepEqual((await tree.run('uninstall')).steps, []);
  assert.deepEqual(tree.commands, []);
});

test('resolv.conf: what somebody else changed meanwhile stays, and it is told', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  await tree.run('install');
  const changed = tree.read('etc/resolv.conf').replace('192.0.2.2', '192.0.2.9');
  tree.write('etc/resolv.conf', changed);
  const { warnings = [] } = await tree.run('uninstall');
  assert.match(warnings.join(), /^\/etc\/resolv\.conf was changed by somebody else since/);
  assert.equal(tree.read('etc/resolv.conf'), PLAIN.replace('192.0.2.2', '192.0.2.9'));
  assert.equal(tree.read('etc/resolv.conf.before-zerohop'), PLAIN);
});

test('resolv.conf: where another program wrote it anew it stays so, and status tells', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  await tree.run('install');
  tree.write('etc/resolv.conf', 'nameserver 192.0.2.8\n');
  const { installed } = await tree.run('look');
  assert.match(installed.problem ?? '', /does not name this agent any more/);
  const { warnings = [] } = await tree.run('uninstall');
  assert.match(warnings.join(), /rewritten by another program/);
  assert.deepEqual(tree.etc(), { 'etc/resolv.conf': '644 nameserver 192.0.2.8\n' });
});

test('resolv.conf: where the mark at the end of our lines is gone the others stay, and are asked', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  const before = tree.etc();
  await tree.run('install');
  tree.write('etc/resolv.conf', tree.read('etc/resolv.conf').replace('# zerohop: end\n', ''));
  assert.deepEqual((await tree.run('look')).upstreams, ['192.0.2.1', '192.0.2.2']);
  assert.deepEqual((await tree.run('uninstall')).warnings, []);
  assert.deepEqual(tree.etc(), before);
});

test('resolv.conf: where the marks of our lines are gone it is told, and the copy is kept', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  await tree.run('install');
  const stripped = tree.read('etc/resolv.conf').replaceAll(/^#.*\n/gm, '');
  tree.write('etc/resolv.conf', stripped);
  const back = await tree.run('uninstall');
  assert.match(
    back.warnings?.join() ?? '',
    /still names 127\.0\.0\.55, .*`mv \/etc\/resolv\.conf\.before-zerohop \/etc\/resolv\.conf`/,
  );
  assert.match(back.installed.problem ?? '', /names 127\.0\.0\.55 still/);
  assert.deepEqual(tree.etc(), {
    'etc/resolv.conf': `644 ${stripped}`,
    'etc/resolv.conf.before-zerohop': `644 ${PLAIN}`,
  });
  const again = await tree.run('install');
  assert.deepEqual(again.installed, { methods: ['resolv.conf'] });
  assert.equal(ours(tree.read('etc/resolv.conf')), BLOCK + PLAIN.replace('# by hand\n', ''));
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), { 'etc/resolv.conf': `644 ${PLAIN}` });
});

test('resolv.conf: `rotate` is set aside while we are first, and what else it says is kept', async (t) => {
  const text = 'nameserver 192.0.2.1\noptions rotate edns0\n';
  const tree = new Tree(t, { 'etc/resolv.conf': text });
  await tree.run('install');
  assert.equal(
    ours(tree.read('etc/resolv.conf')),
    BLOCK.replace('attempts:2', 'attempts:2 edns0') +
      'nameserver 192.0.2.1\n# zerohop: set aside: options rotate edns0\n',
  );
  assert.deepEqual((await tree.run('install')).steps, []);
  await tree.run('uninstall');
  assert.equal(tree.read('etc/resolv.conf'), text);
});

test('resolv.conf: what is lost, and what cannot go on alone, is told', async (t) => {
  const servers = [1, 2, 3].map((n) => `nameserver 192.0.2.${n}\n`).join('');
  const full = new Tree(t, { 'etc/resolv.conf': servers });
  assert.match((await full.run('install')).warnings?.join() ?? '', /192\.0\.2\.3 is not asked/);
  const alone = new Tree(t, {});
  const { warnings } = await alone.run('install');
  assert.match(warnings?.join() ?? '', /names no other server/);
  assert.match(alone.read('etc/resolv.conf'), /^nameserver 127\.0\.0\.55$/m);
  await alone.run('uninstall');
  assert.deepEqual(alone.etc(), {});
});

test('resolv.conf: a symlink stays one, and the file behind it is written and restored', async (t) => {
  const tree = new Tree(t, { 'etc/dhcp/resolv.conf': PLAIN });
  tree.link('etc/resolv.conf', 'dhcp/resolv.conf');
  const before = tree.etc();
  const { warnings = [] } = await tree.run('install');
  assert.match(warnings.join(), /is a symlink: what writes \/etc\/dhcp\/resolv\.conf may/);
  assert.equal(ours(tree.read('etc/dhcp/resolv.conf')), BLOCK + PLAIN);
  assert.equal(readlinkSync(tree.at('etc/resolv.conf')), 'dhcp/resolv.conf');
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before);
});

test('resolv.conf: one that is mounted, as in containers, is written and restored where it is', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN, 'mounted.conf': PLAIN });
  const mounts = `mount --bind ${tree.at('mounted.conf')} /etc/resolv.conf`;
  await tree.run('install', {}, mounts);
  assert.equal(ours(tree.read('mounted.conf')), BLOCK + PLAIN);
  await tree.run('uninstall', {}, mounts);
  assert.equal(tree.read('mounted.conf'), PLAIN);
  assert.deepEqual(tree.etc(), { 'etc/resolv.conf': `644 ${PLAIN}` });
});

test('resolv.conf: one that is mounted and has no room for our lines is as it was, and so is its copy', async (t) => {
  const long = `${'#'.repeat(4050)}\nnameserver 192.0.2.1\n`;
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN, 'long.conf': long, 'small/none': '' });
  const { problems = [] } = await tree.run(
    'install',
    {},
    `mount -t tmpfs -o size=4k none ${tree.at('small')}
     cp ${tree.at('long.conf')} ${tree.at('small/resolv.conf')}
     mount --bind ${tree.at('small/resolv.conf')} /etc/resolv.conf
     "$@"
     cp /etc/resolv.conf ${tree.at('seen.conf')}
     exit`,
  );
  assert.match(problems[0]?.message ?? '', /^\/etc\/resolv\.conf cannot be changed: ENOSPC/);
  assert.equal(tree.read('seen.conf'), long);
  assert.deepEqual(tree.etc(), { 'etc/resolv.conf': `644 ${PLAIN}` });
});

test('a file is on the disk before it takes the place of the one that was there', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'zh-etc-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'resolv.conf');
  writeFileSync(path, 'before');
  const seen: string[] = [];
  const { fsyncSync, renameSync } = fs;
  t.mock.method(fs, 'fsyncSync', (fd: number) => {
    seen.push(`fsync ${readlinkSync(`/proc/self/fd/${fd}`)}: ${readFileSync(path, 'utf8')}`);
    fsyncSync(fd);
  });
  t.mock.method(fs, 'renameSync', (from: string, to: string) => {
    seen.push(`rename ${from}`);
    renameSync(from, to);
  });
  syncBuiltinESMExports();
  t.after(syncBuiltinESMExports);
  replaceWith(path, 'after');
  assert.deepEqual(seen, [
    `fsync ${path}.zerohop-new: before`,
    `rename ${path}.zerohop-new`,
    `fsync ${directory}: after`,
  ]);
});

test('resolv.conf: a symlink that leads nowhere yet is there again afterwards', async (t) => {
  const tree = new Tree(t, {});
  tree.link('etc/resolv.conf', '../run/systemd/resolve/stub-resolv.conf');
  const before = tree.etc();
  await tree.run('install');
  assert.match(tree.read('etc/resolv.conf'), /^nameserver 127\.0\.0\.55$/m);
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before);
});

test('resolv.conf: one that cannot be written is a problem that says why, and nothing is changed', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  const before = tree.etc();
  const { problems = [] } = await tree.run('install', {}, 'mount -o remount,ro,bind /etc');
  assert.match(problems[0]?.message ?? '', /^\/etc\/resolv\.conf.* cannot be changed: EROFS/);
  assert.match(problems[0]?.hint ?? '', /read-only/);
  assert.deepEqual(tree.etc(), before);
});

test('resolv.conf: one that is immutable is left so, and the problem says what it is', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  const chattr = async (flag: string): Promise<number> =>
    (await new Child(['chattr', flag, tree.at('etc/resolv.conf')], { input: '' }).result()).code;
  if ((await chattr('+i')) !== 0) return t.skip('this file system or sandbox has no chattr +i');
  try {
    const { problems = [] } = await tree.run('install');
    assert.match(problems[0]?.hint ?? '', /chattr -i/);
    assert.deepEqual(tree.etc(), { 'etc/resolv.conf': `644 ${PLAIN}` });
  } finally {
    await chattr('-i');
  }
});

test('an agent that listens at another port only cannot be named in resolv.conf', async (t) => {
  const tree = new Tree(t, { 'etc/resolv.conf': PLAIN });
  const { problems = [] } = await tree.run('install', {
    listen: [{ host: '127.0.0.55', port: 5353 }],
  });
  assert.match(problems[0]?.message ?? '', /can only name servers at port 53/);
  assert.deepEqual(tree.etc(), { 'etc/resolv.conf': `644 ${PLAIN}` });
});

test('systemd-resolved: a drop-in sends it to us for our names, and nothing else is touched', async (t) => {
  const tree = withResolved(t);
  const before = tree.etc();
  const { methods, warnings, upstreams } = await tree.run('install');
  assert.deepEqual([methods, warnings], [['resolved'], []]);
  assert.deepEqual(upstreams, ['192.0.2.5'], 'those behind the stub, without us');
  const text = tree.read(DROP_IN);
  assert.match(
    text,
    /^\[Resolve\]\nDNS=127\.0\.0\.55\nDomains=~zerohop\.internal ~240\.in-addr\.arpa /m,
  );
  assert.match(
    text,
    / ~255\.in-addr\.arpa ~0\.7\.f\.6\.8\.6\.f\.6\.2\.7\.5\.6\.a\.7\.d\.f\.ip6\.arpa$/m,
  );
  assert.deepEqual(tree.etc(), { ...before, [DROP_IN]: `644 ${text}` });
  assert.deepEqual(tree.commands, [RESTARTED]);
  assert.deepEqual((await tree.run('install')).steps, []);
  assert.deepEqual((await tree.run('uninstall')).installed, { methods: [] });
  assert.deepEqual(tree.etc(), before);
  assert.deepEqual(tree.commands, [RESTARTED, RESTARTED]);
});

/** As resolved does it: servers of links and of our drop-in, and its fallbacks while there are none. */
function restartOfResolved({ links }: { readonly links: string }): string {
  return `#!/bin/sh
    echo "systemctl $*" >>/run/commands
    ours=$(sed -n 's/^DNS=/nameserver /p' /${DROP_IN} 2>/dev/null)
    all=$(printf '%s\n%s' "$ours" '${links}' | grep .) || all='nameserver 192.0.2.99'
    echo "$all" >/run/systemd/resolve/resolv.conf\n`;
}

test('systemd-resolved that lives on FallbackDNS: the drop-in is taken out again, and it is told why', async (t) => {
  const tree = withResolved(t, {
    'run/systemd/resolve/resolv.conf': 'nameserver 192.0.2.99\n',
    'bin/systemctl': restartOfResolved({ links: '' }),
  });
  const before = tree.etc();
  const { problems = [] } = await tree.run('install', { all: true });
  assert.match(problems[0]?.message ?? '', /has only FallbackDNS \(192\.0\.2\.99\)/);
  assert.match(problems[0]?.hint ?? '', /^set dns\.upstreams .* or give a link/);
  assert.deepEqual(tree.etc(), before);
  assert.equal(tree.read('run/systemd/resolve/resolv.conf'), 'nameserver 192.0.2.99\n');
  assert.equal(tree.read('run/commands'), `${RESTARTED}\n${RESTARTED}\n`);

  tree.write('bin/systemctl', restartOfResolved({ links: 'nameserver 192.0.2.5' }));
  const beside = await tree.run('install');
  assert.deepEqual([beside.upstreams, beside.warnings], [['192.0.2.5'], []]);
  tree.write('bin/systemctl', restartOfResolved({ links: '' }));
  tree.write('run/systemd/resolve/resolv.conf', `nameserver ${OURS}\n`);
  const again = await tree.run('install');
  assert.match(again.problems?.[0]?.message ?? '', /only FallbackDNS \(192\.0\.2\.99\)/);
  assert.deepEqual(tree.etc(), before, 'also one that was there');
});

test('systemd-resolved that lives on FallbackDNS: nothing is written where it says so itself', async (t) => {
  const tree = withResolved(t, {
    'run/systemd/resolve/resolv.conf': 'nameserver 192.0.2.99\n',
    'bin/resolvectl': '#!/bin/sh\necho Global:\necho "Link 2 (eth0):"\n',
    'bin/systemctl': restartOfResolved({ links: '' }),
  });
  const before = tree.etc();
  for (const options of [{}, { dryRun: true }]) {
    const { problems = [] } = await tree.run('install', options);
    assert.match(problems[0]?.message ?? '', /has only FallbackDNS \(192\.0\.2\.99\)/);
  }
  assert.deepEqual([tree.etc(), existsSync(tree.at('run/commands'))], [before, false]);

  const { warnings = [] } = await tree.run('install', {
    upstreams: [{ host: '192.0.2.1', port: 53 }],
  });
  assert.match(warnings.join(), /while the agent is down, this host resolves nothing/);
  assert.match(tree.read(DROP_IN), /^DNS=127\.0\.0\.55$/m);
});

test('systemd-resolved with no server yet: the drop-in stays, and it is told', async (t) => {
  const tree = withResolved(t, { 'run/systemd/resolve/resolv.conf': '# none\n' });
  const { warnings = [] } = await tree.run('install');
  assert.match(warnings.join(), /until a link has servers, names of others fail/);
  assert.match(tree.read(DROP_IN), /^DNS=127\.0\.0\.55$/m);
});

test('systemd-resolved with --all: resolv.conf names us before the stub, and is the symlink again afterwards', async (t) => {
  const tree = withResolved(t, { 'etc/nsswitch.conf': 'hosts: files resolve dns\n' });
  // As resolved has it, which runs as a user of its own.
  chownSync(tree.at('run/systemd/resolve/stub-resolv.conf'), 193, 193);
  const before = tree.etc();
  const { methods, warnings = [], upstreams } = await tree.run('install', { all: true });
  assert.deepEqual(methods, ['resolved', 'resolv.conf']);
  assert.match(warnings.join(), /nsswitch\.conf has `resolve`/);
  assert.equal(ours(tree.read('etc/resolv.conf')), BLOCK + STUB_TEXT);
  const { uid, gid } = lstatSync(tree.at('etc/resolv.conf'));
  assert.deepEqual([uid, gid], [0, 0], 'it is not for that user to write');
  assert.deepEqual(upstreams, ['192.0.2.5']);
  assert.deepEqual((await tree.run('install', { all: true })).steps, []);
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before);
  assert.equal(tree.read('run/systemd/resolve/stub-resolv.conf'), STUB_TEXT);
});

/** What systemd-resolved has for links, as its program tells it. */
function resolvectl(dns: readonly string[], domain: readonly string[]): string {
  const told = (lines: readonly string[]): string =>
    lines.map((line) => `echo '${line}'`).join('\n');
  return `#!/bin/sh\nif [ "$2" = dns ]; then\n${told(dns)}\nelse\n${told(domain)}\nfi\n`;
}

test('systemd-resolved with --all: names that it asks at some links only are told of', async (t) => {
  const tree = withResolved(t);
  const told = async (dns: string[], domain: string[], options = {}): Promise<string[]> => {
    tree.write('bin/resolvectl', resolvectl(dns, domain));
    const { warnings = [] } = await tree.run('install', { dryRun: true, ...options });
    return warnings.filter((warning) => /dns\.(forward|upstreams)/.test(warning));
  };
  const all = { all: true };
  const dns = [
    'Global:',
    'Link 2 (eth0): 192.0.2.5',
    'Link 7 (tun0): 10.8.0.1#vpn.example',
    '               fd00::1',
  ];
  const vpn = ['Global: ~zerohop.internal', 'Link 2 (eth0):', 'Link 7 (tun0): ~corp.example'];
  assert.deepEqual(await told(dns, vpn, all), [
    'systemd-resolved asks the servers of tun0 for names under corp.example; the agent, which is asked first now, does not: give them in dns.forward (corp.example: [10.8.0.1, fd00::1])',
  ]);
  assert.deepEqual(await told(dns, vpn), [], 'only our names are asked of us');
  const everything = [...vpn.slice(0, 2), 'Link 7 (tun0): corp.example ~.'];
  const both = (await told(dns, everything, all)).join();
  assert.match(
    both,
    /dns\.forward \(corp\.example: .* dns\.upstreams \(\[10\.8\.0\.1, fd00::1\]\)/,
  );
  const lone = ['Global:', 'Link 2 (eth0): home.example', 'Link 7 (tun0): ~none.example'];
  assert.deepEqual(await told(dns.slice(0, 2), lone, all), [], 'there is one way only');
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNS=192.0.2.77\n');
  assert.equal(
    (await told(dns, vpn)).length,
    1,
    'also where resolv.conf names us for another reason',
  );
  tree.write('bin/resolvectl', '#!/bin/sh\nexit 1\n');
  const { warnings = [] } = await tree.run('install', { dryRun: true });
  assert.deepEqual(warnings.length, 1, 'where it cannot be asked');
});

test('systemd-resolved with servers for all links: ours is not put among them', async (t) => {
  const tree = withResolved(t, { 'etc/systemd/resolved.conf': '[Resolve]\nDNS=192.0.2.77\n' });
  const before = tree.etc();
  const { methods, warnings = [] } = await tree.run('install');
  assert.deepEqual(methods, ['resolv.conf']);
  assert.match(warnings.join(), /has servers for all links \(192\.0\.2\.77\)/);
  assert.equal(ours(tree.read('etc/resolv.conf')), BLOCK + STUB_TEXT);
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before);
});

test('systemd-resolved that has servers for all links since: status tells, and our drop-in is taken back', async (t) => {
  const tree = withResolved(t);
  const before = tree.etc();
  await tree.run('install');
  tree.write('etc/systemd/resolved.conf', '[Resolve]\nDNS=192.0.2.77\n');
  const { installed } = await tree.run('look');
  assert.deepEqual(installed.methods, ['resolved']);
  assert.match(installed.problem ?? '', /has servers for all links since \(192\.0\.2\.77\)/);
  const again = await tree.run('install');
  assert.deepEqual(
    [again.methods, again.installed],
    [['resolv.conf'], { methods: ['resolv.conf'] }],
  );
  assert.equal(existsSync(tree.at(DROP_IN)), false);
  assert.equal(ours(tree.read('etc/resolv.conf')), BLOCK + STUB_TEXT);
  assert.deepEqual(tree.commands, [RESTARTED, RESTARTED]);
  assert.deepEqual((await tree.run('install')).steps, []);
  await tree.run('uninstall');
  unlinkSync(tree.at('etc/systemd/resolved.conf'));
  assert.deepEqual(tree.etc(), before);
});

const KUBELET = 'mount -t tmpfs none /var/lib; mkdir /var/lib/kubelet';

test('where kubelet is, it is told that pods cannot ask us, with a file for them', async (t) => {
  const told = async (tree: Tree, options = {}, mounts = KUBELET): Promise<string> => {
    const { warnings = [] } = await tree.run('install', options, mounts);
    return warnings.filter((warning) => warning.includes('kubelet')).join();
  };
  const plain = new Tree(t, { 'etc/resolv.conf': PLAIN });
  const copy =
    /in a pod 127\.0\.0\.55 is .* such as a copy of \/etc\/resolv\.conf\.before-zerohop$/;
  assert.match(await told(plain), copy);
  assert.match(await told(plain), copy, 'a second time');
  assert.equal(await told(plain, {}, ''), '');
  assert.equal(await told(plain, { listen: [{ host: '192.0.2.7', port: 53 }] }), '');
  assert.match(await told(withResolved(t)), /to a file that does not name it$/);
  const global = withResolved(t, { 'etc/systemd/resolved.conf': '[Resolve]\nDNS=192.0.2.77\n' });
  assert.match(await told(global), /such as \/run\/systemd\/resolve\/resolv\.conf$/);
});

test('openresolv: lines at the end of its settings, which are kept', async (t) => {
  const settings = 'resolv_conf=/etc/resolv.conf\nname_servers=192.0.2.3';
  const tree = new Tree(t, {
    'etc/resolv.conf': '# Generated by resolvconf\nnameserver 192.0.2.1\n',
    'etc/resolvconf.conf': settings,
  });
  const before = tree.etc();
  assert.deepEqual((await tree.run('install')).methods, ['openresolv']);
  const script = `. ${tree.at('etc/resolvconf.conf')}; echo $name_servers $resolv_conf_local_only $resolv_conf_options`;
  const { stdout } = await new Child(['sh', '-c', script], { input: '' }).result();
  assert.equal(stdout, '127.0.0.55 192.0.2.3 NO timeout:1 attempts:2\n');
  assert.deepEqual((await tree.run('install')).steps, []);
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before, 'also without the end of the last line');
  assert.deepEqual(tree.commands, ['resolvconf -u', 'resolvconf -u']);
});

test("Debian's resolvconf: lines in its head", async (t) => {
  const tree = new Tree(t, {
    'run/resolvconf/resolv.conf': 'nameserver 192.0.2.1\n',
    'etc/resolvconf/resolv.conf.d/head': '# do not edit\n',
  });
  tree.link('etc/resolv.conf', '../run/resolvconf/resolv.conf');
  const before = tree.etc();
  assert.deepEqual((await tree.run('install')).methods, ['resolvconf']);
  assert.equal(ours(tree.read('etc/resolvconf/resolv.conf.d/head')), `# do not edit\n${BLOCK}`);
  await tree.run('uninstall');
  assert.deepEqual(tree.etc(), before);
  assert.deepEqual(tree.commands, ['resolvconf -u', 'resolvconf -u']);
});

test('a command that fails is told of, with what to do', async (t) => {
  const tree = withResolved(t);
  writeFileSync(tree.at('bin/systemctl'), '#!/bin/sh\necho no bus >&2; exit 1\n', { mode: 0o755 });
  const { warnings } = await tree.run('install');
  assert.deepEqual(warnings, [`${RESTARTED} failed (no bus): run it by hand, or nothing changes`]);
  unlinkSync(tree.at(DROP_IN));
});
