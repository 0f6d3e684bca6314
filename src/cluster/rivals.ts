// Which of two connections between the same two nodes stays. Both ends decide alike, without asking each other: among
// two that were dialled at the same time, the one that the node with the lower id dialled. The other one is not cut: it
// is emptied in both directions first.

export interface Established {
  readonly connection: string;
  /** The process at the other end. */
  readonly instance: string;
  readonly dialledBy: 'self' | 'peer';
}

export interface Arriving {
  readonly connection: string;
  readonly instance: string;
  readonly after: string;
}

/** For the end that was dialled: whether `arriving` takes the place of `current`. */
export function arrivingWins(
  self: string,
  peer: string,
  current: Established,
  arriving: Arriving,
): boolean {
  // It is another process by now: what was open before leads nowhere.
  if (current.instance !== arriving.instance) return true;
  // A node has one dial to a peer at a time: a second one means that it lost the first.
  if (current.dialledBy === 'peer') return true;
  // It knew of ours and dials all the same: it lost it.
  if (arriving.after === current.connection) return true;
  return peer < self;
}

/** For the end that dialled and is welcome: whether its own connection takes the place of `current`. */
export function ownWins(
  self: string,
  peer: string,
  current: Established,
  welcomedBy: string,
): boolean {
  if (current.instance !== welcomedBy) return true;
  return current.dialledBy === 'self' || self < peer;
}
