/**
 * Keeps the agent's idea of one program's backends equal to what the program
 * listens on. Failures are told once and tried again: the program matters more.
 */
import { step, type ApiClient } from '../../api/io/client.ts';
import { formatEndpoint } from '../../net/ip.ts';
import type { BackendOwner } from '../../state/records.ts';
import { samePlacement, type Placement } from '../place.ts';

export interface RegistrationOptions {
  readonly agent: ApiClient;
  readonly service: string;
  readonly owner: BackendOwner;
  readonly weight: number | undefined;
  readonly tell: (text: string) => void;
}

export class Registration {
  readonly #options: RegistrationOptions;
  readonly #told = new Set<string>();
  #placements: readonly Placement[] = [];

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#placements.length;
  }

  tellOnce(text: string): void {
    if (this.#told.has(text)) return;
    this.#told.add(text);
    this.#options.tell(text);
  }

  #path(placement: Placement): string {
    const endpoint = formatEndpoint(placement.address, placement.port);
    return `/v1/services/${step(this.#options.service)}/backends/${step(endpoint)}`;
  }

  /** Registers what is new and removes what is gone. */
  async update(wanted: readonly Placement[]): Promise<void> {
    const { agent, service, owner, weight } = this.#options;
    for (const placement of wanted) {
      if (this.#placements.some((one) => samePlacement(one, placement))) continue;
      const endpoint = formatEndpoint(placement.address, placement.port);
      try {
        const query = { portName: placement.portName };
        await agent.call('PUT', this.#path(placement), query, { weight, owner });
        this.#placements = [...this.#placements, placement];
        this.#options.tell(`${endpoint} serves ${service}:${placement.portName}`);
      } catch (error) {
        this.tellOnce(`${endpoint} is not registered: ${messageOf(error)}`);
      }
    }
    const gone = this.#placements.filter(
      (one) => !wanted.some((other) => samePlacement(one, other)),
    );
    for (const placement of gone) await this.#remove(placement);
  }

  /** No new connections, before the program is told to stop. */
  async drain(): Promise<void> {
    await Promise.all(
      this.#placements.map((placement) =>
        this.#options.agent
          .call(
            'PATCH',
            this.#path(placement),
            { portName: placement.portName },
            { state: 'draining' },
          )
          .catch((error: unknown) => this.tellOnce(`not drained: ${messageOf(error)}`)),
      ),
    );
  }

  async removeAll(): Promise<void> {
    for (const placement of this.#placements) await this.#remove(placement);
  }

  async #remove(placement: Placement): Promise<void> {
    const { agent, owner } = this.#options;
    this.#placements = this.#placements.filter((one) => !samePlacement(one, placement));
    try {
      await agent.call('DELETE', this.#path(placement), {
        portName: placement.portName,
        ownerPid: owner.pid,
        ownerStartTicks: owner.startTicks,
        ownerBootId: owner.bootId,
      });
    } catch (error) {
      // The agent removes it by itself once it sees that the owner is gone.
      this.tellOnce(`not removed yet: ${messageOf(error)}`);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
