/**
 * The CA's key as this host has it. Signing reads it from the disk each time; whether it is there is
 * asked far more often, and answered from the last reading. A key that cannot be used is told of, and
 * ends no member.
 */
import { whyText } from '../../state/problem.ts';
import type { Authority } from './certificates.ts';
import type { ClusterLog } from './log.ts';
import type { Vault } from './vault.ts';

export class SigningKey {
  readonly #vault: Pick<Vault, 'authority'>;
  readonly #log: ClusterLog;
  #isThere = false;
  #problem: string | undefined;

  constructor(vault: Pick<Vault, 'authority'>, log: ClusterLog) {
    this.#vault = vault;
    this.#log = log;
    this.look();
  }

  get isThere(): boolean {
    return this.#isThere;
  }

  /** Why it cannot be used, and what to do about it. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** undefined on hosts that have none. Throws ProblemError on one that cannot be used. */
  read(): Authority | undefined {
    this.#isThere = false;
    try {
      const authority = this.#vault.authority();
      this.#isThere = authority !== undefined;
      this.#problem = undefined;
      return authority;
    } catch (error) {
      const problem = whyText(error);
      if (problem !== this.#problem) this.#log.warn({ problem }, 'the CA key cannot be used');
      this.#problem = problem;
      throw error;
    }
  }

  look(): void {
    try {
      this.read();
    } catch {
      // Told above.
    }
  }
}
