/**
 * Which backends this host looks at: those of its own programs, and those of nobody at an address
 * that is its own. TCP only: whether somebody reads a UDP port shows in no way that would hold.
 */
import { endpointText, isLoopback } from '../catalog/context.ts';
import type { StateSnapshot } from '../state/records.ts';
import type { Listening } from './listening.ts';

export interface Endpoint {
  /** endpointText() */
  readonly key: string;
  readonly address: string;
  readonly port: number;
  /** An address of this host. What its programs are registered at may be another: behind NAT, or a container's. */
  readonly isHere: boolean;
  /** Means the same on other hosts: no loopback address. */
  readonly isForAll: boolean;
}

/** `addresses`: this host's, canonical, without loopback. */
export function endpointsOf(
  { services, backends }: StateSnapshot,
  self: string,
  addresses: ReadonlySet<string>,
): Map<string, Endpoint> {
  const found = new Map<string, Endpoint>();
  for (const [name, list] of backends) {
    for (const { node, address, port, portName } of list) {
      const isLocal = isLoopback(address);
      const isHere = isLocal || addresses.has(address);
      if (node === undefined ? !isHere : node !== self) continue;
      const serves = services.get(name)?.ports.find((one) => one.name === portName);
      if (serves?.protocol !== 'tcp') continue;
      const key = endpointText(address, port, 'tcp');
      found.set(key, { key, address, port, isHere, isForAll: !isLocal });
    }
  }
  return found;
}

/** Those of `endpoints` that were not found yet, while `listening` grows. */
export class Missing {
  readonly #left: Endpoint[];
  readonly #listening: Listening;

  constructor(endpoints: Iterable<Endpoint>, listening: Listening) {
    this.#left = [...endpoints];
    this.#listening = listening;
  }

  /** Costs nothing but for those that were found since. */
  get isNone(): boolean {
    for (let last = this.#left.at(-1); last !== undefined; last = this.#left.at(-1)) {
      if (!isListenedAt(last, this.#listening)) return false;
      this.#left.pop();
    }
    return true;
  }
}

/** At an address that is not this host's, any listener at the port may be the one behind it. */
export function isListenedAt({ address, port, isHere }: Endpoint, listening: Listening): boolean {
  return isHere ? listening.serves(address, port) : listening.isTaken(port);
}
