/**
 * Runs one hyparview-ts node over a transport: its outputs become connections,
 * messages and timers, and what happens there becomes its inputs, one at a time
 * and in order. Decides nothing itself.
 */
import { decode, encode } from '../../hyparview-ts/codec.ts';
import {
  knownPeers,
  Node,
  type Config,
  type Event,
  type Input,
  type Output,
  type Peer,
  type Priority,
  type Random,
  type TimerKey,
} from '../../hyparview-ts/index.ts';
import { formatAddress, type HostPort } from '../address.ts';
import { CHANNEL_OF_PRIORITY, type Channel } from '../channels.ts';
import type { TransportOptions } from './transport-options.ts';
import { Transport } from './transport.ts';

export interface OverlayHandlers {
  event(event: Event): void;
  /** On the channels that are not the overlay's. A WireError thrown here closes the connection. */
  message(from: Peer, channel: Channel, message: Uint8Array): void;
  up(peer: Peer): void;
  down(id: string): void;
}

export interface OverlayOptions {
  readonly transport: Omit<TransportOptions, 'handlers' | 'self' | 'unit'>;
  readonly random: Random;
  /** Higher than in any earlier run of this node. */
  readonly incarnation: number;
  readonly listen: HostPort;
  /** What others dial, when it is not what is listened on; from what that turned out to be. */
  readonly advertise?: (bound: HostPort) => string;
  readonly zone: string;
  readonly handlers: OverlayHandlers;
  readonly config?: Partial<Config>;
}

const OVERLAY_CHANNELS: ReadonlySet<Channel> = new Set(Object.values(CHANNEL_OF_PRIORITY));

export class Overlay {
  readonly transport: Transport;
  readonly node: Node;
  readonly #options: OverlayOptions;
  readonly #timers = new Map<TimerKey, () => void>();
  /** Handling one input can cause the next: they wait for their turn. */
  readonly #inputs: Input[] = [];
  #busy = false;
  #stopped: Promise<void> | undefined;

  private constructor(options: OverlayOptions, transport: Transport) {
    const { random, incarnation, config } = options;
    this.#options = options;
    this.transport = transport;
    const self = transport.self;
    this.node = new Node({ self, random, incarnation, ...(config !== undefined && { config }) });
  }

  /** Listens, then starts the node. `known` are peers from an earlier run, `seeds` those to join through. */
  static async start(
    options: OverlayOptions,
    known: readonly Peer[],
    seeds: readonly Peer[],
  ): Promise<Overlay> {
    const { listen, advertise, zone, handlers, random } = options;
    const made: { overlay?: Overlay } = {};
    const transport = new Transport({
      ...options.transport,
      self: { address: formatAddress(listen), zone },
      unit: () => random.next() / 2 ** 32,
      handlers: {
        message: (from, channel, bytes) => made.overlay?.onMessage(from, channel, bytes),
        up: (peer) => handlers.up(peer),
        down: (id) => handlers.down(id),
        unreachable: (peer) => made.overlay?.give({ type: 'unreachable', peer }),
      },
    });
    const bound = await transport.listen(listen);
    try {
      transport.setAddress(advertise?.(bound) ?? formatAddress(bound));
      const overlay = new Overlay(options, transport);
      made.overlay = overlay;
      overlay.give({ type: 'start', known });
      if (seeds.length > 0) overlay.join(seeds);
      return overlay;
    } catch (error) {
      // Nobody holds it: it would listen for ever.
      await (made.overlay ?? transport).stop();
      throw error;
    }
  }

  get self(): Peer {
    return this.node.self;
  }

  /** What to write to disk now and then, for the next `start`. */
  knownPeers(): Peer[] {
    return knownPeers(this.node);
  }

  join(seeds: readonly Peer[]): void {
    this.give({ type: 'join', seeds });
  }

  /** Comes back to this node too, as a `delivered` event. */
  broadcast(payload: Uint8Array, priority: Priority): void {
    this.give({ type: 'broadcast', payload, priority });
  }

  /** Tells all that this node goes; connections end when it is out. Nothing is heard any more. */
  goodbye(): void {
    this.give({ type: 'leave' });
  }

  /** Says goodbye to the neighbours, and stops. */
  leave(): Promise<void> {
    this.goodbye();
    return this.stop();
  }

  /** Sends what is queued; afterwards no timer, socket or callback is left. */
  stop(): Promise<void> {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    this.#stopped ??= this.transport.stop();
    return this.#stopped;
  }

  private onMessage(from: Peer, channel: Channel, bytes: Uint8Array): void {
    if (!OVERLAY_CHANNELS.has(channel)) return this.#options.handlers.message(from, channel, bytes);
    // What it throws is a WireError, and ends the connection (connection.ts).
    return this.give({ type: 'received', from, message: decode(bytes) });
  }

  private give(input: Input): void {
    if (this.#stopped !== undefined) return;
    this.#inputs.push(input);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
        const now = this.#options.transport.clock.now();
        for (const output of this.node.handle(next, now)) this.#do(output, now);
      }
    } finally {
      this.#busy = false;
    }
  }

  #do(output: Output, now: number): void {
    switch (output.type) {
      case 'send': {
        const channel = CHANNEL_OF_PRIORITY[output.priority];
        this.transport.send(output.to, channel, encode(output.message));
        return;
      }
      case 'dial':
        return this.transport.keep(output.peer);
      case 'drop':
        return this.transport.release(output.peer.id, true);
      case 'schedule':
        return this.#schedule(output.key, output.atMs - now);
      case 'cancel':
        this.#timers.get(output.key)?.();
        this.#timers.delete(output.key);
        return;
      case 'event':
        return this.#options.handlers.event(output.event);
    }
  }

  #schedule(key: TimerKey, inMs: number): void {
    this.#timers.get(key)?.();
    const cancel = this.#options.transport.clock.after(inMs, () => {
      this.#timers.delete(key);
      this.give({ type: 'timer', key });
    });
    this.#timers.set(key, cancel);
  }
}
