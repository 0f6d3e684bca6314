/**
 * Points this host at the agent's DNS, and back: with a drop-in for systemd-resolved, lines in the
 * files of openresolv or Debian's resolvconf, or in /etc/resolv.conf. Whatever is chosen, the
 * servers that were there go on answering while the agent does not. Looks at what is in the files
 * each time, and keeps no other record; what others wrote stays as it is.
 */
import { existsSync } from 'node:fs';
import { formatAddress, type HostPort } from '../../cluster/address.ts';
import type { VipPools } from '../../catalog/vips.ts';
import { ProblemError } from '../../state/problem.ts';
import {
  NAMESERVERS_MAX,
  readResolvConf,
  serverAddress,
  withoutOwnLines,
  withOwnLines,
} from '../resolv-conf.ts';
import { reverseZones } from '../reverse.ts';
import { isSymlink, readText, remove, targetOf, writeText } from './etc-file.ts';
import { RESOLV_CONF } from './host-upstreams.ts';
import type { Edit, InstallMethod, Plan } from './install-plan.ts';
import { backResolved, planDropIn, tlsOnly } from './install-resolved.ts';
import { run } from './install-run.ts';
import {
  dnssecWarnings,
  kubeletWarnings,
  routeWarnings,
  takenBackWarnings,
  tlsWarnings,
} from './install-warnings.ts';
import {
  BACKUP,
  hashOf,
  planResolvConf,
  planResolvConfBack,
  unmarkedServer,
} from './resolv-conf-file.ts';
import {
  asksOverTlsOnly,
  globalServers,
  isResolvedAsked,
  isResolvedThere,
  isStubLinked,
  isUplinkLinked,
  RESOLVED_DROP_IN,
} from './resolved.ts';

export interface InstallOptions {
  /** Where the agent listens (dns.listen). */
  readonly listen: readonly HostPort[];
  readonly domain: string;
  /** Names of VIPs are asked of us too. */
  readonly pools: VipPools;
  /** Whom the agent asks for other names (dns.upstreams); undefined: what this host has. */
  readonly upstreams?: readonly HostPort[] | undefined;
  /** Beside systemd-resolved: every name is asked of us first, and of that one where we do not answer. */
  readonly all?: boolean;
  /** Looks and plans, and changes nothing. */
  readonly dryRun?: boolean;
}

export interface InstallReport {
  readonly methods: readonly InstallMethod[];
  /** Nothing had to be done where there is none; with dryRun: would be done. */
  readonly steps: readonly string[];
  /** What is not as it could be, with what to do. */
  readonly warnings: readonly string[];
}

const OPENRESOLV_CONF = '/etc/resolvconf.conf';
const DEBIAN_HEAD = '/etc/resolvconf/resolv.conf.d/head';
const DEBIAN_RUN_DIRS = ['/run/resolvconf/', '/etc/resolvconf/run/'];
const RESOLVCONF_UPDATE = ['resolvconf', '-u'];
const NSSWITCH = '/etc/nsswitch.conf';
const DNS_PORT = 53;

/** Rejects with ProblemError where nothing could be done; what is done already is right as it is. */
export async function install(options: InstallOptions): Promise<InstallReport> {
  const plans = await plansFor(options);
  const methods = plans.map(({ method }) => method);
  const { host } = addressFor(options.listen, !methods.includes('resolved'));
  const warnings = kubeletWarnings(host, methods);
  const report = await carryOut(plans, options.dryRun === true);
  return { ...report, warnings: [...report.warnings, ...warnings] };
}

/** All of ours, however it came there. */
export async function uninstall(options: { readonly dryRun?: boolean }): Promise<InstallReport> {
  const byResolvconf = backResolvconf();
  // What resolvconf made of our lines goes when it makes the file anew.
  const isMade = byResolvconf !== undefined && isDebianMade();
  const plans = [
    backResolved(),
    backOpenresolv(),
    byResolvconf,
    isMade ? undefined : planResolvConfBack(),
  ];
  const found = plans.filter((plan) => plan !== undefined);
  return await carryOut(found, options.dryRun === true);
}

