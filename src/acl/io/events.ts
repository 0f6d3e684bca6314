/**
 * The log of verdicts: drains the ring buffer on a timer (the kernel side never
 * wakes anybody), keeps the last ones, and hands them to followers. A flood is
 * cut in the kernel, where it is counted, and never slows anything here by more
 * than one tick's records.
 */
import { readFileSync } from 'node:fs';
import { decodeEvent } from '../abi.ts';
import type { AclLogEntry, EventNames } from '../event.ts';
import { logEntry } from '../event.ts';

/** As issue 3 wants it: a verdict is seen within 50 ms. */
const tickMs = 50;

/** Kept for `acl log`; about 1 KB each. A guess. */
const entriesMax = 4096;

/** Whoever asked to follow. */
export interface Follower {
  entry(entry: AclLogEntry): void;
  /** That the kernel dropped `count` records since the last call. */
  dropped(count: number): void;
}

/** Where the records are: zh_acl_events and zh_acl_counts. */
export interface EventSource {
  /** Hands every record that is there to `visit`, one tick's worth at most. */
  drain(visit: (record: Uint8Array) => void): void;
  /** Records that found the buffer full, since the maps were made. */
  dropped(): number;
}

export interface LogSnapshot {
  readonly entries: readonly AclLogEntry[];
  /** Seen by this agent since it started. */
  readonly seen: number;
  /** Lost in the kernel since the maps were made. */
  readonly dropped: number;
}

/** Of the wall clock, at boot: events carry CLOCK_BOOTTIME, which Node does not have. */
function bootTimeMs(): number {
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  return Date.now() - uptime * 1000;
}

export class AclLog {
  readonly #source: EventSource;
  readonly #names: EventNames;
  readonly #followers = new Set<Follower>();
  /** A ring: the oldest is at #next once it is full. */
  readonly #entries: AclLogEntry[] = [];
  #next = 0;
  #seen = 0;
  #droppedTold: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: EventSource, names: EventNames) {
    this.#source = source;
    this.#names = names;
    this.#droppedTold = source.dropped();
  }

  /** Idle hosts are not woken twenty times a second: only while there are rules. */
  run(wanted: boolean): void {
    if (!wanted) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    this.#timer ??= setInterval(() => this.drain(), tickMs).unref();
  }

  /** Takes over what the kernel has reported so far. */
  drain(): void {
    let boot: number | undefined;
    this.#source.drain((record) => {
      boot ??= bootTimeMs();
      const event = decodeEvent(record);
      const time = new Date(boot + Number(event.bootNs / 1_000_000n)).toISOString();
      this.#add(logEntry(event, time, this.#names));
    });
    if (boot !== undefined) this.#tellDropped();
  }

  /** The last `count` that `wanted` likes, oldest first. */
  last(count: number, wanted: (entry: AclLogEntry) => boolean): LogSnapshot {
    const ordered = [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)];
    return {
      entries: ordered.filter(wanted).slice(-count),
      seen: this.#seen,
      dropped: this.#source.dropped(),
    };
  }

  /** From now on; the answer ends it. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }

  #add(entry: AclLogEntry): void {
    this.#seen++;
    this.#entries[this.#next] = entry;
    this.#next = (this.#next + 1) % entriesMax;
    for (const follower of this.#followers) follower.entry(entry);
  }

  #tellDropped(): void {
    const dropped = this.#source.dropped();
    const more = dropped - this.#droppedTold;
    this.#droppedTold = dropped;
    if (more > 0) for (const follower of this.#followers) follower.dropped(more);
  }
}
