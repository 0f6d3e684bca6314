/**
 * The resolver's own link, zerohop0: made over netlink, known again by its alias, taken away. What
 * runs on it is kernel.ts's. A veth, as every kernel has it and NetworkManager leaves it alone;
 * else a dummy.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { BpfError, netlinkRequest } from '../../../addon/index.ts';
import { formatIp, parseIp } from '../../net/ip.ts';
import { DNS_LINK, DNS_LINK_HERE, DNS_LINK_THERE } from '../../net/own-link.ts';
import * as rt from '../rtnetlink.ts';

const NETLINK_ROUTE = 0;

const NAME = DNS_LINK;
const PEER = 'zerohop0-far';
/** Of links with these addresses; others began with OURS too. */
const ALIAS = 'zerohop dns 2';
const OURS = 'zerohop dns';
/** What is to be put back when the link goes, whoever takes it away (see routeOnLoopback()). */
const ALIAS_NOTED = `${ALIAS}, lo.route_localnet was 0`;

const LOOPBACK = 'lo';
/** Of every network namespace (LOOPBACK_IFINDEX of include/net/flow.h). */
export const LOOPBACK_INDEX = 1;

export interface LinkEnds {
  readonly here: string;
  readonly there: string;
  readonly prefixLength: number;
}

export type LinkAddresses = { readonly [family in 4 | 6]: LinkEnds };

/**
 * IPv4's are loopback's, which other interfaces take no packets of. IPv6 has no such block that can
 * be routed: those are drawn for each link (RFC 4193, with all that a prefix of 127 leaves), so that
 * a neighbour would have to guess 119 bits. Those of a link that is there stay.
 */
export function linkAddresses(): LinkAddresses {
  return {
    4: { here: DNS_LINK_HERE, there: DNS_LINK_THERE, prefixLength: 31 },
    6: ends6(held6() ?? Uint8Array.of(0xfd, ...randomBytes(15))),
  };
}

function ends6(address: Uint8Array): LinkEnds {
  const [here, there] = [Uint8Array.from(address), Uint8Array.from(address)];
  here[15] = (address[15] ?? 0) & 0xfe;
  there[15] = (address[15] ?? 0) | 1;
  return { here: formatIp(here), there: formatIp(there), prefixLength: 127 };
}

/** The address of the link of an agent before, that clients may be led to. */
function held6(): Uint8Array | undefined {
  let text: string;
  try {
    text = readFileSync('/proc/net/if_inet6', 'utf8');
  } catch {
    return undefined; // a host without IPv6
  }
  const line = new RegExp(`^(fd[0-9a-f]{30}) [0-9a-f]+ 7f .* ${NAME}$`, 'm').exec(text);
  return line?.[1] === undefined ? undefined : Uint8Array.from(Buffer.from(line[1], 'hex'));
}

/** 4 or 16 bytes. */
export function addressBytes(text: string): Uint8Array {
  const bytes = parseIp(text);
  if (bytes === undefined) throw new Error(`bug: ${text} is no address`);
  return text.includes(':') ? bytes : bytes.subarray(12);
}

export interface DnsLink {
  readonly index: number;
  /** Why there is no IPv6. */
  readonly without6: string | undefined;
}

function ask(message: Uint8Array): Uint8Array {
  return netlinkRequest(NETLINK_ROUTE, message);
}

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof BpfError && codes.includes(error.code);
}

function find(name: string): rt.FoundLink | undefined {
  try {
    return rt.readLink(ask(rt.getLink(name)));
  } catch (error) {
    if (isCode(error, 'ENODEV')) return undefined;
    throw error;
  }
}

function make(): rt.FoundLink {
  try {
    ask(rt.newLink({ name: NAME, peer: PEER }));
  } catch (error) {
    if (!isCode(error, 'EOPNOTSUPP')) throw error;
    ask(rt.newLink({ name: NAME }));
  }
  const link = find(NAME);
  if (link === undefined) throw new Error(`${NAME} was made, and is not there`);
  return link;
}

const isCurrent = (alias: string): boolean => alias === ALIAS || alias === ALIAS_NOTED;

/** Whether an agent of another version, which had other addresses, left its link here. */
export function isLinkOutdated(): boolean {
  const { alias = '' } = find(NAME) ?? {};
  return alias.startsWith(OURS) && !isCurrent(alias);
}

