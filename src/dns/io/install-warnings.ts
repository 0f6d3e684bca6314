/** What `dns install` tells of others on this host that go another way than the C library's. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readText } from './etc-file.ts';
import { RESOLVED_UPSTREAMS } from './host-upstreams.ts';
import type { InstallMethod } from './install-plan.ts';
import { BACKUP } from './resolv-conf-file.ts';
import { isResolvedAsked, listsOf, RESOLVED_DROP_IN, takenBackBy, validates } from './resolved.ts';

const KUBELET = '/var/lib/kubelet';

/**
 * Kubernetes, "Customizing DNS Service": pods with dnsPolicy Default, and CoreDNS among them, have
 * what kubelet's resolvConf says.
 */
export function kubeletWarnings(host: string, methods: readonly InstallMethod[]): string[] {
  const isLoopback = host.startsWith('127.') || host === '::1';
  if (!isLoopback || !existsSync(KUBELET)) return [];
  const without = fileWithoutUs(methods);
  const example = without === undefined ? '' : `, such as ${without}`;
  return [
    `${KUBELET} is there: pods with dnsPolicy Default ask what this host's resolv.conf names, and in a pod ${host} is the pod itself; set kubelet's resolvConf to a file that does not name it${example}`,
  ];
}

/** The copy goes with `dns uninstall`. */
function fileWithoutUs(methods: readonly InstallMethod[]): string | undefined {
  if (methods.some((method) => method !== 'resolv.conf')) return undefined;
  return isResolvedAsked() ? RESOLVED_UPSTREAMS : `a copy of ${BACKUP}`;
}

/**
 * Where every name is asked of us before systemd-resolved: names that it asks at some links only.
 * Servers of a link with nothing but `~domain` are not even in its resolv.conf.
 */
export async function routeWarnings(): Promise<string[]> {
  const servers = new Map<string, readonly string[]>();
  for (const { link, words } of (await listsOf('dns')) ?? [])
    if (link !== undefined && words.length > 0)
      servers.set(
        link,
        words.map((word) => word.replace(/#.*/, '')),
      );
  const warnings: string[] = [];
  for (const { link = '', words } of (await listsOf('domain')) ?? []) {
    const to = servers.get(link)?.join(', ');
    if (to === undefined) continue;
    // A search domain leads nowhere else where only one link has servers.
    const routes = words.filter((word) => word.startsWith('~') || servers.size > 1);
    const zones = [...new Set(routes.map((word) => word.replace(/^~/, '')))];
    const named = zones.filter((zone) => zone !== '.');
    const asks = `systemd-resolved asks the servers of ${link}`;
    if (named.length > 0)
      warnings.push(
        `${asks} for names under ${named.join(' ')}; the agent, which is asked first now, does not: give them in dns.forward (${named.map((zone) => `${zone}: [${to}]`).join(', ')})`,
      );
    if (zones.includes('.'))
      warnings.push(
        `${asks} before those of other links (~.); the agent, which is asked first now, does not: give them in dns.upstreams ([${to}])`,
      );
  }
  return warnings;
}

/** Also where only names of ours are routed to us: resolved asks every list for those of others. */
export async function tlsWarnings(): Promise<string[]> {
  const lists = (await listsOf('dnsovertls')) ?? [];
  const over = lists.filter(({ words }) =>
    words.some((word) => word === 'yes' || word === 'opportunistic'),
  );
  if (over.length === 0) return [];
  const isForAll = over.some(({ link }) => link === undefined);
  const where = isForAll ? 'all links' : over.map(({ link }) => link).join(', ');
  return [
    `systemd-resolved asks over TLS (DNSOverTLS, ${where}); the agent is asked for names of others too now, and asks in plain text`,
  ];
}

export function takenBackWarnings(): string[] {
  const path = takenBackBy();
  if (path === undefined) return [];
  return [
    `${path} empties DNS= or Domains= after ${RESOLVED_DROP_IN}, so that systemd-resolved does not ask the agent for its names: take that out, or give the file a name that comes before it`,
  ];
}

const TRUST_DIRS = ['/etc', '/run', '/usr/lib'].map((root) => join(root, 'dnssec-trust-anchors.d'));
/** Of those built in (dns_trust_anchor_add_builtin_negative() of 252 and 257) what a zone of ours may be in. */
const BUILT_IN =
  'internal home.arpa corp home intranet lan local private test d.f.ip6.arpa 10.in-addr.arpa 168.192.in-addr.arpa'
    .split(' ')
    .concat(Array.from({ length: 16 }, (_, i) => `${16 + i}.172.in-addr.arpa`));

/** Names that it wants to see signed. A zone below one that is signed may be known as unsigned there. */
export function dnssecWarnings(domains: readonly string[]): string[] {
  if (!validates()) return [];
  const given = negativeAnchors();
  const anchors = given.length > 0 ? given : BUILT_IN;
  const open = domains.filter(
    (domain) => !anchors.some((anchor) => `.${domain}`.endsWith(`.${anchor}`)),
  );
  if (open.length === 0) return [];
  return [
    `systemd-resolved wants signatures (DNSSEC=) and the agent has none: names under ${open.join(' ')} fail where the zone above is signed; name these in ${TRUST_DIRS[0]}/zerohop.negative, with all that is built in and meant to stay, as such a file takes its place (dnssec-trust-anchors.d(5)), and restart systemd-resolved`,
  ];
}

function negativeAnchors(): string[] {
  const files = new Map<string, string>();
  for (const dir of TRUST_DIRS)
    for (const name of existsSync(dir) ? readdirSync(dir) : [])
      if (name.endsWith('.negative') && !files.has(name)) files.set(name, join(dir, name));
  return [...files.values()]
    .flatMap((path) => (readText(path) ?? '').split('\n'))
    .map((line) => line.trim().replace(/\.$/, ''))
    .filter((line) => line !== '' && !/^[#;]/.test(line));
}
