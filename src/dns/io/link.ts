/**
 * The resolver's own link, zerohop0: made over netlink, known again by its alias, taken away. What
 * runs on it is kernel.ts's. A veth, as every kernel has it and NetworkManager leaves it alone;
 * else a dummy.
 */
import { BpfError, netlinkRequest } from '../../../addon/index.ts';
import { parseIp } from '../../net/ip.ts';
import { DNS_LINK } from '../../net/own-link.ts';
import * as rt from '../rtnetlink.ts';

const NETLINK_ROUTE = 0;

const NAME = DNS_LINK;
const PEER = 'zerohop0-far';
const ALIAS = 'zerohop dns';

/** IPv4's are link-local (RFC 3927), IPv6's unique-local with a random prefix (RFC 4193): nobody else's, most likely. */
export const linkAddresses = {
  4: { here: '169.254.53.54', there: '169.254.53.55', prefixLength: 31 },
  6: { here: 'fd6d:91c4:5a37:53::36', there: 'fd6d:91c4:5a37:53::37', prefixLength: 127 },
} as const;

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

/** Makes the link, or takes over one that is ours; throws where neither can be. */
export function openLink(wants6: boolean): DnsLink {
  const found = find(NAME);
  // Without an alias it is one of ours too: of an agent that died in between.
  if (found !== undefined && found.alias !== ALIAS && found.alias !== '') {
    throw new Error(`there is another interface called ${NAME} ("${found.alias}")`);
  }
  const { index } = found ?? make();
  ask(rt.setAlias(index, ALIAS));
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
  addAddresses(index, 4);
  return { index, without6: wants6 ? add6(index) : 'not asked for' };
}

function addAddresses(index: number, family: 4 | 6): void {
  const { here, there, prefixLength } = linkAddresses[family];
  ask(rt.addAddress(index, addressBytes(here), prefixLength));
  ask(rt.addRoute(index, addressBytes(there)));
}

function add6(index: number): string | undefined {
  try {
    addAddresses(index, 6);
    return undefined;
  } catch (error) {
    // EACCES: net.ipv6.conf.*.disable_ipv6
    if (!isCode(error, 'EACCES', 'EAFNOSUPPORT', 'EOPNOTSUPP')) throw error;
    return 'this host has no IPv6';
  }
}

/** Index of the link, if there is one and it is ours. */
export function findLink(): number | undefined {
  const found = find(NAME);
  return found?.alias === ALIAS ? found.index : undefined;
}

/** Takes it away if it is ours; its routes and programs go with it. */
export function removeLink(): boolean {
  const index = findLink();
  if (index === undefined) return false;
  ask(rt.deleteLink(index));
  return true;
}
