/**
 * What other members of the cluster reach this host at, asked of the agent now and then: the host
 * may come into a cluster, or leave it, while a program runs. Without an answer the last one counts.
 */
import type { ClusterAnswer } from '../../api/cluster-schemas.ts';
import type { ApiClient } from '../../api/io/client.ts';

/** A guess: how long a program may go unseen by others after its host has joined. */
const INTERVAL_MS = 5000;

export function hostAddressesOf(cluster: ClusterAnswer | undefined): readonly string[] {
  return cluster?.member === true ? cluster.reachedAt : [];
}

export class HostWatch {
  readonly #agent: Pick<ApiClient, 'call'>;
  readonly #nowMs: () => number;
  #addresses: readonly string[] = [];
  #askedAtMs = -Infinity;

  /** `nowMs` must not go back. */
  constructor(agent: Pick<ApiClient, 'call'>, nowMs: () => number) {
    this.#agent = agent;
    this.#nowMs = nowMs;
  }

  async look(): Promise<readonly string[]> {
    const nowMs = this.#nowMs();
    if (nowMs - this.#askedAtMs < INTERVAL_MS) return this.#addresses;
    this.#askedAtMs = nowMs;
    try {
      const cluster = await this.#agent.call<ClusterAnswer>('GET', '/v1/cluster');
      this.#addresses = hostAddressesOf(cluster);
    } catch {
      // The agent is away for a moment; registering will tell if it stays away.
    }
    return this.#addresses;
  }
}
