/** A wall clock of its own for an agent, by libfaketime: ahead, behind, jumping. Monotonic time stays. */
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestHost } from './host.ts';

export class FakeClock {
  readonly #file: string;
  /** For agent.start(). */
  readonly env: NodeJS.ProcessEnv;

  /** `ahead`: seconds; negative: behind. */
  constructor(host: TestHost, ahead: number) {
    const [library] = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1');
    if (library === undefined)
      throw new Error('libfaketime is not installed: scripts/setup --test installs it');
    this.#file = join(host.dir, 'clock');
    this.set(ahead);
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    };
  }

  /** From now on; a jump for who reads it. */
  set(ahead: number): void {
    writeFileSync(this.#file, `${ahead < 0 ? '' : '+'}${ahead}s\n`);
  }
}
