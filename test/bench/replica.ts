/**
 * What replicated state costs: bytes, heap, time to open, time per change; and what a year of
 * changes leaves behind, beside the same records written afresh.
 *
 *     node --expose-gc test/bench/replica.ts [scale SERVICES BACKENDS | year DAYS CHANGES_A_DAY]
 *
 * Prints JSON lines; times are of one core. A year with a change every second is 31 million: the
 * days are all there, with fewer changes in each, and one day has all of its own.
 */
import { execFileSync } from 'node:child_process';
import { LIMITS } from '../../src/state/replica/limits.ts';
import { Replica, SHARED, type Update, type Write } from '../../src/state/replica/replica.ts';
import { StateView } from '../../src/state/replica/view.ts';
import { Dice } from '../harness/random.ts';

const collect = (globalThis as { gc?: () => void }).gc;
if (collect === undefined) throw new Error('run node with --expose-gc');

function heapBytes(): number {
  collect?.();
  collect?.();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}

/** Milliseconds of this thread on a core: others use this machine too. */
const now = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};
const mib = (bytes: number): number => Math.round(bytes / 2 ** 18) / 4;
const round = (value: number): number => Math.round(value * 1000) / 1000;

function print(row: Readonly<Record<string, string | number>>): void {
  console.log(JSON.stringify(row));
}

const service = (i: number): string =>
  JSON.stringify({
    vips: [`240.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`, `fd7a::${(i + 1).toString(16)}`],
    ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
  });

const backendOf = (s: number, b: number): string =>
  `backend/svc-${s}/http/10.${b % 250}.${s >> 8}.${s & 255}/8080`;

const HOSTS = 100;

/** A cluster's documents as one host holds them: services shared, backends in those of their hosts. */
function fill(services: number, perService: number): Update[] {
  const shared = Replica.open({ node: 'n0', writer: 1 });
  const writes = Array.from({ length: services }, (_, i): Write => {
    return { document: 'shared', key: `service/svc-${i}`, value: service(i) };
  });
  shared.transact(writes, 1);
  const updates = [shared.whole(SHARED)];
  for (let h = 0; h < HOSTS; h++) {
    const host = Replica.open({ node: `n${h}`, writer: h + 1 });
    const own: Write[] = [];
    for (let s = 0; s < services; s++)
      for (let b = 0; b < perService; b++)
        if ((s * perService + b) % HOSTS === h)
          own.push({ document: 'own', key: backendOf(s, b), value: '{}' });
    host.transact(own, 1);
    updates.push(host.whole(host.own));
  }
  return updates;
}

function scale(services: number, perService: number): void {
  const updates = fill(services, perService);
  const bytes = updates.reduce((sum, update) => sum + update.bytes.length, 0);
  const before = heapBytes();
  const t0 = now();
  const replica = Replica.open({ node: 'n0', writer: 1 }, { clock: '', updates });
  const t1 = now();
  const view = StateView.open(replica);
  const t2 = now();
  const heap = heapBytes() - before;
  const size = { services, backends: services * perService };
  print({
    what: 'open',
    ...size,
    docMiB: mib(bytes),
    heapMiB: mib(heap),
    openMs: round(t1 - t0),
    viewMs: round(t2 - t1),
  });

  const dice = new Dice(1);
  const peer = Replica.open({ node: 'n1', writer: 2 }, { clock: '', updates });
  const made: Update[] = [];
  const rounds = 5000;
  const t3 = now();
  for (let i = 0; i < rounds; i++) {
    const own = i % 2 === 0;
    const key = own
      ? backendOf(dice.below(services), dice.below(perService))
      : `service/svc-${dice.below(services)}`;
    const value = own ? `{"weight":${i}}` : service(i + 1_000_000);
    const result = replica.transact([{ document: own ? 'own' : 'shared', key, value }], i + 2);
    view.follow(result.changed);
    made.push(...result.updates);
  }
  const t4 = now();
  for (const update of made) peer.receive(update, rounds);
  const t5 = now();
  const updateBytes = made.reduce((sum, update) => sum + update.bytes.length, 0) / made.length;
  print({
    what: 'one change',
    ...size,
    writeAndViewMs: round((t4 - t3) / rounds),
    receiveMs: round((t5 - t4) / rounds),
    updateBytes: Math.round(updateBytes),
  });
  const start = now();
  replica.digests();
  const digested = now();
  const whole = replica.compact(SHARED);
  const compacted = now();
  const { wants } = peer.receive(whole, 1);
  print({
    what: 'digests, epoch of the shared document',
    ...size,
    digestsMs: round(digested - start),
    compactMs: round(compacted - digested),
    adoptMs: round(now() - compacted),
    wants: wants ?? 'nothing',
  });
}

/** One process for each figure: what one left on the heap does not count for the next. */
function inChild(args: readonly string[]): void {
  process.stdout.write(
    execFileSync(process.execPath, ['--expose-gc', import.meta.filename, ...args], {
      encoding: 'utf8',
    }),
  );
}

/**
 * A cluster of 100 hosts, 1,000 services and 10,000 backends: a backend of a random host goes, or
 * comes back; each tenth change is to a shared record, by a random host. Each day two hosts leave
 * for ever, and two new ones come. Hosts write through one replica a piece, all seen by one more.
 */