/** Makes the link, or takes over one that is ours; throws where neither can be. */
export function openLink(wants6: boolean, addresses: LinkAddresses): DnsLink {
  const found = find(NAME);
  // Without an alias it is one of ours too: of an agent that died in between.
  if (found !== undefined && !isCurrent(found.alias) && found.alias !== '') {
    throw new Error(`there is another interface called ${NAME} ("${found.alias}")`);
  }
  const { index, alias } = found ?? make();
  if (alias === '') ask(rt.setAlias(index, ALIAS));
  const far = find(PEER);
  for (const end of far === undefined ? [index] : [index, far.index]) {
    try {
      ask(rt.withoutLinkLocal(end));
    } catch (error) {
      // A host without IPv6.
      if (!isCode(error, 'EAFNOSUPPORT', 'EOPNOTSUPP', 'EINVAL')) throw error;
    }
    ask(rt.setUp(end));
  }
  ask(rt.setRoutesLoopback(index, true));
  addAddresses(index, addresses[4]);
  return { index, without6: wants6 ? add6(index, addresses[6]) : 'not asked for' };
}

/** IPv6 of a link that is there, as it came or went since. */
export function withIpv6(link: DnsLink, addresses: LinkAddresses): DnsLink {
  return { ...link, without6: add6(link.index, addresses[6]) };
}

function addAddresses(index: number, { here, there, prefixLength }: LinkEnds): void {
  ask(rt.addAddress(index, addressBytes(here), prefixLength));
  ask(rt.addRoute(index, addressBytes(here), addressBytes(there)));
}

function add6(index: number, ends: LinkEnds): string | undefined {
  try {
    addAddresses(index, ends);
    return undefined;
  } catch (error) {
    // EACCES: net.ipv6.conf.*.disable_ipv6; ENODEV: the link was taken away
    if (!isCode(error, 'EACCES', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'ENODEV')) throw error;
    return 'this host has no IPv6';
  }
}

const CONF = '/proc/sys/net/ipv4/conf';

/**
 * Why the link's addresses can be reached, and forged, from outside: an interface takes packets to
 * and from 127.0.0.0/8, or (`all`) each of them does. Undefined: none does.
 */
export function whyLoopbackIsOpen(): string | undefined {
  const own = ['all', 'default', LOOPBACK, NAME, PEER];
  const others = readdirSync(CONF).filter((name) => !own.includes(name));
  const open = ['all', ...others].find(routesLoopback);
  if (open === undefined) return undefined;
  const setting = `net.ipv4.conf.${open.replaceAll('.', '/')}.route_localnet`; // as sysctl(8) wants eth0.5
  return `${setting} is not 0: neighbours reach loopback addresses there, and could forge answers. Set it to 0, unless Docker (without its userland proxy), CNI's portmap or kube-proxy need it: then user space goes on answering`;
}

function routesLoopback(name: string): boolean {
  try {
    return readFileSync(`${CONF}/${name}/route_localnet`, 'utf8').trim() !== '0';
  } catch (error) {
    // It went away meanwhile.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Packets of the link that come in on lo are routed as from outside, and lo takes none to 127.0.0.0/8
 * that are; those of others on lo have their route already. So it is set on lo while answers come in
 * there, and what it was is noted in the link's alias: that lasts as long as the setting may, and
 * whoever takes the link away sees it. (If others delete the link while no agent runs, it stays set.)
 * `wasOff` is what the call before said, for a link that was made anew meanwhile.
 */
export function routeOnLoopback(isWanted: boolean, wasOff: boolean): boolean {
  const link = find(NAME);
  if (link === undefined || !isCurrent(link.alias)) return wasOff;
  const isNoted = link.alias === ALIAS_NOTED;
  if (!isWanted) {
    if (isNoted || wasOff) putBack(link.index);
    return false;
  }
  if (!isNoted) {
    if (!wasOff && find(LOOPBACK)?.routesLoopback === true) return false;
    ask(rt.setAlias(link.index, ALIAS_NOTED));
  }
  ask(rt.setRoutesLoopback(LOOPBACK_INDEX, true));
  return true;
}

function putBack(index: number): void {
  ask(rt.setRoutesLoopback(LOOPBACK_INDEX, false));
  ask(rt.setAlias(index, ALIAS));
}

function findOurs(): rt.FoundLink | undefined {
  const found = find(NAME);
  return found?.alias.startsWith(OURS) === true ? found : undefined;
}

/** Index of the link, if there is one and it is ours. */
export function findLink(): number | undefined {
  return findOurs()?.index;
}

/** Takes it away if it is ours; its routes and programs go with it. */
export function removeLink(): boolean {
  const found = findOurs();
  if (found === undefined) return false;
  if (found.alias === ALIAS_NOTED) putBack(found.index);
  ask(rt.deleteLink(found.index));
  return true;
}
