// npm run sim:dns: a day of the forwarder, and a hostile upstream, at any length. (--help)
import { ArgumentError, runCommand, wholeNumber } from '../arguments.ts';
import { runDay, type Hour } from './day.ts';
import { runHostile } from './hostile.ts';

const USAGE = `usage: npm run sim:dns                                       24 hours, 20 questions a second at noon
       npm run sim:dns -- --what hostile --count 10000000   replies of a hostile upstream

options: --what day|hostile, --seed N (1), --hours N (24), --rate N (20), --names N (100000), --cache BYTES (4194304),
         --count N (100000)`;

const round = (value: number): string => value.toFixed(value < 10 ? 1 : 0);

function printHour({
  hour,
  asks,
  from,
  p50Ms,
  p99Ms,
  p999Ms,
  maxMs,
  stats,
  heapBytes,
}: Hour): void {
  const share = (count: number): string => `${((100 * count) / asks).toFixed(2)} %`;
  const heap = heapBytes === undefined ? 'unknown' : `${round(heapBytes / 2 ** 20)} MiB`;
  console.log(
    `hour ${String(hour).padStart(2)}: ${asks} asks, cache ${share(from.cache)}, ` +
      `stale ${share(from.stale)}, failed ${share(from.failure)}; ` +
      `not from the cache: p50 ${round(p50Ms)} p99 ${round(p99Ms)} p99.9 ${round(p999Ms)} ` +
      `max ${round(maxMs)} ms; cache ${stats.cache.entries} entries, ` +
      `${round(stats.cache.bytes / 2 ** 20)} MiB; heap ${heap}`,
  );
}

function day(
  seed: number,
  options: { hours: number; rate: number; names: number; cache: number },
): number {
  const { hours, rate: perSecond, names, cache: cacheBytes } = options;
  const result = runDay({ seed, hours, perSecond, names, cacheBytes, onHour: printHour });
  const { asks, late, wrong, failedInVain, knownInOutage, knownAnswered, left } = result;
  console.log(
    `seed ${seed}: ${asks} asks, ${late} late, ${wrong} wrong, ${failedInVain} failed while an upstream was well; ` +
      `while all were away ${knownAnswered} of ${knownInOutage} asks for known names answered; ` +
      `left over: ${JSON.stringify(left)}`,
  );
  return late + wrong + left.events + left.open + left.waiting === 0 ? 0 : 1;
}

function hostile(seed: number, count: number): number {
  const part = 250_000;
  for (let done = 0, round = 0; done < count; done += part, round++) {
    const result = runHostile(seed + round, Math.min(part, count - done));
    console.log(`seed ${seed + round}: ${JSON.stringify(result)}`);
  }
  console.log(`${count} replies: nothing wrong was kept or answered`);
  return 0;
}

process.exitCode = runCommand({
  name: 'sim/dns',
  usage: USAGE,
  options: {
    what: { type: 'string', default: 'day' },
    seed: { type: 'string', default: '1' },
    hours: { type: 'string', default: '24' },
    rate: { type: 'string', default: '20' },
    names: { type: 'string', default: '100000' },
    cache: { type: 'string', default: '4194304' },
    count: { type: 'string', default: '100000' },
  },
  run({ what, seed, hours, rate, names, cache, count }) {
    const number = wholeNumber('seed', seed);
    if (what === 'hostile') return hostile(number, wholeNumber('count', count));
    if (what !== 'day') throw new ArgumentError(`--what takes day or hostile, not ${what}`);
    return day(number, {
      hours: wholeNumber('hours', hours),
      rate: wholeNumber('rate', rate),
      names: wholeNumber('names', names),
      cache: wholeNumber('cache', cache),
    });
  },
});
