/**
 * systemd-resolved on this host (systemd-resolved.service(8), resolved.conf(5)): whether programs
 * ask it, what it is told in files, and our drop-in.
 *
 * What it does, as of its version 252: one list of servers for each link, and a global one. A
 * name under a domain of such a list (`Domains=~…`) is asked there and nowhere else. All other
 * names are asked at every link and the global list at once, and the first good answer wins: if we
 * are dead, the links' servers answer, at no cost. Within one list it keeps to a server until that
 * one fails: two servers in one list that know different names cannot work, so that a host whose
 * own servers are in the global list is another case. FallbackDNS is for hosts with no server at
 * all, and no help against a dead one.
 */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import { readText, targetOf } from './etc-file.ts';
import { RESOLV_CONF } from './host-upstreams.ts';
import { outputOf } from './install-run.ts';
import { readResolvConf } from '../resolv-conf.ts';

/** Later in the order of names than what a package or a person is likely to have. */
const DROP_IN = '/etc/systemd/resolved.conf.d/zerohop.conf';
const MAIN_CONFIG = '/etc/systemd/resolved.conf';
/** resolved.conf(5): the first of these that has a file of a name hides the others. */
const DROP_IN_DIRS = ['/etc', '/run', '/usr/local/lib', '/usr/lib'].map((root) =>
  join(root, 'systemd/resolved.conf.d'),
);
const RUN_DIR = '/run/systemd/resolve/';
const STUB = '127.0.0.53';

export const RESOLVED_DROP_IN = DROP_IN;
export const RESOLVED_RESTART = ['systemctl', 'try-reload-or-restart', 'systemd-resolved.service'];

/** Whether resolv.conf is one of the files that it makes. */
export function isStubLinked(): boolean {
  return targetOf(RESOLV_CONF).startsWith(RUN_DIR);
}

/** Whether programs that read resolv.conf ask it. */
export function isResolvedAsked(): boolean {
  if (!existsSync(RUN_DIR)) return false;
  if (isStubLinked()) return true;
  return readResolvConf(readText(RESOLV_CONF) ?? '').nameservers.includes(STUB);
}

/** Servers of its global list, ours aside. */
export function globalServers(): readonly string[] {
  const files = new Map<string, string>();
  for (const dir of DROP_IN_DIRS)
    for (const name of existsSync(dir) ? readdirSync(dir) : [])
      if (name.endsWith('.conf') && !files.has(name)) files.set(name, join(dir, name));
  const paths = [...files]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, path]) => (name === basename(DROP_IN) ? [] : [path]));
  let servers: string[] = [];
  for (const path of [MAIN_CONFIG, ...paths])
    for (const line of (readText(path) ?? '').split('\n')) {
      const value = /^\s*DNS\s*=(.*)$/.exec(line)?.[1];
      if (value === undefined) continue;
      const words = wordsOf(value);
      servers = words.length === 0 ? [] : [...servers, ...words];
    }
  return servers;
}

export interface ResolvedList {
  /** Absent: the global list. */
  readonly link?: string;
  readonly words: readonly string[];
}

/**
 * What it has now, for each link and for all (resolvectl(1)): its files of links say of themselves
 * that they are not to be read. Without FallbackDNS. undefined: it cannot be asked.
 */
export async function listsOf(
  what: 'dns' | 'domain',
): Promise<readonly ResolvedList[] | undefined> {
  const output = await outputOf(['resolvectl', '--no-pager', what]);
  if (output === undefined) return undefined;
  const lists: { link?: string; words: string[] }[] = [];
  for (const line of output.split('\n')) {
    const [, title, link, rest = line] = HEADING.exec(line) ?? [];
    if (title !== undefined) lists.push({ ...(link === undefined ? {} : { link }), words: [] });
    // Long lists go on in the next line.
    lists.at(-1)?.words.push(...wordsOf(rest));
  }
  return lists;
}

/** `Link 2 (eth0): …`, `Global: …`, and what later versions may have. */
const HEADING = /^(Link \d+ \(([^)]*)\)|[A-Z][^:]*):(.*)$/;

function wordsOf(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

export function dropInText(address: HostPort, domains: readonly string[]): string {
  const server = address.port === 53 ? address.host : formatAddress(address);
  return [
    '# Written by `zerohop dns install`; `zerohop dns uninstall` removes it.',
    '[Resolve]',
    `DNS=${server}`,
    `Domains=${domains.map((domain) => `~${domain}`).join(' ')}`,
    '',
  ].join('\n');
}
