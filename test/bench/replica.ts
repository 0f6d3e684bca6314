/**
 * What replicated state costs: bytes, heap, time to open, time per change. What a year of changes
 * leaves behind is in year.ts.
 *
 *     node --expose-gc test/bench/replica.ts [scale SERVICES BACKENDS]
 *
 * Prints JSON lines; times are of one core.
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

const [mode = 'all', first = '', second = ''] = process.argv.slice(2);
if (mode === 'scale') scale(Number(first), Number(second));
else {
  print({ what: 'limits', ...LIMITS });
  inChild(['scale', '1000', '10']);
  inChild(['scale', '10000', '10']);
}
