/**
 * An /etc and a /run for `zerohop dns install`, that are mounted over the host's for each command;
 * and what hosts have there.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child, testEnvironment } from '../../harness/child.ts';

const PROGRAM = fileURLToPath(new URL('../children/dns-install.ts', import.meta.url));
export const OURS = '127.0.0.55';

interface Report {
  readonly methods?: readonly string[];
  readonly steps?: readonly string[];
  readonly warnings?: readonly string[];
  readonly problems?: readonly { readonly message: string; readonly hint?: string }[];
  readonly installed: { readonly methods: readonly string[]; readonly problem?: string };
  readonly upstreams: readonly string[];
}

/** A tree whose `etc` and `run` are mounted over the host's for each command. */
export class Tree {
  readonly root = mkdtempSync(join(tmpdir(), 'zh-install-'));

  constructor(t: TestContext, files: Readonly<Record<string, string>>) {
    t.after(() => rmSync(this.root, { recursive: true, force: true }));
    for (const dir of ['etc', 'run', 'bin', 'log']) mkdirSync(join(this.root, dir));
    // What the programs that it runs would do is mostly not the matter here: that they are run, and after the files.
    for (const name of ['systemctl', 'resolvconf'])
      this.write(`bin/${name}`, `#!/bin/sh\necho "${name} $*" >>${this.root}/log/commands\n`);
    for (const [path, text] of Object.entries(files)) this.write(path, text);
  }

  at(path: string): string {
    return join(this.root, path);
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(this.at(path)), { recursive: true });
    writeFileSync(this.at(path), text);
    if (path.startsWith('bin/')) chmodSync(this.at(path), 0o755);
  }

  read(path: string): string {
    return readFileSync(this.at(path), 'utf8');
  }

  link(path: string, target: string): void {
    symlinkSync(target, this.at(path));
  }

  unlink(path: string): void {
    unlinkSync(this.at(path));
  }

  get commands(): string[] {
    if (!existsSync(this.at('log/commands'))) return [];
    return this.read('log/commands').trim().split('\n');
  }

  /** All that is in etc: paths, kinds, modes and contents. */
  etc(): Record<string, string> {
    const seen: Record<string, string> = {};
    for (const entry of readdirSync(this.at('etc'), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      const name = path.slice(this.root.length + 1);
      if (entry.isDirectory()) continue;
      const { mode } = lstatSync(path);
      seen[name] = entry.isSymbolicLink()
        ? `-> ${readlinkSync(path)}`
        : `${(mode & 0o7777).toString(8)} ${readFileSync(path, 'utf8')}`;
    }
    return seen;
  }

  async run(what: string, options: object = {}, mounts = ''): Promise<Report> {
    const script = `set -e
      mount --bind ${this.root}/etc /etc
      mount --bind ${this.root}/run /run
      ${mounts}
      exec "$@"`;
    const node = [process.execPath, PROGRAM, what, JSON.stringify(options)];
    const env = testEnvironment({ PATH: `${this.root}/bin:${process.env['PATH'] ?? ''}` });
    const child = new Child(['unshare', '-m', 'sh', '-c', script, 'sh', ...node], {
      env,
      input: '',
    });
    const { code, stdout, stderr } = await child.result();
    assert.equal(code, 0, stderr + stdout);
    return JSON.parse(stdout) as Report;
  }
}

export const PLAIN = `# by hand
search corp.example
nameserver 192.0.2.1
nameserver 192.0.2.2
options ndots:2`;

/** Our lines, with the hash as it is. */
export function ours(text: string): string {
  return text.replace(/(# zerohop: begin) [0-9a-f]{16} /, '$1 HASH ');
}

export const BLOCK = `# zerohop: begin HASH (\`zerohop dns uninstall\` removes these lines)
nameserver 127.0.0.55
options timeout:1 attempts:2
# zerohop: end
`;

export const STUB_TEXT = 'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n';
const RESOLVED = {
  'run/systemd/resolve/stub-resolv.conf': STUB_TEXT,
  'run/systemd/resolve/resolv.conf': `nameserver ${OURS}\nnameserver 192.0.2.5\n`,
};
export const DROP_IN = 'etc/systemd/resolved.conf.d/zerohop.conf';
export const RESTARTED = 'systemctl try-reload-or-restart systemd-resolved.service';

export function withResolved(t: TestContext, files: Readonly<Record<string, string>> = {}): Tree {
  const tree = new Tree(t, { ...RESOLVED, ...files });
  tree.link('etc/resolv.conf', '../run/systemd/resolve/stub-resolv.conf');
  return tree;
}
