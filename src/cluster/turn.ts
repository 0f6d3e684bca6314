/** Work that one member does for all: the first one, or, where that one does not (a full disk), the next. */

/** By how many looks each member is later than the one before it: of the agent's, a minute. A guess. */
const LOOKS_A_RANK = 12;

export class Turn {
  readonly #looksARank: number;
  #looks = 0;

  constructor(looksARank = LOOKS_A_RANK) {
    this.#looksARank = looksARank;
  }

  /** At each look: whether the work is this member's. Two that do it at once do no harm. */
  isMine(isDue: boolean, rank: number): boolean {
    this.#looks = isDue ? this.#looks + 1 : 0;
    if (this.#looks <= rank * this.#looksARank) return false;
    this.#looks = 0;
    return true;
  }
}
