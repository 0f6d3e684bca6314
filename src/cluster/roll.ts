/**
 * Who is in the cluster by what the state says: nodes with a document, nodes that are gone for good,
 * certificates that count no more. Reads the replica and keeps liveness and revocations up to it;
 * never writes and never asks the time.
 */
import type { Peer } from '../hyparview-ts/index.ts';
import { documentOf, SHARED, type Changed, type Replica } from '../state/replica/replica.ts';
import { NODE_KEY, readNode, type NodeRecord } from '../state/replica/schema.ts';
import {
  goneNode,
  isDepartureKey,
  readDeparture,
  type Departure,
  type Gone,
  type SharedWrite,
  type WhyGone,
  writeGone,
} from './departures.ts';
import type { Liveness } from './liveness.ts';
import type { Revocations } from './revocation.ts';
import { peerOf } from './sign-wire.ts';

export interface RollOptions {
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly revocations: Revocations;
}

/** What followed from changes of the state. */
export interface Followed {
  /** Nodes that are now known to be gone for good; their documents are to be forgotten. */
  readonly gone: readonly string[];
  /** There are new revocations: they are to be enforced. */
  readonly isRevocation: boolean;
  readonly isReachability: boolean;
}

const NODE_DOCUMENT = documentOf('');
/** knownPeers of the overlay remembers as many. */
const KNOWN_MAX = 256;

export class Roll {
  readonly #replica: Replica;
  readonly #liveness: Liveness;
  readonly #revocations: Revocations;
  readonly #gone = new Map<string, Gone>();
  readonly #documents = new Set<string>();

  constructor({ replica, liveness, revocations }: RollOptions) {
    this.#replica = replica;
    this.#liveness = liveness;
    this.#revocations = revocations;
  }

  isGone(id: string): boolean {
    return this.#gone.has(id);
  }

  /** WhyGone, or what a newer version calls it. */
  whyGone(id: string): string | undefined {
    return this.#gone.get(id)?.why;
  }

  /** Nodes that are gone for good, with the addresses that they had. */
  get gone(): ReadonlyMap<string, Gone> {
    return this.#gone;
  }

  /** Whether a document is one to have. */
  isWelcome(document: string): boolean {
    const node = nodeOf(document);
    return node === undefined || node === this.#replica.node || !this.#gone.has(node);
  }

  record(id: string): NodeRecord | undefined {
    const json = this.#replica.get(documentOf(id), NODE_KEY);
    return json === undefined ? undefined : readNode(json);
  }

  /** That a node is gone for good from now on; of one that is so already, the document is not here any more. */
  goneWrite(node: string, said: Pick<Gone, 'at'> & { why: WhyGone; atMs: number }): SharedWrite {
    const before = this.#gone.get(node);
    const { addresses } = this.record(node) ?? before ?? { addresses: [] };
    const known = this.#replica.writersOf(documentOf(node));
    const writers = [...new Set([...(before?.writers ?? []), ...known])];
    return writeGone(node, { ...said, addresses, writers, more: before?.more });
  }

  /** To begin with: who was known in the run before, then who has a record. One may still be there. */
  known(remembered: readonly Peer[]): Peer[] {
    const known = new Map<string, Peer>();
    for (const peer of [...remembered, ...this.#peers().map((one) => one.peer)]) {
      const isOther = peer.id !== this.#replica.node && !this.#gone.has(peer.id);
      if (isOther && known.size < KNOWN_MAX && !known.has(peer.id)) known.set(peer.id, peer);
    }
    return [...known.values()];
  }

  /** Who says that it has the CA's key, without those that are not there; undefined: nobody does. */
  signers(unreachable: ReadonlySet<string>): Peer[] | undefined {
    const signers = this.#peers().flatMap(({ peer, signer }) => (signer ? [peer] : []));
    const there = signers.filter(({ id }) => !unreachable.has(id));
    if (there.length > 0) return there;
    return signers.length > 0 ? signers : undefined;
  }

  /** Other nodes that have a record. */
  others(): { readonly id: string; readonly record: NodeRecord }[] {
    return this.#replica.documents().flatMap((document) => {
      const id = nodeOf(document);
      if (id === undefined || id === this.#replica.node || this.#gone.has(id)) return [];
      const record = this.record(id);
      return record === undefined ? [] : [{ id, record }];
    });
  }

  /** As they can be dialled. */
  #peers(): { readonly peer: Peer; readonly signer: boolean }[] {
    return this.others().flatMap(({ id, record }) => {
      const peer = dialled(id, record);
      return peer === undefined ? [] : [{ peer, signer: record.signer }];
    });
  }

  /** All that the replica holds. */
  begin(nowMs: number): Followed {
    const departures: Departure[] = [];
    for (const { key } of this.#replica.winners(SHARED)) {
      if (!isDepartureKey(key)) continue;
      const departure = readDeparture(key, this.#replica.get(SHARED, key));
      if (departure !== undefined) departures.push(departure);
    }
    for (const document of this.#replica.documents()) this.#meet(document, nowMs);
    return this.#depart(departures);
  }

  follow(changed: readonly Changed[], nowMs: number): Followed {
    const departures: Departure[] = [];
    let isForgotten = false;
    for (const { document, key, after } of changed) {
      if (document !== SHARED) this.#meet(document, nowMs);
      else if (isDepartureKey(key)) {
        const departure = readDeparture(key, after);
        if (departure !== undefined) departures.push(departure);
        else if (after === undefined) isForgotten = this.#forget(key) || isForgotten;
      }
    }
    const followed = this.#depart(departures);
    return { ...followed, isReachability: followed.isReachability || isForgotten };
  }

  /** That somebody is gone is not said any more: it was long ago. */
  #forget(key: string): boolean {
    const node = goneNode(key);
    return node !== undefined && this.#gone.delete(node);
  }

  #meet(document: string, nowMs: number): void {
    if (this.#documents.has(document)) return;
    const node = nodeOf(document);
    if (node === undefined || this.#gone.has(node)) return;
    this.#documents.add(document);
    this.#liveness.known(node, nowMs);
  }

  #depart(departures: readonly Departure[]): Followed {
    const gone: string[] = [];
    let isRevocation = false;
    let isReachability = false;
    for (const departure of departures) {
      if (departure.type === 'revoked') {
        isRevocation = this.#revocations.add(departure.revocation) || isRevocation;
        continue;
      }
      const { node, addresses } = departure;
      const before = this.#gone.get(node);
      if (before === undefined) gone.push(node);
      else isReachability ||= before.addresses.join() !== addresses.join();
      this.#gone.set(node, departure);
      this.#documents.delete(documentOf(node));
      isReachability = this.#liveness.forget(node) || isReachability;
    }
    return { gone, isRevocation, isReachability };
  }
}

function nodeOf(document: string): string | undefined {
  return document.startsWith(NODE_DOCUMENT) ? document.slice(NODE_DOCUMENT.length) : undefined;
}

/** undefined for what cannot be spoken of in the overlay: others wrote it. */
function dialled(id: string, { address, zone }: NodeRecord): Peer | undefined {
  try {
    return peerOf({ id, address, zone });
  } catch {
    return undefined;
  }
}
