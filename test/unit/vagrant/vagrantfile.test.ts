/** vagrant/Vagrantfile, as `vagrant validate` sees it. No machine is started, nothing is fetched. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PROVIDERS = ['libvirt', 'virtualbox'] as const;
const checkout = fileURLToPath(new URL('../../../', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'zerohop-vagrantfile.'));

after(() => rmSync(dir, { recursive: true, force: true }));

/** Without VirtualBox vagrant validates none of its settings. It asks for the version only. */
function standIn(): string {
  const bin = join(dir, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'VBoxManage'), '#!/bin/sh\necho 7.0.20r163906\n', { mode: 0o755 });
  return bin;
}

function vagrant(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { status, stdout, stderr, error } = spawnSync('vagrant', args, {
    encoding: 'utf8',
    env: {
      PATH: `${standIn()}:${process.env['PATH']}`,
      HOME: dir,
      VAGRANT_HOME: join(dir, 'home'),
      VAGRANT_DOTFILE_PATH: join(dir, 'dotfile'),
      VAGRANT_CHECKPOINT_DISABLE: '1',
      ...env,
    },
  });
  return { status, error, text: `${stdout}${stderr}` };
}

function whyNot(): string | false {
  const { status, text } = vagrant(['plugin', 'list']);
  if (status === 0 && text.includes('vagrant-libvirt')) return false;
  return 'vagrant or vagrant-libvirt is not installed (scripts/setup --test does it on Debian 12)';
}

/** Validates a copy of vagrant/ whose Vagrantfile was changed. */
function validate(
  provider: (typeof PROVIDERS)[number],
  knobs: Readonly<Record<string, string>> = {},
  change = (text: string): string => text,
) {
  const copy = join(dir, 'vagrant');
  rmSync(copy, { recursive: true, force: true });
  cpSync(join(checkout, 'vagrant'), copy, { recursive: true });
  const file = join(copy, 'Vagrantfile');
  writeFileSync(file, change(readFileSync(file, 'utf8')));
  return vagrant(['validate'], { VAGRANT_CWD: copy, VAGRANT_DEFAULT_PROVIDER: provider, ...knobs });
}

const everyKnob = {
  ZEROHOP_BOX: 'own',
  ZEROHOP_DRIVER: 'qemu',
  ZEROHOP_LSM: 'bpf',
  ZEROHOP_CHECKOUT: checkout,
  ZEROHOP_OFFLINE: '1',
  ZEROHOP_CONSOLE_DIR: dir,
  ZEROHOP_CPUS: '1',
  ZEROHOP_MEMORY_MB: '512',
  ZEROHOP_BOOT_TIMEOUT: '60',
};

describe('the Vagrantfile', { skip: whyNot() }, () => {
  for (const provider of PROVIDERS) {
    test(`is valid for ${provider}, as it is and with every knob turned`, () => {
      for (const knobs of [{}, everyKnob]) {
        const { status, text } = validate(provider, knobs);
        assert.equal(status, 0, text);
        assert.match(text, /validated successfully/);
      }
    });

    test(`with a setting that ${provider} does not have is refused`, () => {
      const { status, text } = validate(provider, {}, (file) =>
        file.replace(`${provider}.memory`, `${provider}.nonsense`),
      );
      assert.equal(status, 1, text);
      assert.match(text, /settings shouldn't exist: nonsense/);
    });
  }

  test('has a machine for each distribution', () => {
    const { status, text } = vagrant(['status', '--machine-readable'], {
      VAGRANT_CWD: join(checkout, 'vagrant'),
      VAGRANT_DEFAULT_PROVIDER: 'virtualbox',
    });
    assert.equal(status, 0, text);
    const names = [...text.matchAll(/^\d+,(\w+),state,not_created$/gm)].map(([, name]) => name);
    assert.deepEqual(names, [
      'debian11',
      'debian12',
      'debian13',
      'ubuntu2204',
      'ubuntu2404',
      'rocky9',
    ]);
  });
});
