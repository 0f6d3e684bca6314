/**
 * Runs one Replication: inputs wait for their turn, all outputs of one are done before the next, and
 * its one timer is kept. A neighbour counts from the moment that it is both linked and connected.
 * Decides nothing itself.
 */
import { WireError } from '../../hyparview-ts/codec.ts';
import type { Priority } from '../../hyparview-ts/index.ts';
import type { Changed, Update } from '../../state/replica/replica.ts';
import type { FactChanged } from '../ephemeral.ts';
import type {
  ReplicationInput,
  ReplicationNotice,
  ReplicationOutput,
} from '../replication-types.ts';
import type { Replication } from '../replication.ts';
import type { Clock } from './clock.ts';

export interface ReplicatorHandlers {
  store(updates: readonly Update[], whole: boolean): void;
  broadcast(bytes: Uint8Array, priority: Priority): void;
  send(to: string, channel: 'state' | 'state-bulk', bytes: Uint8Array): void;
  changed(changed: readonly Changed[]): void;
  facts(changed: readonly FactChanged[]): void;
  notice(notice: ReplicationNotice, from: string): void;
}

export class Replicator {
  readonly #replication: Replication;
  readonly #clock: Clock;
  readonly #handlers: ReplicatorHandlers;
  readonly #inputs: ReplicationInput[] = [];
  readonly #linked = new Set<string>();
  readonly #connected = new Set<string>();
  readonly #up = new Set<string>();
  #busy = false;
  #stopped = false;
  #cancelTimer: (() => void) | undefined;
  #garbage: string | undefined;

  constructor(replication: Replication, clock: Clock, handlers: ReplicatorHandlers) {
    this.#replication = replication;
    this.#clock = clock;
    this.#handlers = handlers;
  }

  /** Documents that differ, for each neighbour; undefined until it has told of all that it has. */
  lag(): ReadonlyMap<string, number | undefined> {
    return this.#replication.lag();
  }

  give(input: ReplicationInput): void {
    if (this.#stopped) return;
    this.#inputs.push(input);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
        const now = this.#clock.now();
        for (const output of this.#replication.handle(next, now, this.#clock.wallMs()))
          this.#do(output, now);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** From a peer. Throws WireError when it is none: its connection is to end. */
  message(from: string, bytes: Uint8Array): void {
    this.#garbage = undefined;
    this.give({ type: 'message', from, bytes });
    const garbage: string | undefined = this.#garbage;
    if (garbage !== undefined) throw new WireError(garbage);
  }

  linked(id: string, isSo: boolean): void {
    mark(this.#linked, id, isSo);
    this.#settle(id);
  }

  connected(id: string, isSo: boolean): void {
    mark(this.#connected, id, isSo);
    this.#settle(id);
  }

  /** No input is taken and no timer runs afterwards. */
  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#inputs.length = 0;
  }

  #settle(id: string): void {
    const isUp = this.#linked.has(id) && this.#connected.has(id);
    if (isUp === this.#up.has(id)) return;
    mark(this.#up, id, isUp);
    this.give({ type: isUp ? 'up' : 'down', peer: id });
  }

  #do(output: ReplicationOutput, now: number): void {
    const handlers = this.#handlers;
    switch (output.type) {
      case 'store':
        return handlers.store(output.updates, output.whole);
      case 'broadcast':
        return handlers.broadcast(output.bytes, output.priority);
      case 'send':
        return handlers.send(output.to, output.channel, output.bytes);
      case 'schedule':
        this.#cancelTimer?.();
        this.#cancelTimer = this.#clock.after(output.atMs - now, () =>
          this.give({ type: 'timer' }),
        );
        return;
      case 'changed':
        return handlers.changed(output.changed);
      case 'facts':
        return handlers.facts(output.changed);
      case 'notice':
        if (output.notice.type === 'garbage') this.#garbage = output.notice.reason;
        return handlers.notice(output.notice, output.from);
    }
  }
}

function mark(set: Set<string>, id: string, isIn: boolean): void {
  if (isIn) set.add(id);
  else set.delete(id);
}
