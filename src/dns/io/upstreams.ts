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
  error(fields: object, message: string): void;
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

/** A line about loops at most so often, and one about bugs. */
const LOG_MS = 60_000;
/** After a bug: what it left undone is looked at so soon. */
const AFTER_BUG_MS = 100;

export class Forwarder {
  readonly #machine: ForwardMachine;
  #timeoutMs: number;
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
  /** The last who may wait in vain for what a bug left undone. */
  #doubtful = 0;
  #wakingAfterBug: (() => void) | undefined;
  #givingUp: (() => void) | undefined;
  #loopsLogged = 0;
  #loggedMs = -Infinity;
  #bugLoggedMs = -Infinity;

  constructor(settings: ForwardSettings, log: ForwarderLog, world: Partial<ForwarderWorld> = {}) {
    this.#log = log;
    this.#clock = world.clock ?? afterReplies;
    this.#timeoutMs = settings.timeoutMs;
    this.#machine = new ForwardMachine(settings, world.random ?? systemRandom());
    const events = {
      reply: (attempt: number, bytes: Uint8Array) => this.#run({ kind: 'reply', attempt, bytes }),
      failed: (attempt: number, why: 'unreachable' | 'local') =>
        this.#run({ kind: 'failed', attempt, why }),
    };
    this.#udp = new UdpAttempts(events);
    this.#tcp = new TcpAttempts(events, this.#clock);
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

  /** Of the zones that have upstreams of their own, the one that a name is in; '' of all others. */
  zoneOf(name: string): string {
    return this.#machine.zoneOf(name);
  }

  update(settings: ForwardSettings): void {
    this.#timeoutMs = settings.timeoutMs;
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
    this.#wakingAfterBug?.();
    this.#givingUp?.();
    this.#udp.close();
    this.#tcp.close();
    this.#giveUp([...this.#asking.keys()]);
  }

  #giveUp(asks: readonly number[]): void {
    for (const ask of asks) {
      const asking = this.#asking.get(ask);
      this.#asking.delete(ask);
      asking?.resolve(closedAnswer(asking.query));
    }
  }

  /** What a socket tells at once, while outputs are being done, waits for its turn. */
  #run(input: ForwardInput): void {
    if (this.#isClosed) return;
    this.#inputs.push(input);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift())
        this.#handle(next);
    } finally {
      this.#isRunning = false;
    }
  }

  #handle(input: ForwardInput): void {
    try {
      for (const output of this.#machine.handle(input, this.#clock.now())) this.#do(output);
    } catch (error) {
      this.#caught(input, error);
    }
  }

  /** A bug with one question is not to cost others theirs, and who waits has an answer all the same. */
  #caught(input: ForwardInput, error: unknown): void {
    const nowMs = this.#clock.now();
    if (nowMs - this.#bugLoggedMs >= LOG_MS) {
      this.#bugLoggedMs = nowMs;
      const message = 'bug: the forwarder threw; who waits for it is answered SERVFAIL in time';
      this.#log.error({ error, input: input.kind }, message);
    }
    if (input.kind === 'ask') this.#giveUp([input.ask]);
    this.#doubtful = this.#lastAsk;
    this.#wakingAfterBug ??= this.#clock.after(AFTER_BUG_MS, () => {
      this.#wakingAfterBug = undefined;
      this.#run({ kind: 'wake' });
    });
    this.#giveUpInTime();
  }

  /** Who asked after that, and before another bug, is given up one round later. */
  #giveUpInTime(): void {
    const last = this.#doubtful;
    this.#givingUp ??= this.#clock.after(this.#timeoutMs, () => {
      this.#givingUp = undefined;
      this.#giveUp([...this.#asking.keys()].filter((ask) => ask <= last));
      if (this.#doubtful > last) this.#giveUpInTime();
    });
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
