/** The C programs of test/bench/programs, compiled once per content; what else the bench needs on the machine. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../harness/child.ts';
import { checkout } from '../harness/host.ts';

const sources = join(checkout, 'test/bench/programs');
const cache = join(checkout, '.cache/bench');

/** Command and the Debian package that has it. */
type Needed = readonly (readonly [command: string, name: string])[];

const NEEDED: Needed = [
  ['gcc', 'gcc'],
  ['nft', 'nftables'],
  ['haproxy', 'haproxy'],
  ['bpftool', 'bpftool'],
  ['ip', 'iproute2'],
  ['taskset', 'util-linux'],
  ['chrt', 'util-linux'],
];

/** Of dns.ts. */
export const DNS_NEEDED: Needed = [
  ['gcc', 'gcc'],
  ['ip', 'iproute2'],
  ['taskset', 'util-linux'],
  ['chrt', 'util-linux'],
  ['unbound', 'unbound'],
  ['dnsmasq', 'dnsmasq-base'],
  ['dnsdist', 'dnsdist'],
  ['dnsperf', 'dnsperf'],
];

/** Names what is missing, all of it at once, and what installs it. */
export async function checkPackages(
  needed: Needed = NEEDED,
  by = 'scripts/setup --test',
): Promise<void> {
  const missing = new Set<string>();
  for (const [command, name] of needed) {
    await run(['sh', '-c', `command -v ${command}`]).catch(() => missing.add(name));
  }
  if (missing.size > 0) {
    const list = [...missing].join(' ');
    throw new Error(`packages are missing: ${list}\n${by} installs them without starting a daemon`);
  }
}

async function compiled(name: string): Promise<string> {
  const from = join(sources, `${name}.c`);
  const hash = createHash('sha256');
  for (const file of [from, join(sources, 'bench.h'), join(sources, 'dns.h')])
    hash.update(readFileSync(file));
  const to = join(cache, `${name}-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(to)) {
    mkdirSync(cache, { recursive: true });
    const half = `${to}.${process.pid}`;
    await run(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', half, from]);
    renameSync(half, to);
  }
  return to;
}

export const laneProgram = (): Promise<string> => compiled('lane');
export const serveProgram = (): Promise<string> => compiled('serve');
/** A client of DNS, name servers with manners, and getaddrinfo(). */
export const dnsAskProgram = (): Promise<string> => compiled('dns-ask');
export const dnsUpstreamProgram = (): Promise<string> => compiled('dns-upstream');
export const dnsGlibcProgram = (): Promise<string> => compiled('dns-glibc');
