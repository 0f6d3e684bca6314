/**
 * systemd-resolved on this host (systemd-resolved.service(8), resolved.conf(5)): whether programs
 * ask it, what it is told in files, and our drop-in.
 *
 * What it does, as seen of its versions 252 and 257: one list of servers for each link, and a
 * global one. A name under a domain of such a list (`Domains=~…`) is asked there and nowhere else.
 * All other names are asked at every link and the global list at once, and the first good answer
 * wins; that nobody has a name counts as none, and is said when all have answered or are given up.
 * Within one list it keeps to a server until that
 * one fails: two servers in one list that know different names cannot work, so that a host whose
 * own servers are in the global list is another case. FallbackDNS is for hosts with no server at
 * all, and no help against a dead one.
 */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import { readText, targetOf } from './etc-file.ts';
import { RESOLV_CONF, RESOLVED_UPSTREAMS } from './host-upstreams.ts';
import { outputOf } from './install-run.ts';
import { readResolvConf } from '../resolv-conf.ts';

/** Later in the order of names than what a package or a person is likely to have. */
const DROP_IN = '/etc/systemd/resolved.conf.d/zerohop.conf';
/** resolved.conf(5): the first of these that has a file of a name hides the others. */
const CONFIG_DIRS = ['/etc', '/run', '/usr/local/lib', '/usr/lib'].map((root) =>
  join(root, 'systemd'),
);
const MAIN_CONFIG = 'resolved.conf';
const RUN_DIR = '/run/systemd/resolve/';
/** Of the package: names the stub, as the one that resolved makes does. */
const STATIC_STUB = '/lib/systemd/resolv.conf';
const STUB = '127.0.0.53';

export const RESOLVED_DROP_IN = DROP_IN;
export const RESOLVED_RESTART = ['systemctl', 'try-reload-or-restart', 'systemd-resolved.service'];

/** Whether resolv.conf is one of the files that it makes, or of its package: not for us to write. */
export function isStubLinked(): boolean {
  const target = targetOf(RESOLV_CONF);
  return target.startsWith(RUN_DIR) || target.endsWith(STATIC_STUB);
}

/** Whether resolv.conf has the servers themselves, as resolved knows them, and not its stub. */
export function isUplinkLinked(): boolean {
  return targetOf(RESOLV_CONF) === RESOLVED_UPSTREAMS;
}

export function isResolvedThere(): boolean {
  return existsSync(RUN_DIR);
}

/** Whether programs that read resolv.conf ask it. */
export function isResolvedAsked(): boolean {
  if (!isResolvedThere()) return false;
  if (isStubLinked()) return true;
  return readResolvConf(readText(RESOLV_CONF) ?? '').nameservers.includes(STUB);
}

/** Servers of its global list, ours aside. */
export function globalServers(): readonly string[] {
  return configured('DNS');
}

/** Servers for all links, by its files: ours among them, which has no TLS. */
export function asksOverTlsOnly(): boolean {
  return isYes(configured('DNSOverTLS').at(-1) ?? '');
}

export function validates(): boolean {
  const value = configured('DNSSEC').at(-1) ?? '';
  return value === 'allow-downgrade' || isYes(value);
}

/** As systemd has it. */
function isYes(value: string): boolean {
  return /^(1|y|yes|t|true|on)$/i.test(value);
}

type Setting = 'DNS' | 'Domains' | 'DNSSEC' | 'DNSOverTLS';

/** What its files make of a setting without our drop-in: an empty value takes back those before it. */
export function configured(key: Setting): readonly string[] {
  const main = CONFIG_DIRS.map((dir) => join(dir, MAIN_CONFIG)).find((path) => existsSync(path));
  let words: string[] = [];
  for (const path of [...(main === undefined ? [] : [main]), ...dropIns()])
    for (const value of path === DROP_IN ? [] : valuesIn(path, key))
      words = value.length === 0 ? [] : [...words, ...value];
  return words;
}

/** The file that is read after our drop-in and takes back what that says. */
export function takenBackBy(): string | undefined {
  return dropIns().find(
    (path) =>
      basename(path) > basename(DROP_IN) &&
      [...valuesIn(path, 'DNS'), ...valuesIn(path, 'Domains')].some((words) => words.length === 0),
  );
}

/** In the order in which they are read. */
function dropIns(): readonly string[] {
  const files = new Map<string, string>();
  for (const dir of CONFIG_DIRS.map((config) => join(config, `${MAIN_CONFIG}.d`)))
    for (const name of existsSync(dir) ? readdirSync(dir) : [])
      if (name.endsWith('.conf') && !files.has(name)) files.set(name, join(dir, name));
  return [...files].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
}

/** Each time that the file sets it. */
function valuesIn(path: string, key: Setting): readonly string[][] {
  return (readText(path) ?? '').split('\n').flatMap((line) => {
    const [, name, value = ''] = /^\s*(\w+)\s*=(.*)$/.exec(line) ?? [];
    return name === key ? [wordsOf(value)] : [];
  });
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
  what: 'dns' | 'domain' | 'dnsovertls',
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
  // One that others search in must go on being searched: the last word on a domain counts.
  const searched = configured('Domains');
  const marked = domains.map((domain) => (searched.includes(domain) ? domain : `~${domain}`));
  return [
    '# Written by `zerohop dns install`; `zerohop dns uninstall` removes it.',
    '[Resolve]',
    `DNS=${server}`,
    `Domains=${marked.join(' ')}`,
    '',
  ].join('\n');
}
