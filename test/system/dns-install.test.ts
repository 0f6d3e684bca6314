/**
 * `zerohop dns install` beside the real systemd-resolved, and back: its stub, libnss-resolve, its
 * restarts and its routing. setup unpacks it, as it takes over /etc/resolv.conf when it is installed.
 * There is no systemd here: a shell starts it again when it ends, and `systemctl` ends it.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TestCluster } from '../harness/cluster.ts';
import { smallConfig } from '../harness/config.ts';
import { Etc } from '../harness/etc.ts';
import { eventually } from '../harness/eventually.ts';
import { checkout, type TestHost } from '../harness/host.ts';

const UNPACKED = join(checkout, '.cache/unpacked');
const UPSTREAM = fileURLToPath(new URL('servers/upstream.ts', import.meta.url));
const STUB = '127.0.0.53';
/** systemd-resolved gives up being root for this user. */
const USER = 'systemd-resolve';

/** What the servers of others say of every name. */
const OTHERS = '192.0.2.1';

/** A host whose programs ask systemd-resolved, which has a server of others at eth0. */
class ResolvedHost {
  readonly host: TestHost;
  readonly etc: Etc;
  readonly #run: string;
  readonly #wrapper: readonly string[];
  readonly #forever: string;

  constructor(host: TestHost) {
    const [program] = globSync('{,usr/}lib/systemd/systemd-resolved', { cwd: UNPACKED });
    assert.ok(program, 'systemd-resolved is not unpacked: `scripts/setup --test` does it');
    this.host = host;
    this.etc = new Etc(host, '');
    this.etc.write('nsswitch.conf', 'hosts: files resolve [!UNAVAIL=return] dns\n');
    const accounts = {
      passwd: `${USER}:x:64053:64053::/:/usr/sbin/nologin`,
      group: `${USER}:x:64053:`,
    };
    for (const [name, line] of Object.entries(accounts))
      if (!this.etc.read(name).includes(`${USER}:`))
        appendFileSync(join(this.etc.dir, name), `${line}\n`);
    rmSync(join(this.etc.dir, 'resolv.conf'));
    symlinkSync('../run/systemd/resolve/stub-resolv.conf', join(this.etc.dir, 'resolv.conf'));
    mkdirSync(join(this.etc.dir, 'systemd'));
    this.#run = join(host.dir, 'run');
    const bin = join(host.dir, 'bin');
    mkdirSync(join(this.#run, 'systemd/netif/links'), { recursive: true });
    mkdirSync(bin);
    writeFileSync(join(bin, 'systemctl'), SYSTEMCTL);
    chmodSync(join(bin, 'systemctl'), 0o755);
    const libraries = globSync('{,usr/}lib/*/{,systemd/}lib*.so*', { cwd: UNPACKED });
    const folders = new Set(libraries.map((path) => join(UNPACKED, dirname(path))));
    const script = `mount --bind '${this.etc.dir}' /etc && mount --bind '${this.#run}' /run &&
      PATH='${bin}:'$PATH LD_LIBRARY_PATH='${[...folders].join(':')}' exec "$@"`;
    this.#wrapper = ['unshare', '-m', 'sh', '-c', script, 'sh'];
    this.#forever = `while :; do '${join(UNPACKED, program)}' & echo $! >/run/resolved.pid; wait; done`;
  }

  /** As systemd-networkd tells it. */
  link(index: number, server: string): void {
    const state = 'ADMIN_STATE=configured\nOPER_STATE=routable\nCARRIER_STATE=carrier\n';
    writeFileSync(
      join(this.#run, `systemd/netif/links/${index}`),
      `${state}ADDRESS_STATE=routable\nLLMNR=no\nMDNS=no\nDNS=${server}\n`,
    );
  }

  async start(): Promise<void> {
    this.host.spawn([...this.#wrapper, 'sh', '-c', this.#forever]);
    await eventually('systemd-resolved', async () => (await this.asked('up.example')) === OTHERS);
  }

  async startAgent(): Promise<void> {
    const config = this.host.writeConfig(smallConfig);
    await this.host.agent.start({ config, wrapper: this.#wrapper });
  }

  async output(...words: readonly string[]): Promise<string> {
    return await this.host.output([...this.#wrapper, ...words]);
  }

  async zerohop(...words: readonly string[]): Promise<string> {
    return await this.output(this.host.bin, ...words);
  }

  /** By libnss-resolve. */
  async found(name: string): Promise<string> {
    const getent = [...this.#wrapper, 'getent', 'ahostsv4', name];
    return (await this.host.exec(getent)).stdout.split(' ')[0] ?? '';
  }

  async asked(...words: readonly string[]): Promise<string> {
    const dig = ['dig', '+short', '+tries=1', '+time=8', `@${STUB}`, ...words];
    return (await this.host.exec(dig)).stdout.trim();
  }
}

const SYSTEMCTL = `#!/bin/sh
echo "systemctl $*" >>/run/systemctl.log
before=$(cat /run/resolved.pid)
kill "$before"
while [ "$(cat /run/resolved.pid)" = "$before" ]; do sleep 0.05; done
until dig +short +tries=1 +time=1 @${STUB} up.example | grep -q ${OTHERS}; do sleep 0.05; done
`;

async function resolvedHost(cluster: TestCluster): Promise<ResolvedHost> {
  const [host, other] = [cluster.host(0), cluster.host(1)];
  const server = cluster.addressOf(1);
  const upstream = other.spawn([process.execPath, '--no-warnings', UPSTREAM, server]);
  await upstream.says(/^listening$/m);
  const resolved = new ResolvedHost(host);
  const links = JSON.parse(await host.ip('-j', 'link')) as readonly {
    ifindex: number;
    ifname: string;
  }[];
  const eth0 = links.find(({ ifname }) => ifname === 'eth0');
  resolved.link(eth0?.ifindex ?? 0, server);
  await resolved.start();
  return resolved;
}

test('beside the real systemd-resolved: our names are asked of us and no others need us, dead or alive, and all is back', async () => {
  await using cluster = await TestCluster.create(2);
  const resolved = await resolvedHost(cluster);
  const { host, etc } = resolved;
  assert.equal(await resolved.found('web.zerohop.internal'), OTHERS, 'as others have it');
  await resolved.startAgent();
  await host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.9');
  await resolved.zerohop('dns', 'install');
  assert.equal(await resolved.found('web.zerohop.internal'), '240.0.0.9');
  assert.equal(await resolved.asked('web.zerohop.internal'), '240.0.0.9');
  assert.equal(await resolved.asked('-x', '240.0.0.9'), 'web.zerohop.internal.');
  assert.equal(await resolved.found('a.example'), OTHERS);
  const installed = etc.read('systemd/resolved.conf.d/zerohop.conf');
  assert.equal(await resolved.zerohop('dns', 'install'), 'nothing to change\n');

  await host.agent.kill('SIGKILL');
  assert.equal(await resolved.found('b.example'), OTHERS, 'while it is dead');
  assert.equal(await resolved.asked('c.example'), OTHERS);
  await resolved.output('systemctl', 'restart', 'systemd-resolved');
  assert.equal(await resolved.found('d.example'), OTHERS, 'as resolved has never seen it');
  await resolved.startAgent();
  assert.equal(await resolved.found('web.zerohop.internal'), '240.0.0.9');

  etc.write('systemd/resolved.conf.d/zz-late.conf', '[Resolve]\nDomains=\nDNS=\n');
  await resolved.output('systemctl', 'restart', 'systemd-resolved');
  assert.equal(await resolved.found('web.zerohop.internal'), OTHERS);
  assert.match(await resolved.zerohop('dns', 'status'), /zz-late\.conf empties DNS=/);
  rmSync(join(etc.dir, 'systemd/resolved.conf.d/zz-late.conf'));
  assert.equal(etc.read('systemd/resolved.conf.d/zerohop.conf'), installed);

  await resolved.zerohop('dns', 'uninstall');
  assert.equal(existsSync(join(etc.dir, 'systemd/resolved.conf.d')), false);
  assert.equal(await resolved.found('web.zerohop.internal'), OTHERS, 'as others have it again');
});

test('beside the real systemd-resolved: a domain in which the host searches goes on being searched', async () => {
  await using cluster = await TestCluster.create(2);
  const resolved = await resolvedHost(cluster);
  mkdirSync(join(resolved.etc.dir, 'systemd/resolved.conf.d'));
  resolved.etc.write(
    'systemd/resolved.conf.d/50-own.conf',
    '[Resolve]\nDomains=zerohop.internal\n',
  );
  await resolved.startAgent();
  await resolved.host.must('service', 'add', 'web', '--port', '80', '--vip', '240.0.0.9');
  await resolved.zerohop('dns', 'install');
  assert.equal(await resolved.found('web'), '240.0.0.9');
});
