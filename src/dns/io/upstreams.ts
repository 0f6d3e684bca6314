/**
 * The forwarder with real sockets and real time: what ../forward decides is done here, and nothing is
 * decided here. Reads no configuration and writes no metrics: stats() is for who does.
 */
import { systemClock, type Clock } from '../../cluster/io/clock.ts';
import { systemRandom } from '../../cluster/io/random.ts';
import type { Random } from '../../hyparview-ts/random.ts';
import { ForwardMachine } from '../forward/forwarder.ts';
import type {
  Asked,
  AskOptions,
  ForwardInput,
  ForwardOutput,
  ForwardSettings,
  ForwardStats,
} from '../forward/types.ts';
import { RCODE } from '../numbers.ts';
import { refusal } from '../packet.ts';
import type { Query } from '../query.ts';
import { TcpAttempts } from './upstream-tcp.ts';
import { UdpAttempts } from './upstream-udp.ts';

export interface ForwarderLog {
  warn(fields: object, message: string): void;
}

export interface ForwarderWorld {
  readonly clock: Pick<Clock, 'now' | 'after'>;
  readonly random: Random;
}

/**
 * What is due waits until the replies that have come are read: a process that was busy would else
 * take them for late, ask others as well, and be busier.
 */
const afterReplies: ForwarderWorld['clock'] = {
  now: () => systemClock.now(),
  after(ms, run) {
    let immediate: NodeJS.Immediate | undefined;
    const cancel = systemClock.after(ms, () => {
      immediate = setImmediate(run);
    });
    return () => {
      cancel();
      clearImmediate(immediate);
    };
  },
};

interface Asking {
  readonly query: Query;
  readonly resolve: (asked: Asked) => void;
}

/** A line about loops at most so often. */
const LOG_MS = 60_000;

export class Forwarder {
  readonly #machine: ForwardMachine;
  readonly #clock: Pick<Clock, 'now' | 'after'>;
  readonly #log: ForwarderLog;
  readonly #udp: UdpAttempts;
  readonly #tcp: TcpAttempts;
  readonly #asking = new Map<number, Asking>();
  readonly #inputs: ForwardInput[] = [];
  #isRunning = false;
  #isClosed = false;
  #lastAsk = 0;
  #timer: { atMs: number; cancel: () => void } | undefined;
  #loopsLogged = 0;
  #loggedMs = -Infinity;

  constructor(settings: ForwardSettings, log: ForwarderLog, world: Partial<ForwarderWorld> = {}) {
    this.#log = log;
    this.#clock = world.clock ?? afterReplies;
    this.#machine = new ForwardMachine(settings, world.random ?? systemRandom());
    const events = {
      reply: (attempt: number, bytes: Uint8Array) => this.#run({ kind: 'reply', attempt, bytes }),
      failed: (attempt: number, why: 'unreachable' | 'local') =>
        this.#run({ kind: 'failed', attempt, why }),
    };
    this.#udp = new UdpAttempts(events);
    this.#tcp = new TcpAttempts(events);
  }

  /** Never rejects. */
  ask(query: Query, options: AskOptions): Promise<Asked> {
    if (this.#isClosed) return Promise.resolve(closedAnswer(query));
    const ask = ++this.#lastAsk;
    return new Promise((resolve) => {
      this.#asking.set(ask, { query, resolve });
      this.#run({ kind: 'ask', ask, query, options });
    });
  }

  update(settings: ForwardSettings): void {
    this.#machine.update(settings);
  }

  stats(): ForwardStats {
    return this.#machine.stats(this.#clock.now());
  }

  /** Sockets and connections that are open. */
  get open(): { readonly sockets: number; readonly connections: number } {
    return { sockets: this.#udp.size, connections: this.#tcp.connections };
  }

  /** What is kept of this name and of all below it, or of all names; answers how many entries went. */
  flush(name?: string): number {
    return this.#machine.flush(name);
  }

  /** Who still waits is answered SERVFAIL. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#udp.close();
    this.#tcp.close();
    for (const { query, resolve } of this.#asking.values()) resolve(closedAnswer(query));
    this.#asking.clear();
  }

  /** What a socket tells at once, while outputs are being done, waits for its turn. */
  #run(input: ForwardInput): void {
    if (this.#isClosed) return;
    this.#inputs.push(input);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift())
        for (const output of this.#machine.handle(next, this.#clock.now())) this.#do(output);
    } finally {
      this.#isRunning = false;
    }
  }

  #do(output: ForwardOutput): void {
    switch (output.kind) {
      case 'send': {
        const by = output.transport === 'udp' ? this.#udp : this.#tcp;
        by.send(output.attempt, output.upstream, output.bytes);
        break;
      }
      case 'end':
        this.#udp.end(output.attempt);
        this.#tcp.end(output.attempt);
        break;
      case 'answer': {
        const asking = this.#asking.get(output.ask);
        this.#asking.delete(output.ask);
        asking?.resolve(output.asked);
        break;
      }
      case 'wake':
        this.#wakeAt(output.atMs);
        break;
    }
  }

  /** A timer that is set earlier stays: a needless wake is harmless. */
  #wakeAt(atMs: number | undefined): void {
    if (atMs === undefined || (this.#timer !== undefined && this.#timer.atMs <= atMs)) return;
    this.#timer?.cancel();
    const run = (): void => {
      this.#timer = undefined;
      this.#run({ kind: 'wake' });
      this.#tellOfLoops();
    };
    const cancel = this.#clock.after(Math.ceil(atMs - this.#clock.now()), run);
    this.#timer = { atMs, cancel };
  }

  #tellOfLoops(): void {
    const { loops } = this.#machine;
    if (loops === this.#loopsLogged) return;
    const nowMs = this.#clock.now();
    if (nowMs - this.#loggedMs < LOG_MS) return;
    this.#loopsLogged = loops;
    this.#loggedMs = nowMs;
    const looping = this.stats().upstreams.filter(({ state }) => state === 'loop');
    this.#log.warn(
      { upstreams: looping.map(({ upstream }) => upstream) },
      'an upstream of the resolver asks this resolver: it is left out; take it out of dns.upstreams',
    );
  }
}

function closedAnswer(query: Query): Asked {
  const bytes = refusal(query, RCODE.SERVFAIL, true);
  return { bytes, rcode: RCODE.SERVFAIL, from: 'failure', attempts: [] };
}
