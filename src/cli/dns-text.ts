/** Answers and the state of the resolver in words. */
import type { DnsQueryAnswer, DnsStatusAnswer } from '../api/dns-schemas.ts';
import { counted } from './output.ts';

/** As dig writes it, with the dot at the end. */
function whole(name: string): string {
  return name === '' ? '.' : `${name}.`;
}

type Entry = DnsQueryAnswer['answers'][number];

export function entryCells({ name, ttl, type, data }: Entry): string[] {
  return [whole(name), String(ttl), 'IN', type, data];
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;
}

const FROM: Readonly<Record<DnsQueryAnswer['from'], string>> = {
  zone: 'from the zone',
  cache: 'from the cache',
  stale: 'from the cache, over its time: no upstream answers',
  upstream: 'from upstream',
  failure: 'as no upstream gave an answer',
  refused: 'by itself',
};

/** `NOERROR from upstream 192.0.2.1:53 in 12 ms`. */
export function verdictText({ rcode, from, upstream, ms, answers }: DnsQueryAnswer): string {
  const whose = from === 'upstream' && upstream !== undefined ? ` ${upstream}` : '';
  const nothing = rcode === 'NOERROR' && answers.length === 0 ? ', no such record,' : '';
  return `${rcode}${nothing} ${FROM[from]}${whose} in ${milliseconds(ms)}`;
}

export function attemptText({
  upstream,
  transport,
  ms,
  result,
}: DnsQueryAnswer['attempts'][number]): string {
  return `${upstream} over ${transport}: ${result} after ${milliseconds(ms)}`;
}

/** `9 NOERROR, 1 NXDOMAIN`, the most first; empty: there is none. */
function countsText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .toSorted(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .map(([what, count]) => `${count} ${what}`)
    .join(', ');
}

function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2
    ? `${(bytes / 1024).toFixed(0)} KiB`
    : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

function kernelText({ state, why, entries }: DnsStatusAnswer['kernel']): string {
  if (state !== 'active') return why === undefined ? state : `${state}: ${why}`;
  const what = `answers by itself (${counted(entries, 'answer')} prepared)`;
  return why === undefined ? what : `${what}; ${why}`;
}

function cacheText({ entries, bytes, bytesMax, hits, misses }: DnsStatusAnswer['cache']): string {
  return `${counted(entries, 'answer')}, ${sizeText(bytes)} of ${sizeText(bytesMax)}; ${counted(hits, 'hit')}, ${misses} not there`;
}

/** Rows of `dns status`. */
export function dnsFacts(status: DnsStatusAnswer): string[][] {
  if (!status.enabled) return [['resolver', 'off (dns.enabled)']];
  const { domain, names, serial, ready, listeners, cache, kernel, counters } = status;
  const listens = listeners.map(({ address, listening, problem = 'not yet' }) =>
    listening ? address : `not at ${address}: ${problem}`,
  );
  const dropped = countsText(counters.dropped);
  return [
    [
      'zone',
      `${domain}: ${counted(names, 'name')}, serial ${serial}${ready ? '' : ', not ready yet'}`,
    ],
    ...listens.map((text, i) => [i === 0 ? 'listens' : '', text]),
    ['kernel', kernelText(kernel)],
    [
      'requests',
      `${counters.requests}${counters.requests === 0 ? '' : `: ${countsText(counters.rcodes)}`}`,
    ],
    ['answers', countsText(counters.from) || 'none yet'],
    ['cache', cacheText(cache)],
    ...(dropped === '' ? [] : [['dropped', dropped]]),
  ];
}

export const UPSTREAM_HEADERS = ['UPSTREAM', 'FOR', 'STATE', 'RTT', 'SENT', 'RESULTS'];

export function upstreamCells(upstream: DnsStatusAnswer['upstreams'][number]): string[] {
  const { address, zones, state, ms, sent, results } = upstream;
  return [
    address,
    zones.map((zone) => (zone === '' ? 'all' : zone)).join(' '),
    state,
    ms === undefined ? '' : milliseconds(ms),
    String(sent),
    countsText(results),
  ];
}

/** In one line, for `zerohop status`. */
export function dnsText(status: DnsStatusAnswer): string {
  if (!status.enabled) return 'off';
  const { domain, names, listeners, upstreams, kernel } = status;
  const at = listeners.filter((one) => one.listening).map((one) => one.address);
  const failing = upstreams.filter(({ state }) => state === 'failing' || state === 'loop').length;
  return [
    `${domain}: ${counted(names, 'name')} at ${at.length === 0 ? 'no address' : at.join(', ')}`,
    ...(kernel.state === 'active' ? ['answered in the kernel'] : []),
    `${counted(upstreams.length, 'upstream')}${failing === 0 ? '' : `, ${failing} failing`}`,
  ].join('; ');
}

/** Addresses where it does not listen, each with why. */
export function dnsCares({ listeners }: DnsStatusAnswer): string[] {
  return listeners
    .filter((one) => !one.listening)
    .map(({ address, problem = 'not yet' }) => `no DNS at ${address}: ${problem}`);
}
