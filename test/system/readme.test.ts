/** Examples of the README, as somebody would type them: its own words, block by block. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Child } from '../harness/child.ts';
import { TestCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { checkout, TestHost } from '../harness/host.ts';

interface Block {
  /** Host names. */
  readonly on: readonly string[];
  /** "in a terminal of its own": it goes on. */
  readonly stays: boolean;
  readonly script: string;
}

function section(title: string): string {
  const text = readFileSync(join(checkout, 'README.md'), 'utf8');
  const [, rest = ''] = text.split(`\n## ${title}\n`);
  return rest.split('\n## ')[0] ?? '';
}

function blocksOf(text: string): Block[] {
  return [...text.matchAll(/```sh\n# on ([^\n]*)\n([^`]*)```/g)].map(
    ([, where = '', script = '']) => ({
      on: [...where.matchAll(/\bh\d\b/g)].map(([name]) => name),
      stays: where.includes('terminal of its own'),
      script,
    }),
  );
}

/** A directory for PATH in which `zerohop` is the one of this checkout, and root needs no `sudo`. */
function commands(host: TestHost): string {
  const bin = join(host.dir, 'bin');
  mkdirSync(bin);
  symlinkSync(host.bin, join(bin, 'zerohop'));
  writeFileSync(join(bin, 'sudo'), '#!/bin/sh\nexec "$@"\n');
  chmodSync(join(bin, 'sudo'), 0o755);
  return `${bin}:${process.env['PATH'] ?? ''}`;
}

/** A shell command in the README's words. */
function begin(
  host: TestHost,
  path: string,
  script: string,
  within: readonly string[] = [],
): Child {
  const command = [...within, 'bash', '-euc', script];
  return host.spawn(command, { input: '', env: { PATH: path } });
}

test('the example with several hosts does what the README says', async () => {
  const text = section('Several hosts');
  const blocks = blocksOf(text);
  assert.equal(blocks.length, text.split('```sh\n').length - 1, 'each block says where');
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  const paths = cluster.hosts.map(commands);
  const hostOf = (name: string): TestHost => cluster.host(Number(name.slice(1)) - 1);
  const on = (name: string, script: string): Child =>
    begin(hostOf(name), paths[Number(name.slice(1)) - 1] ?? '', script);
  let word = '';
  const type = async (name: string, script: string): Promise<string> => {
    const { code, stdout, stderr } = await on(name, script.replaceAll('WORD', word)).result(60_000);
    assert.equal(code, 0, `on ${name}: ${script}${stdout}${stderr}`);
    word = /^zh[0-9a-z]\S{100,}$/m.exec(stdout)?.[0] ?? word;
    return stdout;
  };

  const shown: string[] = [];
  for (const { on: names, stays, script } of blocks) {
    for (const name of names) {
      if (stays) await on(name, script).says(/serves web:/, 30_000);
      // What was written on one host is on its way to the others.
      else if (/curl|kv get/.test(script))
        await eventually(script, () =>
          type(name, script).then(
            (out) => shown.push(out),
            () => 0,
          ),
        );
      else shown.push(await type(name, script));
    }
    if (stays) await cluster.backendsBecome('web', ['10.77.0.1:8080', '10.77.0.2:8080']);
  }

  const said = shown.join('');
  for (const name of ['h1', 'h2', 'h3'])
    assert.match(said, new RegExp(`^${name} +\\w{26} +alive`, 'm'));
  assert.match(said, /^reachable at 252\.189\.37\.169 and /m);
  assert.match(said, /<title>Directory listing/);
  assert.match(said, /^be kind$/m);
  const heads = text.match(/^NAME .*$/m)?.[0].split(/ +/);
  assert.deepEqual(/^NAME .*$/m.exec(said)?.[0].split(/ +/), heads);
  // h2 has left, and its server still runs.
  await cluster.backendsBecome('web', ['10.77.0.1:8080'], [0, 2]);
});

/** The host's own /etc and /run, copied, for commands that are run `within`: what they write goes with the host. */
async function ownEtc(host: TestHost): Promise<readonly string[]> {
  const script = `
    cp -a /etc ${host.dir}/etc && mkdir ${host.dir}/run && cd ${host.dir}
    rm -f etc/resolv.conf && echo 'nameserver 192.0.2.53' >etc/resolv.conf
    sed -i 's/^hosts:.*/hosts: files dns/' etc/nsswitch.conf
    mount --bind etc /etc && mount --bind run /run && echo mounted && exec sleep infinity`;
  const holder = host.spawn([
    'unshare',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-euc',
    script,
  ]);
  await holder.says(/^mounted$/m);
  return ['nsenter', `--mount=/proc/${holder.pid}/ns/mnt`];
}

test('the example of names does what the README says', async () => {
  const text = section('Names (DNS)');
  const blocks = blocksOf(text);
  assert.equal(blocks.length, text.split('```sh\n').length - 1, 'each block says where');
  await using host = await TestHost.create();
  // A host has an address beside loopback; glibc asks for none of a family without (AI_ADDRCONFIG).
  await host.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
  await host.ip('address', 'add', '10.88.0.1/24', 'dev', 'eth0');
  for (const end of ['eth0', 'eth1']) await host.ip('link', 'set', end, 'up');
  await host.agent.start();
  const path = commands(host);
  const within = await ownEtc(host);
  const shown: string[] = [];
  for (const { stays, script } of blocks) {
    const child = begin(host, path, script, within);
    if (stays) {
      await child.says(/serves shop:/, 30_000);
      continue;
    }
    const { code, stdout, stderr } = await child.result(60_000);
    assert.equal(code, 0, `${script}${stdout}${stderr}`);
    shown.push(stdout);
  }
  const said = shown.join('');
  const example = text.match(/^shop\.zerohop\.internal\. .*$/m)?.[0] ?? assert.fail('no example');
  assert.ok(said.split('\n').includes(example), said);
  assert.match(said, /^;; NOERROR from the zone in [0-9.]+ ms$/m);
  assert.match(said, /<title>Directory listing/);
  for (const address of ['192.0.2.7', '192.0.2.8']) {
    assert.match(said, new RegExp(`^${address} +STREAM`, 'm'));
    assert.match(said, new RegExp(`^db\\.zerohop\\.internal +60 +A +${address} +record$`, 'm'));
  }
  assert.match(said, /^_http\._tcp\.shop\.zerohop\.internal +5 +SRV +0 1 8081 \S+ +service$/m);
  const resolvConf = await host.output([...within, 'cat', '/etc/resolv.conf']);
  assert.equal(resolvConf, 'nameserver 192.0.2.53\n');
});
