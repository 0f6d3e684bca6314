/** What is to be done to point this host at us, or back: found out first, so that it can be shown. */

export type InstallMethod = 'resolved' | 'openresolv' | 'resolvconf' | 'resolv.conf';

export interface Plan {
  readonly method: InstallMethod;
  readonly edits: readonly Edit[];
  /** Run after the edits, if there are any. */
  readonly command?: readonly string[];
  readonly warnings?: readonly string[];
  /** Looks at what came of it, with warnings; rejects where that was bad and is taken back. */
  readonly check?: () => Promise<readonly string[]>;
}

export interface Edit {
  /** In words: `/etc/resolv.conf: 127.0.0.55 goes first`. */
  readonly step: string;
  readonly apply: () => void;
}