/** Where lines of ours are, and where they were before somebody rewrote the file. */
export function installed(): { readonly methods: readonly InstallMethod[]; problem?: string } {
  const has = (path: string): boolean => withoutOwnLines(readText(path) ?? '').mark !== undefined;
  const methods: InstallMethod[] = [];
  const problems: string[] = [];
  if (existsSync(RESOLVED_DROP_IN)) methods.push('resolved');
  if (has(OPENRESOLV_CONF)) methods.push('openresolv');
  if (has(DEBIAN_HEAD)) methods.push('resolvconf');
  if (has(RESOLV_CONF) && !methods.includes('resolvconf')) methods.push('resolv.conf');
  else if (existsSync(BACKUP) && !methods.includes('resolvconf')) {
    const server = unmarkedServer();
    const what =
      server === undefined
        ? 'does not name this agent any more'
        : `names ${server} still, without the marks of our lines`;
    problems.push(
      `${RESOLV_CONF} was rewritten by another program and ${what}: run \`zerohop dns install\` again, or \`zerohop dns uninstall\``,
    );
  }
  if (methods.includes('resolved')) problems.push(...resolvedProblems());
  return { methods, ...(problems.length === 0 ? {} : { problem: problems.join('; ') }) };
}

function resolvedProblems(): string[] {
  const problems = takenBackWarnings();
  const global = globalServers();
  if (global.length > 0)
    problems.push(
      `systemd-resolved has servers for all links since (${global.join(' ')}), and asks the agent for some names only, whatever they are: run \`zerohop dns install\` again`,
    );
  if (asksOverTlsOnly())
    problems.push(
      'systemd-resolved asks over TLS only since (DNSOverTLS=yes), and so not the agent: `zerohop dns install` says what can be done',
    );
  return problems;
}

async function plansFor(options: InstallOptions): Promise<Plan[]> {
  if (isResolvedAsked() || existsSync(RESOLVED_DROP_IN)) return await plansBesideResolved(options);
  if (existsSync(OPENRESOLV_CONF) && isGenerated('resolvconf')) return [planOpenresolv(options)];
  if (isDebianMade()) return [planDebian(options)];
  return [planFile(options, foreignWarnings())];
}

async function plansBesideResolved(options: InstallOptions): Promise<Plan[]> {
  const global = globalServers();
  // Without `DNS=` it would take what our resolv.conf names for servers of its own, and ask them over TLS.
  if (asksOverTlsOnly() && (options.all !== true || global.length === 0))
    throw tlsOnly({ isAllPossible: global.length > 0 });
  const isFirst = options.all === true || global.length > 0;
  const warnings = [
    ...(await tlsWarnings()),
    ...(isFirst ? [...nssWarnings(), ...(await routeWarnings())] : []),
  ];
  if (global.length === 0) {
    const plan = await planResolved(options);
    const own = { ...plan, warnings: [...(plan.warnings ?? []), ...warnings] };
    // A resolv.conf that is made of the servers names ours first by itself.
    return options.all !== true || isUplinkLinked() ? [own] : [own, planFile(options, [])];
  }
  const why = `systemd-resolved has servers for all links (${global.join(' ')}): ours among them would be asked for some names and not for others, so ${RESOLV_CONF} names it before systemd-resolved`;
  const file = planFile(options, [why, ...warnings]);
  // They may have come after our drop-in.
  const back = backResolved();
  return back === undefined ? [file] : [{ ...back, method: file.method }, file];
}

function isDebianMade(): boolean {
  return DEBIAN_RUN_DIRS.some((dir) => targetOf(RESOLV_CONF).startsWith(dir));
}

async function planResolved(options: InstallOptions): Promise<Plan> {
  const { listen, domain, pools, upstreams } = options;
  const address = addressFor(listen, false);
  const domains = [domain, ...[pools.v4, pools.v6].flatMap((pool) => reverseZones(pool))];
  const plan = await planDropIn({
    address,
    domains,
    isOwn: (host) => [address, ...listen].some((own) => serverAddress(own.host) === host),
    hasUpstreams: upstreams !== undefined,
  });
  return { ...plan, warnings: [...takenBackWarnings(), ...dnssecWarnings(domains)] };
}

