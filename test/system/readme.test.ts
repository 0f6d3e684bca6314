/** "Several hosts" of the README, as somebody would type it on three hosts: its own words, block by block. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Child } from '../harness/child.ts';
import { TestCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { checkout, type TestHost } from '../harness/host.ts';

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

test('the example with several hosts does what the README says', async () => {
  const text = section('Several hosts');
  const blocks = blocksOf(text);
  assert.equal(blocks.length, text.split('```sh\n').length - 1, 'each block says where');
  await using cluster = await TestCluster.create(3);
  await cluster.start();
  const paths = cluster.hosts.map(commands);
  const hostOf = (name: string): TestHost => cluster.host(Number(name.slice(1)) - 1);
  const begin = (name: string, script: string): Child =>
    hostOf(name).spawn(['bash', '-euc', script], {
      input: '',
      env: { PATH: paths[Number(name.slice(1)) - 1] },
    });
  let word = '';
  const type = async (name: string, script: string): Promise<string> => {
    const { code, stdout, stderr } = await begin(name, script.replaceAll('WORD', word)).result(
      60_000,
    );
    assert.equal(code, 0, `on ${name}: ${script}${stdout}${stderr}`);
    word = /^zh[0-9a-z]\S{100,}$/m.exec(stdout)?.[0] ?? word;
    return stdout;
  };

  const shown: string[] = [];
  for (const { on, stays, script } of blocks) {
    for (const name of on) {
      if (stays) await begin(name, script).says(/serves web:/, 30_000);
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
