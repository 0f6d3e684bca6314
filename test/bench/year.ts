/**
 * What a year leaves behind in the state of a cluster, beside the same records written afresh.
 *
 *     node --expose-gc test/bench/year.ts [--days 365] [--changes 86400] [--flips 864000] [--seed 7]
 *     node test/bench/year-report.ts FILE        its lines as test/bench/year/REPORT.md and plots
 *
 * 100 hosts, 1,000 services, 10,000 backends. A change every second: a backend of a random host goes
 * or comes back, each tenth is to a shared record, by one of two hosts that are drawn for the day.
 * A health flip every 100 ms. Each host restarts each day, from what a disk would hold; each day two
 * come, one leaves for ever, and one dies without a word, to be found expired 45 days later. Documents
 * are written afresh where that is due, looked at every six hours (an agent: every five seconds). The
 * observer is the host that is measured: it holds all, and is the one that puts in order what all share.
 *
 * Prints JSON lines, one every five days; seconds are CPU time of this thread.
 */
import { parseArgs } from 'node:util';
import { agedOut } from '../../src/cluster/aging.ts';
import { base32 } from '../../src/cluster/base32.ts';
import { writeGone } from '../../src/cluster/departures.ts';
import { Ephemeral } from '../../src/cluster/ephemeral.ts';
import { Liveness } from '../../src/cluster/liveness.ts';
import { Revocations } from '../../src/cluster/revocation.ts';
import { Roll } from '../../src/cluster/roll.ts';
import {
  documentOf,
  Replica,
  SHARED,
  type ReplicaOptions,
  type Update,
  type Write,
} from '../../src/state/replica/replica.ts';
import { Dice } from '../harness/random.ts';

const collect = (globalThis as { gc?: () => void }).gc;
if (collect === undefined) throw new Error('run node with --expose-gc');

const { values } = parseArgs({
  options: {
    days: { type: 'string', default: '365' },
    changes: { type: 'string', default: '86400' },
    flips: { type: 'string', default: '864000' },
    seed: { type: 'string', default: '7' },
  },
});

const HOSTS = 100;
const SERVICES = 1000;
const BACKENDS_EACH = 100;
const WRITERS_A_DAY = 2;
const LEAVERS_A_DAY = 2; // one of them dies
const LOOKS_A_DAY = 4;
const DAY_MS = 86_400_000;
const DAYS_A_ROW = 5;
/** The observer restarts less often than others: what grows while it runs is to be seen. */
const OBSERVER_RUNS_DAYS = 30;
/** Longer than any fact counts, and than an ended one is remembered (ephemeral.ts). */
const SILENCE_MS = 120_000;
const FACT_MS = 15_000;
/** Six seconds; an agent looks when one is due. */
const FLIPS_A_LOOK = 60;
/** Opened so often for one figure: the kernel may count CPU time in ticks of 4 ms. */
const OPENS = 10;
const UP = Uint8Array.of(1);

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};