function planFile(options: InstallOptions, warnings: readonly string[]): Plan {
  const { host } = addressFor(options.listen, true);
  const plan = planResolvConf(host, { replaceStub: isStubLinked() });
  return { ...plan, warnings: [...warnings, ...fileWarnings(host), ...(plan.warnings ?? [])] };
}

/** A shell script that resolvconf(8) reads: what others set there is kept. */
function planOpenresolv({ listen }: InstallOptions): Plan {
  const { host } = addressFor(listen, true);
  const lines = [
    `name_servers="${host} $name_servers"`,
    // Or a server on loopback would be the only one.
    'resolv_conf_local_only=NO',
    'resolv_conf_options="timeout:1 attempts:2 $resolv_conf_options"',
  ];
  return {
    method: 'openresolv',
    edits: ownLinesIn(OPENRESOLV_CONF, lines, `${host} goes first in what resolvconf makes`),
    command: RESOLVCONF_UPDATE,
    check: () => Promise.resolve(madeWarnings(host)),
  };
}

function planDebian({ listen }: InstallOptions): Plan {
  const { host } = addressFor(listen, true);
  const lines = [`nameserver ${host}`, 'options timeout:1 attempts:2'];
  return {
    method: 'resolvconf',
    edits: ownLinesIn(DEBIAN_HEAD, lines, `${host} goes first in what resolvconf makes`),
    command: RESOLVCONF_UPDATE,
    check: () => Promise.resolve(madeWarnings(host)),
  };
}

function ownLinesIn(path: string, lines: readonly string[], what: string): Edit[] {
  const before = readText(path);
  const { rest, mark = hashOf(before) } = withoutOwnLines(before ?? '');
  const after = withOwnLines(rest, { lines, mark, at: 'end' });
  if (after === before) return [];
  return [{ step: `${path}: ${what}`, apply: () => writeText(path, after) }];
}

function backOpenresolv(): Plan | undefined {
  return backOwnLines('openresolv', OPENRESOLV_CONF);
}

function backResolvconf(): Plan | undefined {
  return backOwnLines('resolvconf', DEBIAN_HEAD);
}

function backOwnLines(method: InstallMethod, path: string): Plan | undefined {
  const before = readText(path);
  const { rest, mark } = withoutOwnLines(before ?? '');
  if (mark === undefined) return undefined;
  // We may have ended its last line.
  const texts = [rest, rest.replace(/\n$/, '')];
  const as = texts.find((text) => hashOf(text) === mark) ?? rest;
  const apply = (): void => {
    if (mark === hashOf(undefined) && as === '') remove(path);
    else writeText(path, as);
  };
  const edit = { step: `${path}: our lines are removed`, apply };
  return { method, edits: [edit], command: RESOLVCONF_UPDATE };
}

async function carryOut(plans: readonly Plan[], dryRun: boolean): Promise<InstallReport> {
  const steps: string[] = [];
  const warnings: string[] = [];
  for (const plan of plans) {
    warnings.push(...(plan.warnings ?? []));
    for (const { step, apply } of plan.edits) {
      if (!dryRun) apply();
      steps.push(step);
    }
    if (plan.command !== undefined && plan.edits.length > 0) {
      const problem = dryRun ? undefined : await run(plan.command);
      steps.push(plan.command.join(' '));
      if (problem !== undefined) warnings.push(problem);
    }
    if (!dryRun) warnings.push(...((await plan.check?.()) ?? []));
  }
  const methods = [...new Set(plans.map(({ method }) => method))];
  return { methods, steps, warnings: [...new Set(warnings)] };
}

