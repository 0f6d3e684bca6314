/**
 * The pin folder: maps/, links/ and programs/ below a bpffs directory. While anything is
 * pinned there the kernel goes on with it, agent or not.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { ProblemError } from '../../state/problem.ts';

const BPF_FS_MAGIC = 0xcafe4a11;

/** Prefix of pins that are being replaced; a crash may leave one. */
const fresh = 'new-';

export class Pins {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  map(name: string): string {
    return join(this.dir, 'maps', name);
  }

  freshMap(name: string): string {
    return join(this.dir, 'maps', fresh + name);
  }

  link(hook: string): string {
    return join(this.dir, 'links', hook);
  }

  freshLink(hook: string): string {
    return join(this.dir, 'links', fresh + hook);
  }

  /** What a link runs, so that the next agent can tell whether it would run the same. */
  program(hook: string): string {
    return join(this.dir, 'programs', hook);
  }

  /** The settings that the pinned programs share. */
  get settings(): string {
    return join(this.dir, 'programs', 'settings');
  }

  /** The settings of a program that is attached by itself. */
  settingsOf(hook: string): string {
    return join(this.dir, 'programs', `settings_${hook}`);
  }

  get exist(): boolean {
    return existsSync(this.map('zh_meta'));
  }

  /** Makes the folders, or says why it cannot be: bpffs missing, read-only. */
  prepare(): void {
    const base = nearest(this.dir);
    if (statfsSync(base).type !== BPF_FS_MAGIC) {
      throw new ProblemError([
        {
          code: 'unavailable',
          message: `${this.dir} is not on a BPF file system (bpffs)`,
          path: 'pinDir',
          hint: 'mount one: mount -t bpf bpf /sys/fs/bpf, or set pinDir (--pin) to a folder on a mounted one',
        },
      ]);
    }
    try {
      for (const folder of ['maps', 'links', 'programs']) {
        mkdirSync(join(this.dir, folder), { recursive: true, mode: 0o700 });
      }
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new ProblemError(
        [
          {
            code: 'unavailable',
            message: `the pin folder ${this.dir} cannot be written: ${why}`,
            path: 'pinDir',
          },
        ],
        { cause: error },
      );
    }
  }

  /** Removes what a killed agent was about to pin. Only under the lock: a living one pins so too. */
  sweep(): void {
    for (const folder of ['maps', 'links']) {
      for (const name of readdirSync(join(this.dir, folder))) {
        if (name.startsWith(fresh)) unlinkSync(join(this.dir, folder, name));
      }
    }
  }

  /** Makes the fresh pin the pin, in one step. */
  settle(name: string): void {
    renameSync(this.freshMap(name), this.map(name));
  }

  /** Detaches and forgets everything: the programs end with their last reference. */
  remove(): void {
    // Links first: programs must not outlive the maps' names by much.
    rmSync(join(this.dir, 'links'), { recursive: true, force: true });
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function nearest(path: string): string {
  let at = path;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}
