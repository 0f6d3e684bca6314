/** What `npm pack` makes installs and runs on a host with Node alone: no compiler, no registry. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run, testEnvironment } from '../harness/child.ts';
import { checkout } from '../harness/host.ts';

const FOLDERS = ['addon', 'bpf', 'scripts', 'src', 'node_modules'];
const FILES = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  '.npmrc',
  '.node-version',
  'LICENSE',
  'README.md',
];
/** All that the host has on its PATH; npm's installer is a Node program that asks for sh. */
const HOST_COMMANDS = ['node', 'npm', 'sh', 'env'];

const dir = mkdtempSync(join(tmpdir(), 'zh-pack-'));
const prefix = join(dir, 'prefix');
const hostBin = join(dir, 'bin');
const env = testEnvironment({ PATH: hostBin, HOME: dir, npm_config_offline: 'true' });

function onPath(command: string): string {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (existsSync(join(folder, command))) return join(folder, command);
  }
  throw new Error(`${command} is not on the PATH`);
}

/** It compiles the addon: half a minute where nobody else computes. */
const PACK_MS = 600_000;

/** Packs a copy, since packing builds dist/ anew and other tests run from the checkout's. */
async function pack(): Promise<string> {
  const copy = join(dir, 'copy');
  mkdirSync(copy);
  const present = [...FOLDERS, ...FILES].filter((name) => existsSync(join(checkout, name)));
  await run(['cp', '-a', ...present, copy], { cwd: checkout });
  symlinkSync(join(checkout, '.node'), join(copy, '.node'));
  const options = {
    cwd: copy,
    env: testEnvironment({ npm_config_offline: 'true' }),
    timeoutMs: PACK_MS,
  };
  await run(['npm', 'pack', '--pack-destination', dir], options);
  const name = readdirSync(dir).find((file) => file.endsWith('.tgz'));
  assert.ok(name !== undefined, 'npm pack made no tarball');
  return join(dir, name);
}

describe('the packed zerohop', () => {
  let tarball = '';
  const zerohop = join(prefix, 'bin/zerohop');

  before(async () => {
    tarball = await pack();
    mkdirSync(hostBin);
    for (const command of HOST_COMMANDS) {
      const from = command === 'node' ? process.execPath : realpathSync(onPath(command));
      symlinkSync(from, join(hostBin, command));
    }
    await run(['npm', 'install', '--global', '--prefix', prefix, tarball], { env, cwd: dir });
  });
  after(() => {
    rmSync(dir, { recursive: true, force: true });
  });

  test('holds the built program and its dependencies, no source and nothing of the tests', async () => {
    const files = (await run(['tar', 'tzf', tarball])).trim().split('\n');
    const own = files
      .map((file) => file.replace('package/', ''))
      .filter((file) => !file.startsWith('node_modules/'));
    for (const needed of [
      'dist/src/main.js',
      'dist/addon/zerohop_bpf.node',
      'package.json',
      'LICENSE',
    ]) {
      assert.ok(own.includes(needed), `${needed} is missing`);
    }
    assert.ok(
      own.some((file) => /^dist\/bpf\/.*\.bpf\.o$/.test(file)),
      'no BPF object',
    );
    const strays = own.filter(
      (file) =>
        !/^(dist\/(src|addon|bpf)\/.*\.(js|node|o)|package\.json|README\.md|LICENSE)$/.test(file),
    );
    assert.deepEqual(strays, []);
  });

  test('its addon needs no library that a bare host lacks', async () => {
    const addon = join(prefix, 'lib/node_modules/zerohop/dist/addon/zerohop_bpf.node');
    const needed = [...(await run(['readelf', '-d', addon])).matchAll(/NEEDED.*\[(.*)\]/g)].map(
      (match) => match[1],
    );
    assert.deepEqual(
      needed.filter((name) => /lib(bpf|elf|z|zstd)\.so/.test(name ?? '')),
      [],
    );
  });

  test('zerohop --version answers the version that package.json states', async () => {
    const manifest = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as {
      version: string;
    };
    assert.equal((await run([zerohop, '--version'], { env })).trim(), manifest.version);
  });

  test('zerohop doctor looks at this kernel', async () => {
    const answer: unknown = JSON.parse(await run([zerohop, 'doctor', '--json'], { env }));
    assert.equal(typeof answer, 'object');
  });
});
