/**
 * How much a replica takes from others, and lets itself be asked to hold. What is over a limit is
 * refused as a whole, with the limit's name. The numbers are guesses with room above 10,000
 * services × 10 backends on 1,000 nodes.
 */

export interface ReplicaLimits {
  /** A change of a document, as broadcast or as an answer to a state vector. */
  readonly updateBytesMax: number;
  /** A whole document. */
  readonly snapshotBytesMax: number;
  /** One entry: its key, its stamp and its value as JSON, in UTF-16 units. */
  readonly cellCharsMax: number;
  readonly keyCharsMax: number;
  readonly entriesPerDocumentMax: number;
  /** Data directories that ever wrote to a document, in one epoch of it. */
  readonly writersPerDocumentMax: number;
  readonly documentsMax: number;
  /** Changes that came before those they build on, in memory for each document; a small one counts as 128. */
  readonly pendingBytesMax: number;
  readonly writesPerTransactionMax: number;
}

export const LIMITS: ReplicaLimits = {
  updateBytesMax: 16 * 1024 * 1024,
  snapshotBytesMax: 256 * 1024 * 1024,
  cellCharsMax: 64 * 1024,
  keyCharsMax: 1024,
  entriesPerDocumentMax: 1_000_000,
  writersPerDocumentMax: 65_536,
  documentsMax: 16_384,
  pendingBytesMax: 4 * 1024 * 1024,
  writesPerTransactionMax: 250_000,
};
