/**
 * Gets this node's next certificate in time: at two thirds of its life, from any
 * signer, with a new key; on a signer from itself. What fails is tried again
 * until the end, with another signer first.
 */
import { ProblemError } from '../../state/problem.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import { NODE_VALIDITY_MS, renewAtMs, retryAfterMs, validityFrom } from '../lifetime.ts';
import type { Authority } from './certificates.ts';
import type { Clock } from './clock.ts';
import { identityOf, type Identity } from './identity.ts';
import { renewIdentity } from './joining.ts';
import { SILENT, type ClusterLog } from './log.ts';

export interface RotationOptions {
  readonly clock: Clock;
  readonly unit: () => number;
  readonly identity: Identity;
  /** Members that may have the CA's key; asked one after the other. */
  readonly signers: () => readonly Peer[];
  /** undefined where this node has not the CA's key. */
  readonly authority: () => Authority | undefined;
  /** To disk (vault.ts) and then to the transport. What it throws counts as a failure. */
  readonly adopt: (identity: Identity) => void;
  readonly validityMs?: number;
  readonly log?: ClusterLog;
}

/** The wall clock may jump, and timers stand still while a host sleeps: it is looked at this often. */
const LOOK_MS = 60_000;

export class Rotation {
  readonly #options: RotationOptions;
  readonly #log: ClusterLog;
  #identity: Identity;
  #dueAtMs: number;
  #stopTimer: (() => void) | undefined;
  #stopped = false;

  constructor(options: RotationOptions) {
    this.#options = options;
    this.#log = options.log ?? SILENT;
    this.#identity = options.identity;
    this.#dueAtMs = renewAtMs(options.identity, options.unit());
  }

  get identity(): Identity {
    return this.#identity;
  }

  get dueAtMs(): number {
    return this.#dueAtMs;
  }

  start(): void {
    const { clock } = this.#options;
    if (this.#stopped) return;
    const leftMs = this.#dueAtMs - clock.wallMs();
    if (leftMs <= 0) void this.#renew();
    else this.#stopTimer = clock.after(Math.min(leftMs, LOOK_MS), () => this.start());
  }

  stop(): void {
    this.#stopped = true;
    this.#stopTimer?.();
  }

  /** Rejects with ProblemError when no signer would. */
  async renewNow(): Promise<Identity> {
    const next = await this.#next();
    if (this.#stopped) return this.#identity;
    this.#options.adopt(next);
    this.#identity = next;
    this.#dueAtMs = renewAtMs(next, this.#options.unit());
    const { serial, notAfterMs } = next;
    this.#log.info({ serial, until: new Date(notAfterMs).toISOString() }, 'new certificate');
    return next;
  }

  async #renew(): Promise<void> {
    const { clock, unit } = this.#options;
    try {
      await this.renewNow();
    } catch (error) {
      const nowMs = clock.wallMs();
      this.#dueAtMs = nowMs + retryAfterMs(this.#identity, nowMs, unit());
      const why = error instanceof Error ? error.message : String(error);
      this.#tellFailure(why, this.#identity.notAfterMs - nowMs);
    }
    this.start();
  }

  #tellFailure(why: string, leftMs: number): void {
    if (leftMs > 0) {
      const leftHours = Math.round(leftMs / 3_600_000);
      this.#log.warn({ why, leftHours }, 'the certificate could not be renewed; it is tried again');
      return;
    }
    const endedAt = new Date(this.#identity.notAfterMs).toISOString();
    this.#log.warn(
      { why, endedAt },
      "this host's certificate has ended: leave, and join with a new token (or put the clock right)",
    );
  }

  async #next(): Promise<Identity> {
    const authority = this.#options.authority();
    if (authority !== undefined) return await this.#signOwn(authority);
    const { clock, unit } = this.#options;
    const signers = shuffled(this.#options.signers(), unit);
    const failures: string[] = [];
    for (const peer of signers) {
      try {
        // One after the other: the next is asked only when this one would not.
        return (await renewIdentity(this.#identity, peer, clock, unit)).identity;
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    const message = `no node would renew the certificate: ${failures.join('; ') || 'none is known'}`;
    const hint = 'start a node that has the CA key of the cluster, or join again with a new token';
    throw new ProblemError([{ code: 'unavailable', message, hint }]);
  }

  async #signOwn(authority: Authority): Promise<Identity> {
    const { createRequest, signRequest } = await import('./certificates.ts');
    const { clock, validityMs } = this.#options;
    const { keyPem, request } = await createRequest();
    const validity = validityFrom(clock.wallMs(), validityMs ?? NODE_VALIDITY_MS);
    const certPem = await signRequest(authority, request, this.#identity, validity);
    return identityOf(keyPem, certPem, authority.certPem, 'the new certificate');
  }
}

function shuffled(peers: readonly Peer[], unit: () => number): Peer[] {
  return peers
    .map((peer) => ({ peer, at: unit() }))
    .sort((a, b) => a.at - b.at)
    .map(({ peer }) => peer);
}
