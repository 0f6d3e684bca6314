/** The part of pino that is used in this folder; and a brake for what strangers can cause to be written. */
import { Limiter } from '../limiter.ts';
import type { Clock } from './clock.ts';

export interface ClusterLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export const SILENT: ClusterLog = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
};

/** A line a second from strangers, and how many more there were. */
export class StrangersLog {
  readonly #log: ClusterLog;
  readonly #clock: Clock;
  readonly #limiter = new Limiter({ perSecond: 1, burst: 10 }, 1);
  #unwritten = 0;

  constructor(log: ClusterLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  refused(why: string, address: string): void {
    if (!this.#limiter.take('', this.#clock.now())) {
      this.#unwritten += 1;
      return;
    }
    const fields = { address, why, ...(this.#unwritten > 0 && { unwritten: this.#unwritten }) };
    this.#unwritten = 0;
    this.#log.warn(fields, 'a connection to the cluster port was refused');
  }
}

/** Of what can come in storms: some lines for each kind, then one in ten seconds, and how many more there were. */
export class BrakedLog {
  readonly #log: ClusterLog;
  readonly #clock: Clock;
  readonly #limiter = new Limiter({ perSecond: 0.1, burst: 10 }, 64);
  readonly #unwritten = new Map<string, number>();

  constructor(log: ClusterLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  write(level: keyof ClusterLog, kind: string, fields: object, message: string): void {
    const unwritten = this.#unwritten.get(kind) ?? 0;
    if (level !== 'debug' && !this.#limiter.take(kind, this.#clock.now())) {
      this.#unwritten.set(kind, unwritten + 1);
      return;
    }
    this.#unwritten.delete(kind);
    this.#log[level]({ ...fields, ...(unwritten > 0 && { unwritten }) }, message);
  }
}
