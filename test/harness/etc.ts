/** An /etc for a test host: programs that are run with it see this one, whatever they write there. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestHost } from './host.ts';

/** What programs of tests read there. */
const KEPT = ['passwd', 'group', 'ld.so.cache', 'alternatives', 'ssl', 'localtime', 'protocols'];

export class Etc {
  readonly dir: string;
  /** Words before a command. */
  readonly wrapper: readonly string[];

  constructor(host: TestHost, resolvConf: string) {
    this.dir = join(host.dir, 'etc');
    mkdirSync(this.dir);
    for (const name of KEPT)
      if (existsSync(`/etc/${name}`))
        cpSync(`/etc/${name}`, join(this.dir, name), { recursive: true, verbatimSymlinks: true });
    this.write('nsswitch.conf', 'hosts: files dns\n');
    this.write('hosts', '127.0.0.1 localhost\n');
    this.write('resolv.conf', resolvConf);
    const script = `mount --bind '${this.dir}' /etc && exec "$@"`;
    this.wrapper = ['unshare', '-m', 'sh', '-c', script, 'sh'];
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.dir, name), text);
  }

  read(name: string): string {
    return readFileSync(join(this.dir, name), 'utf8');
  }
}
