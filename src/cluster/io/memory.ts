/**
 * What a node remembers of its cluster from one run to the next, in DATA/cluster/overlay.json: how
 * often it lived, whom it knew, and who was not there. Replaced as a whole, 0600 (files.ts).
 *
 * It is a memory and no truth: a file that is missing, torn or of another zerohop is begun afresh,
 * and a disk that refuses it stops nobody.
 */
import { join } from 'node:path';
import { LIMITS, type Peer } from '../../hyparview-ts/index.ts';
import type { Remembered } from '../liveness.ts';
import { peerOf } from '../sign-wire.ts';
import type { Clock } from './clock.ts';
import { readSecret, removeSecret, secretDirectory, writeSecret } from './files.ts';
import type { ClusterLog } from './log.ts';

export interface Memories {
  readonly known: readonly Peer[];
  readonly absent: readonly Remembered[];
}

const NOTHING = { incarnation: 0, known: [], absent: [] };

/** Not more often than this; peers that come and go in the passive view alone are worth less. */
const SAVE_MS = 5000;
const SAVE_KNOWN_MS = 60_000; // a guess

export class Memory {
  readonly #path: string;
  readonly #clusterId: string;
  readonly #clock: Clock;
  readonly #log: ClusterLog;
  readonly #found: Memories & { readonly incarnation: number };
  #incarnation = 0;
  #written = { absent: '', known: '' };
  #writtenAtMs = -Infinity;
  #knownAtMs = -Infinity;
  #isFailing = false;

  constructor(dataDirectory: string, clusterId: string, clock: Clock, log: ClusterLog) {
    const directory = join(dataDirectory, 'cluster');
    secretDirectory(directory);
    this.#path = join(directory, 'overlay.json');
    this.#clock = clock;
    this.#log = log;
    this.#clusterId = clusterId;
    this.#found = this.#read();
  }

  get found(): Memories {
    return this.#found;
  }

  /**
   * Higher than in any earlier run, and on disk when it returns, unless the disk refuses it. With
   * `seeds`: that there are others is known from the first moment on.
   */
  begin(seeds: readonly Peer[] = []): number {
    // Wall seconds too: when the file was lost, or the disk was full, they have grown all the same.
    const seconds = Math.floor(this.#clock.wallMs() / 1000);
    const next = Math.max(this.#found.incarnation + 1, seconds);
    this.#incarnation = Math.min(LIMITS.incarnation, next);
    const { known } = this.#found;
    this.#write({ ...this.#found, known: known.length > 0 ? known : seeds });
    return this.#incarnation;
  }

  /** Writes what is new, if it is time. `incarnation` may have grown in this run. */
  save(memories: Memories, incarnation: number, isLast: boolean): void {
    const now = this.#clock.now();
    const { absent, known } = textOf(memories);
    const isNews = absent !== this.#written.absent || incarnation > this.#incarnation;
    const isOther = known !== this.#written.known;
    const isDue =
      (isNews && now >= this.#writtenAtMs + SAVE_MS) ||
      (isOther && now >= this.#knownAtMs + (this.#written.known === '[]' ? 0 : SAVE_KNOWN_MS));
    if (!isDue && !(isLast && (isNews || isOther))) return;
    this.#incarnation = Math.max(this.#incarnation, incarnation);
    this.#write(memories);
  }

  /** Of a cluster that was left. */
  forget(): void {
    removeSecret(this.#path);
  }

  #write(memories: Memories): void {
    const now = this.#clock.now();
    const { absent, known } = textOf(memories);
    const head = `"version":1,"cluster":${JSON.stringify(this.#clusterId)}`;
    const incarnation = `"incarnation":${this.#incarnation}`;
    this.#writtenAtMs = now;
    try {
      writeSecret(this.#path, `{${head},${incarnation},"known":${known},"absent":${absent}}\n`);
    } catch (error) {
      if (!this.#isFailing)
        this.#log.warn(
          { path: this.#path, error },
          'peers cannot be remembered for the next start',
        );
      this.#isFailing = true;
      return;
    }
    this.#isFailing = false;
    this.#knownAtMs = now;
    this.#written = { absent, known };
  }

  #read(): Memories & { readonly incarnation: number } {
    try {
      const text = readSecret(this.#path);
      if (text === undefined) return NOTHING;
      return memoriesOf(JSON.parse(text), this.#clusterId);
    } catch (error) {
      this.#log.warn(
        { path: this.#path, error },
        'what was remembered of the cluster cannot be read; members are looked for afresh',
      );
      return NOTHING;
    }
  }
}

function textOf({ absent, known }: Memories): { absent: string; known: string } {
  return { absent: JSON.stringify(absent), known: JSON.stringify(known) };
}

/** Throws on what no zerohop wrote. */
function memoriesOf(value: unknown, clusterId: string): Memories & { incarnation: number } {
  const { version, cluster, incarnation, known, absent } = value as Record<string, unknown>;
  if (version !== 1) throw new Error(`version ${String(version)} is not known here`);
  if (!Number.isSafeInteger(incarnation) || Number(incarnation) < 0)
    throw new Error('the incarnation is no number');
  // Of a cluster that this host was in before: only its number of lives goes on.
  if (cluster !== clusterId) return { ...NOTHING, incarnation: Number(incarnation) };
  if (!Array.isArray(known) || !Array.isArray(absent)) throw new Error('a list is missing');
  return {
    incarnation: Number(incarnation),
    known: known.map(peerOf),
    absent: absent.map(rememberedOf),
  };
}

function rememberedOf(value: unknown): Remembered {
  const { id, standing, sinceMs } = value as Record<string, unknown>;
  if (typeof id !== 'string' || typeof sinceMs !== 'number') throw new Error('a node without id');
  if (standing !== 'dead' && standing !== 'left') throw new Error('a node neither dead nor left');
  return { id, standing, sinceMs };
}