/** What the host is to ask. resolv.conf(5) has no ports. */
function addressFor(listen: readonly HostPort[], isPortFixed: boolean): HostPort {
  const local = listen.map(({ host, port }) => ({
    host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host,
    port,
  }));
  const chosen = isPortFixed ? local.find(({ port }) => port === DNS_PORT) : local[0];
  if (chosen !== undefined) return chosen;
  const message = `the agent's DNS listens at ${listen.map(formatAddress).join(', ')}, and ${RESOLV_CONF} can only name servers at port ${DNS_PORT}`;
  const hint = 'add an address with port 53 to dns.listen and restart the agent';
  throw new ProblemError([{ code: 'invalid', message, path: 'dns.listen', hint }]);
}

function isGenerated(by: string): boolean {
  return (readText(RESOLV_CONF) ?? '').includes(`Generated by ${by}`);
}

function isResolveInNss(): boolean {
  const hosts = /^hosts:(.*)$/m.exec(readText(NSSWITCH) ?? '')?.[1] ?? '';
  return /\bresolve\b/.test(hosts);
}

function nssWarnings(): string[] {
  if (!isResolveInNss()) return [];
  return [
    `${NSSWITCH} has \`resolve\`: programs that use glibc ask systemd-resolved by D-Bus or varlink and do not read ${RESOLV_CONF}; take \`resolve\` out of its line \`hosts:\` to have them ask the agent first`,
  ];
}

/** resolved reads a resolv.conf that is not its own: one list, within which it keeps to a server. */
function foreignWarnings(): string[] {
  if (!isResolvedThere() || !isResolveInNss()) return [];
  return [
    `${NSSWITCH} has \`resolve\`: programs that use glibc ask systemd-resolved, which takes its servers from ${RESOLV_CONF}, and stays with the next one when the agent was down; take \`resolve\` out of its line \`hosts:\` to have them come back to the agent`,
  ];
}

/** Of what resolvconf made. */
function madeWarnings(host: string): string[] {
  const { nameservers, options } = readResolvConf(readText(RESOLV_CONF) ?? '');
  if (nameservers[0] !== host)
    return [
      `${RESOLV_CONF} does not name ${host} first, though resolvconf was told so: \`resolvconf -u\` says why, or nothing where its updates are off (Debian's: \`resolvconf --enable-updates\`)`,
    ];
  const warnings = serverWarnings(host);
  if (options.includes('rotate'))
    warnings.push(
      `${RESOLV_CONF} has the option \`rotate\`, which asks the other servers for our names each other time: take it out where resolvconf has it from`,
    );
  return warnings;
}

function serverWarnings(host: string): string[] {
  const text = readText(RESOLV_CONF) ?? '';
  const others = readResolvConf(withoutOwnLines(text).rest).nameservers.filter(
    (one) => one !== host,
  );
  const warnings: string[] = [];
  if (others.length === 0)
    warnings.push(
      `${RESOLV_CONF} names no other server: while the agent is down, this host resolves nothing`,
    );
  const left = others.slice(NAMESERVERS_MAX - 1);
  if (left.length > 0)
    warnings.push(
      `the C library asks ${NAMESERVERS_MAX} servers at most: ${left.join(', ')} is not asked any more while the agent is installed`,
    );
  return warnings;
}

function fileWarnings(host: string): string[] {
  const warnings = serverWarnings(host);
  if (isUplinkLinked())
    warnings.push(
      `${RESOLV_CONF} was what systemd-resolved makes of its servers, and is a file now: other servers that it gets later are not in it until this is run again after \`zerohop dns uninstall\``,
    );
  if (isGenerated('NetworkManager') || targetOf(RESOLV_CONF).startsWith('/run/NetworkManager/'))
    warnings.push(
      `NetworkManager writes ${RESOLV_CONF}, and will write it again without our lines: set \`dns=none\` or \`rc-manager=unmanaged\` in its [main], or run this again then`,
    );
  else if (isSymlink(RESOLV_CONF) && !isResolvedAsked())
    warnings.push(
      `${RESOLV_CONF} is a symlink: what writes ${targetOf(RESOLV_CONF)} may write it again without our lines`,
    );
  return warnings;
}