function heapBytes(): number {
  collect?.();
  collect?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const median = (list: readonly number[]): number =>
  list.toSorted((a, b) => a - b)[list.length >> 1] ?? 0;
const round = (value: number): number => Math.round(value * 100) / 100;
const mib = (bytes: number): number => Math.round((bytes / 2 ** 20) * 1000) / 1000;

const service = (i: number): string =>
  JSON.stringify({
    vips: [`240.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`, `fd7a::${(i + 1).toString(16)}`],
    ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
  });

const iso = (ms: number): string => new Date(ms).toISOString();
const idOf = (writer: number): string =>
  base32(Buffer.from(writer.toString(16).padStart(32, '0'), 'hex'));

class Host {
  readonly options: ReplicaOptions;
  readonly facts: Ephemeral;
  readonly #keys: readonly string[];
  readonly #healthKeys: readonly string[];
  replica: Replica;
  /** On its disk: of its own document all since it was last stored as a whole. */
  #log: Update[] = [];
  #next = 0;

  constructor(options: ReplicaOptions) {
    this.options = options;
    this.replica = Replica.open(options);
    this.facts = new Ephemeral(options.node, 1);
    this.#keys = Array.from({ length: BACKENDS_EACH }, (_, n) => {
      const s = (options.writer * BACKENDS_EACH + n) % SERVICES;
      return `backend/svc-${s}/http/10.${n % 250}.${s >> 8}.${s & 255}/8080`;
    });
    this.#healthKeys = this.#keys.map((key) => `health/${key}`);
  }

  begin(): readonly Update[] {
    const writes = this.#keys.map((key): Write => ({ document: 'own', key, value: '{}' }));
    return this.#write(writes, 1);
  }

  /** A backend goes, or comes back. */
  flip(dice: Dice, nowMs: number): readonly Update[] {
    const { replica } = this;
    const key = dice.pick(this.#keys);
    const value = replica.get(replica.own, key) === undefined ? '{}' : undefined;
    return this.#write([{ document: 'own', key, value }], nowMs);
  }

  fact(n: number, nowMs: number): ReturnType<Ephemeral['state']> {
    const key = this.#healthKeys[n % BACKENDS_EACH] ?? '';
    return this.facts.state(key, this.#next++ % 2 === 0 ? UP : undefined, FACT_MS, nowMs);
  }

  compact(nowMs: number): Update | undefined {
    const { replica } = this;
    if (!replica.compactionDue(replica.own, nowMs)) return undefined;
    const update = replica.compact(replica.own, nowMs);
    this.#log = [update];
    return update;
  }

  restart(): void {
    const { clock, updates } = this.replica.save();
    const others = updates.filter(({ document }) => document !== this.replica.own);
    this.replica = Replica.open(this.options, { clock, updates: [...others, ...this.#log] });
    this.#log = [this.replica.whole(this.replica.own)];
  }

  #write(writes: readonly Write[], nowMs: number): readonly Update[] {
    const { updates } = this.replica.transact(writes, nowMs);
    for (const update of updates) this.#log.push(update);
    return updates;
  }
}

class Year {
  readonly #dice: Dice;
  readonly #observed: ReplicaOptions = { node: idOf(1), writer: 1 };
  #observer: Replica;
  #liveness = new Liveness({ self: this.#observed.node, remembered: [] });
  #roll: Roll;
  readonly #facts = new Ephemeral('observer', 1);
  readonly #hosts: Host[] = [];
  #nextWriter = 2;
  #nowMs = 0;
  epochs = 0;
  writersGone = 0;
  factsMost = 0;
  changes = 0;
  flips = 0;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.#observer = Replica.open(this.#observed);
    this.#roll = this.#newRoll();
    const list = Array.from({ length: SERVICES }, (_, i): Write => {
      return { document: 'shared', key: `service/svc-${i}`, value: service(i) };
    });
    this.#observer.transact(list, 1);
    for (let i = 0; i < HOSTS; i++) this.#join();
  }

  #newRoll(): Roll {
    const [replica, liveness] = [this.#observer, this.#liveness];
    const roll = new Roll({ replica, liveness, revocations: new Revocations() });
    roll.begin(this.#nowMs);
    return roll;
  }

  #join(): void {
    const writer = this.#nextWriter++;
    const host = new Host({ node: idOf(writer), writer });
    for (const update of host.begin()) this.#tell(this.#observer, update);
    this.#liveness.heard(host.options.node, 'alive', this.#nowMs);
    this.#hosts.push(host);
  }

  /** By broadcast. */
  #tell(to: Replica, update: Update): void {
    const { notices, changed } = to.receive(update, this.#nowMs);
    if (to === this.#observer) this.#roll.follow(changed, this.#nowMs);
    for (const { type } of notices)
      if (type === 'refused' || type === 'gap' || type === 'own-history')
        throw new Error(`day ${this.#nowMs / DAY_MS}: ${to.node} says ${type}`);
  }

  /** As a comparison with a neighbour would. */
  #catchUp(host: Host): void {
    const observer = this.#observer;
    const missing = observer.diff(host.replica.vector(SHARED)) ?? observer.whole(SHARED);
    this.#tell(host.replica, missing);
  }

  day(changes: number, flips: number): void {
    const dice = this.#dice;
    const writers = Array.from({ length: WRITERS_A_DAY }, () => dice.pick(this.#hosts));
    for (const writer of writers) this.#catchUp(writer);
    const startMs = this.#nowMs;
    let flipped = 0;
    for (let i = 0; i < changes; i++) {
      this.#nowMs = startMs + Math.floor((i * DAY_MS) / changes);
      if (i % 10 === 0) this.#register(dice.pick(writers), writers);
      else
        for (const update of dice.pick(this.#hosts).flip(dice, this.#nowMs))
          this.#tell(this.#observer, update);
      for (; flipped * changes < (i + 1) * flips; flipped++) this.#flip(flipped);
      if ((i + 1) % Math.ceil(changes / LOOKS_A_DAY) === 0) this.#compact(writers);
    }
    this.changes += changes;
    this.flips += flipped;
    this.#nowMs = startMs + DAY_MS;
  }

  /** After a day is measured: who leaves, comes and restarts. */
  night(day: number): void {
    for (let i = 0; i < LEAVERS_A_DAY; i++) {
      const [leaver] = this.#hosts.splice(this.#dice.below(this.#hosts.length), 1);
      if (leaver === undefined) continue;
      const { node, writer } = leaver.options;
      this.writersGone += 1;
      if (i % 2 === 0) this.#liveness.heard(node, 'dead', this.#nowMs);
      else {
        const at = iso(this.#nowMs);
        this.#say([writeGone(node, { why: 'left', at, atMs: this.#nowMs, writers: [writer] })]);
      }
      this.#join();
    }
    const [replica, liveness, roll] = [this.#observer, this.#liveness, this.#roll];
    this.#say(agedOut({ iso, replica, liveness, roll }, this.#nowMs, this.#nowMs));
    for (const host of this.#hosts) host.restart();
    if (day % OBSERVER_RUNS_DAYS !== 0) return;
    this.#observer = Replica.open(this.#observed, this.#observer.save());
    const remembered = liveness.remembered(this.#nowMs, this.#nowMs);
    this.#liveness = new Liveness({ self: this.#observed.node, remembered });
    this.#roll = this.#newRoll();
    for (const { options } of this.#hosts) this.#liveness.heard(options.node, 'alive', this.#nowMs);
  }

  #say(writes: readonly Write[]): void {
    const { changed } = this.#observer.transact(writes, this.#nowMs);
    for (const node of this.#roll.follow(changed, this.#nowMs).gone)
      this.#observer.forgetDocument(documentOf(node));
  }

  #register(by: Host, writers: readonly Host[]): void {
    const n = this.#dice.below(SERVICES);
    const value = service(this.#dice.below(2 ** 24));
    const write: Write = { document: 'shared', key: `service/svc-${n}`, value };
    for (const update of by.replica.transact([write], this.#nowMs).updates) {
      this.#tell(this.#observer, update);
      for (const other of new Set(writers)) if (other !== by) this.#tell(other.replica, update);
    }
  }

  #flip(n: number): void {
    const fact = this.#dice.pick(this.#hosts).fact(n, this.#nowMs);
    if (fact !== undefined) this.#facts.receive([fact], this.#nowMs);
    if (n % FLIPS_A_LOOK !== 0) return;
    this.#facts.expire(this.#nowMs);
    this.factsMost = Math.max(this.factsMost, this.#facts.size);
  }

  #compact(writers: readonly Host[]): void {
    for (const host of this.#hosts) {
      const update = host.compact(this.#nowMs);
      if (update === undefined) continue;
      this.#tell(this.#observer, update);
      this.epochs += 1;
    }
    if (!this.#observer.compactionDue(SHARED, this.#nowMs)) return;
    const update = this.#observer.compact(SHARED, this.#nowMs);
    for (const writer of new Set(writers)) this.#tell(writer.replica, update);
    this.epochs += 1;
  }

  /** What health leaves: facts that are still held when they ended, and were remembered, with nobody saying anything. */
  silence(): number {
    this.#nowMs += SILENCE_MS;
    this.#facts.expire(this.#nowMs);
    this.#facts.expire(this.#nowMs + SILENCE_MS);
    this.#nowMs -= SILENCE_MS;
    return this.#facts.size;
  }

  /** Hosts that hold the shared document as well: who was drawn to write it, from then on. */
  get sharedCopies(): number {
    return this.#hosts.filter(({ replica }) => replica.stats(SHARED).items > 0).length;
  }

  get documents(): number {
    return this.#observer.documents().length;
  }

  get writersKnown(): number {
    return this.#observer.stats(SHARED).writers;
  }

  get saved(): readonly Update[] {
    return this.#observer.save().updates;
  }

  /** The same records, written by hosts that have written nothing else. */
  fresh(): readonly Update[] {
    const observer = this.#observer;
    return observer.documents().map((id) => {
      const isShared = id === SHARED;
      const copy = Replica.open({ node: isShared ? 'x' : id.slice('node:'.length), writer: 1 });
      const writes = [...observer.winners(id)].map(({ key }): Write => {
        return { document: isShared ? 'shared' : 'own', key, value: observer.get(id, key) };
      });
      copy.transact(writes, 1);
      return copy.whole(id);
    });
  }
}

interface Size {
  readonly docMiB: number;
  readonly heapMiB: number;
  readonly openMs: number;
  readonly items: number;
}

function sizeOf(updates: readonly Update[]): Size {
  const open = (): Replica => Replica.open({ node: 'observer', writer: 1 }, { clock: '', updates });
  const before = heapBytes();
  const replica = open();
  const heapMiB = mib(heapBytes() - before);
  const times = Array.from({ length: 5 }, () => {
    const start = cpuMs();
    for (let i = 0; i < OPENS; i++) open();
    return (cpuMs() - start) / OPENS;
  });
  return {
    docMiB: mib(updates.reduce((sum, { bytes }) => sum + bytes.length, 0)),
    heapMiB,
    openMs: round(median(times)),
    items: replica.documents().reduce((sum, id) => sum + replica.stats(id).items, 0),
  };
}

const [days, changes, flips] = [values.days, values.changes, values.flips].map(Number);
if (days === undefined || changes === undefined || flips === undefined)
  throw new Error('bug: three numbers');
const year = new Year(Number(values.seed));
sizeOf(year.fresh()); // once for the compiler
const runningBytes = heapBytes();
for (let day = 1; day <= days; day++) {
  year.day(changes, flips);
  const isRow = day === 1 || day === days || day % DAYS_A_ROW === 0;
  const factsLeft = isRow ? year.silence() : 0;
  if (isRow) {
    const row = {
      day,
      changes: year.changes,
      flips: year.flips,
      epochs: year.epochs,
      writersGone: year.writersGone,
      writersKnown: year.writersKnown,
      documents: year.documents,
      sharedCopies: year.sharedCopies,
      factsMost: year.factsMost,
      factsLeft,
      /** Of the observer and all hosts, as they run. */
      runningMiB: mib(heapBytes() - runningBytes),
      old: sizeOf(year.saved),
      fresh: sizeOf(year.fresh()),
      cpuS: round(cpuMs() / 1000),
    };
    console.log(JSON.stringify(row));
  }
  year.night(day);
}
