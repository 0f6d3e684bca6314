/**
 * A question and a zone → an answer, or that it is not ours.
 */
import type { Query } from './query.ts';
import type { Zone } from './zone.ts';

export { refusal } from './packet.ts';

export interface ResolveOptions {
  readonly transport: 'udp' | 'tcp';
  readonly udpSizeMax: number;
  /** From 0, below 1. */
  random(): number;
  /** The address that was asked. */
  readonly server: string;
  readonly isRecursionAllowed: boolean;
}

export type Resolved =
  | {
      readonly kind: 'answer';
      readonly bytes: Uint8Array;
      /** With the upper bits of EDNS: BADVERS is 16. */
      readonly rcode: number;
      /** A name that is not ours, which a CNAME in the answer leads to: what is known of it can be added with withTarget(). */
      readonly target?: string;
    }
  /** Not ours. Where recursion is not allowed: refusal(query, RCODE.REFUSED). */
  | { readonly kind: 'forward' };

/** Never throws. */
export function resolve(_zone: Zone, _query: Query, _options: ResolveOptions): Resolved {
  throw new Error('not made yet');
}
