/**
 * What went wrong with the store, told by what to do about it. Nothing was
 * changed when one of these is thrown by commit().
 */
import { ProblemError, type Problem } from '../problem.ts';

export type StoreReason = 'full' | 'read-only' | 'damaged' | 'in-use' | 'missing' | 'newer' | 'io';

export class StoreError extends ProblemError {
  readonly reason: StoreReason;

  constructor(reason: StoreReason, problem: Omit<Problem, 'code'>, cause?: unknown) {
    super([{ code: reason === 'in-use' ? 'conflict' : 'store', ...problem }], { cause });
    this.reason = reason;
  }
}

interface NumberedError extends Error {
  readonly code?: unknown;
  readonly errcode?: unknown;
}

const HINTS: Readonly<Record<Exclude<StoreReason, 'in-use'>, string>> = {
  full: 'free space there; nothing was changed, so the same command can be given again',
  'read-only': 'mount it read-write, or choose another directory with --data',
  damaged:
    'nothing was deleted. Move the files of that directory away, start the agent, and `zerohop apply` what you last exported; the kernel goes on with the last state meanwhile',
  missing: 'create it (mode 0700, owned by root), or choose another one with --data',
  newer: 'start the newer zerohop again, or move the file away and start empty',
  io: 'look for disk errors in `dmesg`; nothing was changed',
};

/** Primary result codes (sqlite.org/rescode.html), the low byte of the extended ones. */
function reasonOf(error: NumberedError): StoreReason {
  if (typeof error.errcode === 'number') {
    switch (error.errcode & 0xff) {
      case 5: // BUSY
      case 6: // LOCKED
        return 'in-use';
      case 8: // READONLY
        return 'read-only';
      case 13: // FULL
        return 'full';
      case 11: // CORRUPT
      case 26: // NOTADB
        return 'damaged';
      default:
        return 'io';
    }
  }
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 'full';
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return 'read-only';
    case 'ENOENT':
    case 'ENOTDIR':
      return 'missing';
    default:
      return 'io';
  }
}

const SENTENCES: Readonly<Record<StoreReason, string>> = {
  full: 'the disk is full',
  'read-only': 'it cannot be written',
  damaged: 'it is damaged',
  'in-use': 'another agent uses it',
  missing: 'it does not exist',
  newer: 'it was written by a newer zerohop',
  io: 'reading or writing it failed',
};

export function storeError(
  reason: StoreReason,
  path: string,
  detail?: string,
  cause?: unknown,
): StoreError {
  const message = `state in ${path}: ${SENTENCES[reason]}${detail === undefined ? '' : ` (${detail})`}`;
  const hint =
    reason === 'in-use'
      ? 'stop it first, or give this one its own --data, --socket and --pin'
      : HINTS[reason];
  return new StoreError(reason, { message, path, hint }, cause);
}

/** Any error of SQLite or the file system, classified. */
export function classify(error: unknown, path: string): StoreError {
  if (error instanceof StoreError) return error;
  if (!(error instanceof Error)) return storeError('io', path, String(error), error);
  return storeError(reasonOf(error), path, error.message, error);
}
