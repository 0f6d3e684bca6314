/**
 * What this host says of itself to the others: the address to dial, and the record in its own
 * document. Looks at its interfaces each time; writes nothing itself.
 */
import { networkInterfaces } from 'node:os';
import { DNS_LINK } from '../../net/own-link.ts';
import type { Write } from '../../state/replica/replica.ts';
import { NODE_KEY, writeNode } from '../../state/replica/schema.ts';
import { formatAddress, type HostPort } from '../address.ts';
import { advertisedAddress, hostAddresses, reachedAt, type Interface } from '../advertise.ts';
import type { MemberOptions } from './member-options.ts';
import type { SigningKey } from './signing-key.ts';

export class Self {
  readonly #options: MemberOptions;
  readonly #key: SigningKey;

  constructor(options: MemberOptions, key: SigningKey) {
    this.#options = options;
    this.#key = key;
  }

  /** Throws ProblemError on a setting that names no address. */
  advertised(bound: HostPort): string {
    const { settings, log } = this.#options;
    const chosen = advertisedAddress(settings.advertise, bound, this.#interfaces());
    if (chosen !== undefined) return chosen;
    const host = bound.host.includes(':') ? '::1' : '127.0.0.1';
    log.warn(
      { listen: formatAddress(bound) },
      'no address of this host can be dialled by others: set cluster.advertise',
    );
    return formatAddress({ host, port: bound.port });
  }

  /** Addresses of this host, one of each family at most. */
  reachedAt(address: string): string[] {
    return reachedAt(address, this.#interfaces());
  }

  /** The record, if it is another one than what is written. */
  write(address: string): Write | undefined {
    const { state, settings, software } = this.#options;
    const { replica } = state;
    const before = replica.get(replica.own, NODE_KEY);
    const record = {
      name: settings.name,
      zone: settings.zone,
      version: software,
      address,
      addresses: hostAddresses(this.#interfaces()),
      signer: this.#key.isThere,
      vips: settings.vips,
    };
    const value = writeNode(record, before);
    return value === before ? undefined : { document: 'own', key: NODE_KEY, value };
  }

  #interfaces(): readonly Interface[] {
    const { interfaces = interfacesOfHost } = this.#options;
    return interfaces();
  }
}

/** Without the resolver's own link: every host has the same addresses there. */
export function interfacesOfHost(): Interface[] {
  const all = Object.entries(networkInterfaces()).filter(([name]) => name !== DNS_LINK);
  return all.flatMap(([name, addresses = []]) =>
    addresses.map(({ address, internal }) => ({ name, address, internal })),
  );
}
