/**
 * Messages of rtnetlink(7) for the resolver's link: made, and read as far as it takes to know a
 * link again. Integers are in host order (little endian, as datapath/abi.ts says).
 */

/** linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/netlink.h */
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_AF_SPEC = 26;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_INET_CONF = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET = 26;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_F_NODAD = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_PREFSRC = 7;
const RT_TABLE_LOCAL = 255;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const IFF_UP = 1;
const IFF_NOARP = 0x80;

const HEADER_BYTES = 16;
const IFINFO_BYTES = 16;

const joined = (parts: readonly Uint8Array[]): Uint8Array => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** ASCII, with the NUL that the kernel wants of names. */
const text = (value: string): Uint8Array =>
  Uint8Array.from({ length: value.length + 1 }, (_, i) => value.charCodeAt(i) || 0);

function attribute(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const value = joined(parts);
  const bytes = new Uint8Array((4 + value.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

function message(type: number, flags: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = joined(parts);
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | flags, true);
  view.setUint32(8, 1, true);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

function ifinfo(index: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(IFINFO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, flags, true); // which of them are meant
  return bytes;
}

export interface NewLink {
  readonly name: string;
  /** The other end of a veth. Without one it is a dummy. */
  readonly peer?: string;
}

/** A link that is down, without ARP: the far end is nobody's. */
export function newLink({ name, peer }: NewLink): Uint8Array {
  const data =
    peer === undefined
      ? []
      : [
          attribute(
            IFLA_INFO_DATA,
            attribute(VETH_INFO_PEER, ifinfo(0, IFF_NOARP), attribute(IFLA_IFNAME, text(peer))),
          ),
        ];
  return message(
    RTM_NEWLINK,
    NLM_F_CREATE | NLM_F_EXCL,
    ifinfo(0, IFF_NOARP),
    attribute(IFLA_IFNAME, text(name)),
    attribute(
      IFLA_LINKINFO,
      attribute(IFLA_INFO_KIND, text(peer === undefined ? 'dummy' : 'veth')),
      ...data,
    ),
  );
}

/** Says whose it is, in `ip link`. Not taken when a link is made. */
export function setAlias(index: number, alias: string): Uint8Array {
  return message(RTM_NEWLINK, 0, ifinfo(index, 0), attribute(IFLA_IFALIAS, text(alias)));
}

/** No addresses but those it is given. */
export function withoutLinkLocal(index: number): Uint8Array {
  const mode = attribute(IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(IN6_ADDR_GEN_MODE_NONE));
  return message(
    RTM_NEWLINK,
    0,
    ifinfo(index, 0),
    attribute(IFLA_AF_SPEC, attribute(AF_INET6, mode)),
  );
}

/**
 * net.ipv4.conf.NAME.route_localnet, which can be set where /proc/sys cannot be written, too:
 * whether packets to and from 127.0.0.0/8 may come in and go out there.
 */
export function setRoutesLoopback(index: number, isRouting: boolean): Uint8Array {
  const value = Uint8Array.of(Number(isRouting), 0, 0, 0);
  const conf = attribute(IFLA_INET_CONF, attribute(IPV4_DEVCONF_ROUTE_LOCALNET, value));
  return message(
    RTM_NEWLINK,
    0,
    ifinfo(index, 0),
    attribute(IFLA_AF_SPEC, attribute(AF_INET, conf)),
  );
}

export function setUp(index: number): Uint8Array {
  return message(RTM_NEWLINK, 0, ifinfo(index, IFF_UP | IFF_NOARP));
}

/** `address` is 4 or 16 bytes. The route to its block comes with it. */
export function addAddress(index: number, address: Uint8Array, prefixLength: number): Uint8Array {
  const is4 = address.length === 4;
  const head = new Uint8Array(8);
  head[0] = is4 ? AF_INET : AF_INET6;
  head[1] = prefixLength;
  head[2] = is4 ? 0 : IFA_F_NODAD;
  head[3] = is4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  new DataView(head.buffer).setUint32(4, index, true);
  return message(
    RTM_NEWADDR,
    NLM_F_CREATE | NLM_F_REPLACE,
    head,
    attribute(IFA_LOCAL, address),
    attribute(IFA_ADDRESS, address),
  );
}

/**
 * To `there` alone, over the link and from `here`, for every socket of the host: the table that is
 * asked first, before those that rules choose by mark, user or source.
 */
export function addRoute(index: number, here: Uint8Array, there: Uint8Array): Uint8Array {
  const is4 = there.length === 4;
  const head = new Uint8Array(12);
  head[0] = is4 ? AF_INET : AF_INET6;
  head[1] = there.length * 8;
  head[4] = RT_TABLE_LOCAL;
  head[5] = RTPROT_STATIC;
  head[6] = is4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  head[7] = RTN_UNICAST;
  const oif = new Uint8Array(4);
  new DataView(oif.buffer).setUint32(0, index, true);
  return message(
    RTM_NEWROUTE,
    NLM_F_CREATE | NLM_F_REPLACE,
    head,
    attribute(RTA_DST, there),
    attribute(RTA_OIF, oif),
    attribute(RTA_PREFSRC, here),
  );
}

export function deleteLink(index: number): Uint8Array {
  return message(RTM_DELLINK, 0, ifinfo(index, 0));
}

export function getLink(name: string): Uint8Array {
  return message(RTM_GETLINK, 0, ifinfo(0, 0), attribute(IFLA_IFNAME, text(name)));
}

export interface FoundLink {
  readonly index: number;
  readonly alias: string;
  /** See setRoutesLoopback(). */
  readonly routesLoopback: boolean;
}

/** Attributes by type, of those that lie in `bytes` one behind the other. */
function attributesOf(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Map<number, Uint8Array>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

/** Of the answer to getLink(). */
export function readLink(answer: Uint8Array): FoundLink | undefined {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  if (answer.length < HEADER_BYTES + IFINFO_BYTES || view.getUint16(4, true) !== RTM_NEWLINK) {
    return undefined;
  }
  const end = Math.min(view.getUint32(0, true), answer.length);
  const attributes = attributesOf(answer.subarray(HEADER_BYTES + IFINFO_BYTES, end));
  const alias = attributes.get(IFLA_IFALIAS) ?? new Uint8Array();
  // Of IPv4 an answer has the values of all settings as an array; the first is that of number 1.
  const specs = attributesOf(attributes.get(IFLA_AF_SPEC) ?? new Uint8Array());
  const inet = attributesOf(specs.get(AF_INET) ?? new Uint8Array());
  return {
    index: view.getInt32(HEADER_BYTES + 4, true),
    alias: String.fromCharCode(...alias).replace(/\0.*$/s, ''),
    routesLoopback: inet.get(IFLA_INET_CONF)?.[4 * (IPV4_DEVCONF_ROUTE_LOCALNET - 1)] === 1,
  };
}