function year(days: number, changesADay: number): void {
  const hosts = HOSTS;
  const dice = new Dice(7);
  const [services, perHost] = [1000, Math.ceil(10_000 / hosts)];
  const gone = new Set<number>();
  const isGone = (writer: number): boolean => gone.has(writer);
  // Only what they write is needed of the hosts: the shared document is that of the observer.
  const observer = Replica.open({ node: 'observer', writer: 1, isGone });
  let next = 2;
  interface Member {
    replica: Replica;
    readonly writer: number;
  }
  const members: Member[] = [];
  const tell = (update: Update): void => {
    const { notices } = observer.receive(update, 0);
    for (const { type } of notices) if (type === 'refused') throw new Error('refused');
  };
  const join = (): Member => {
    const writer = next++;
    const node = `h${writer}`;
    const replica = Replica.open({ node, writer, isGone });
    const own = Array.from({ length: perHost }, (_, b): Write => {
      return { document: 'own', key: backendOf((writer * perHost + b) % services, b), value: '{}' };
    });
    for (const update of replica.transact(own, 1).updates) tell(update);
    replica.receive(observer.whole(SHARED), 0);
    return { replica, writer };
  };
  const list = Array.from({ length: services }, (_, i): Write => {
    return { document: 'shared', key: `service/svc-${i}`, value: service(i) };
  });
  observer.transact(list, 1);
  for (let i = 0; i < hosts; i++) members.push(join());

  let second = 1;
  let epochs = 0;
  const started = now();
  for (let day = 1; day <= days; day++) {
    for (let i = 0; i < changesADay; i++, second++) {
      const member = dice.pick(members);
      if (i % 10 === 0) {
        // The observer's copy of the shared document is as new as any: the host writes to its own.
        const name = `service/svc-${dice.below(services)}`;
        member.replica.receive(
          observer.diff(member.replica.vector(SHARED)) ?? observer.whole(SHARED),
          0,
        );
        const { updates } = member.replica.transact(
          [{ document: 'shared', key: name, value: service(second) }],
          second * 1000,
        );
        for (const update of updates) tell(update);
        continue;
      }
      const key = backendOf((member.writer * perHost + (i % perHost)) % services, i % perHost);
      const there = member.replica.get(member.replica.own, key) !== undefined;
      const { updates } = member.replica.transact(
        [{ document: 'own', key, value: there ? undefined : '{}' }],
        second * 1000,
      );
      for (const update of updates) tell(update);
    }
    for (let i = 0; i < 2; i++) {
      const [leaver] = members.splice(dice.below(members.length), 1);
      if (leaver === undefined) continue;
      gone.add(leaver.writer);
      observer.forgetDocument(leaver.replica.own);
      members.push(join());
    }
    for (const { replica } of members)
      if (replica.compactionDue(replica.own)) {
        tell(replica.compact(replica.own));
        epochs += 1;
      }
    // Each month also without need: writers that are gone are left out.
    if (observer.compactionDue(SHARED) || day % 30 === 0) {
      observer.compact(SHARED);
      epochs += 1;
    }
    if (day === days || day % Math.max(1, Math.floor(days / 6)) === 0)
      report(observer, day, epochs, started);
  }
}

/** The state as it is beside the same records in documents that were just written. */
function report(observer: Replica, day: number, epochs: number, started: number): void {
  const old = observer.save();
  const fresh: Update[] = [];
  for (const id of observer.documents()) {
    const isShared = id === SHARED;
    const copy = Replica.open({ node: isShared ? 'x' : id.slice('node:'.length), writer: 1 });
    const writes = [...observer.winners(id)].map(({ key }): Write => {
      return { document: isShared ? 'shared' : 'own', key, value: observer.get(id, key) };
    });
    copy.transact(writes, 1);
    fresh.push(copy.whole(id));
  }
  const row = (updates: readonly Update[]): Readonly<Record<string, number>> => {
    const before = heapBytes();
    const t0 = now();
    const replica = Replica.open({ node: 'observer', writer: 1 }, { clock: '', updates });
    const openMs = round(now() - t0);
    const heapMiB = mib(heapBytes() - before);
    const items = replica.documents().reduce((sum, id) => sum + replica.stats(id).items, 0);
    return {
      docMiB: mib(updates.reduce((sum, { bytes }) => sum + bytes.length, 0)),
      heapMiB,
      openMs,
      items,
    };
  };
  row(fresh); // once for the compiler
  print({
    what: 'old',
    day,
    epochs,
    writers: observer.stats(SHARED).writers,
    ...row(old.updates),
    cpuS: round((now() - started) / 1000),
  });
  print({ what: 'fresh', day, ...row(fresh) });
}

const [mode = 'all', first = '', second = ''] = process.argv.slice(2);
if (mode === 'scale') scale(Number(first), Number(second));
else if (mode === 'year') year(Number(first), Number(second));
else {
  print({ what: 'limits', ...LIMITS });
  inChild(['scale', '1000', '10']);
  inChild(['scale', '10000', '10']);
  inChild(['year', '365', '60']);
  inChild(['year', '1', '86400']);
}
