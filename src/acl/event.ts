/**
 * One verdict in words: what the ring buffer's bytes become for `acl log`. The
 * names come from whoever knows them; a number stands where nobody does.
 */
import { formatEndpoint, formatIp } from '../net/ip.ts';
import { protocolName } from '../datapath/text.ts';
import { aclHook, verdictNumber, type AclEvent } from './abi.ts';

/** What stands for rule 0 where a rule's name would; names of rules have no capitals. */
export const defaultRule = 'defaultAction';

export interface AclLogEntry {
  readonly time: string;
  readonly verdict: 'deny' | 'audit';
  readonly rule: string;
  /** Who called; of what came from outside: the program that listens. */
  readonly workload: {
    readonly cgroup?: string;
    readonly unit?: string;
    readonly pid?: number;
    readonly command?: string;
    readonly user?: string;
    readonly uid?: number;
    readonly gid?: number;
  };
  /** Of what came from outside. */
  readonly source?: string;
  readonly destination: {
    /** `10.0.0.1:6379`; of what came from outside only the port. */
    readonly address?: string;
    readonly port: number;
    readonly protocol: string;
    readonly service?: string;
    readonly portName?: string;
  };
  /** The VIP that was asked for. */
  readonly via?: string;
  readonly hook: string;
}

export interface EndpointName {
  readonly service: string;
  readonly portName: string;
}

export interface EventNames {
  rule(number: number): string | undefined;
  /** The service that has this VIP, or this backend. */
  endpoint(address: string, port: number, protocol: string): EndpointName | undefined;
  cgroup(id: bigint, pid: number): string | undefined;
  user(uid: number): string | undefined;
}

const hookNames: Readonly<Record<number, string>> = {
  [aclHook.lsmConnect]: 'lsm/socket_connect',
  [aclHook.lsmSendmsg]: 'lsm/socket_sendmsg',
  [aclHook.cgroupConnect]: 'cgroup/connect',
  [aclHook.cgroupSendmsg]: 'cgroup/sendmsg',
  [aclHook.ingress]: 'cgroup_skb/ingress',
};

/**
 * The system unit that a cgroup path is in: only slices stand above it. Units
 * of a user's own manager are not it (README: what a rule means). A `_` that
 * systemd put before the name is not part of it.
 */
export function unitOf(path: string): string | undefined {
  let slice: string | undefined;
  for (const folder of path.split('/').slice(1)) {
    const name = folder.startsWith('_') ? folder.slice(1) : folder;
    if (name.endsWith('.slice')) slice = name;
    else return /\.(service|scope|socket|mount|swap)$/.test(name) ? name : slice;
  }
  return slice;
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  // Latin-1: a command's name may be any bytes.
  return String.fromCharCode(...bytes.subarray(0, end < 0 ? bytes.length : end));
}

function optional<Key extends string, Value>(
  key: Key,
  value: Value | undefined,
): { readonly [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: Value };
}

function workloadOf(event: AclEvent, names: EventNames): AclLogEntry['workload'] {
  const cgroup = names.cgroup(event.cgroupId, event.pid);
  const place = {
    ...optional('cgroup', cgroup),
    ...optional('unit', cgroup === undefined ? undefined : unitOf(cgroup)),
  };
  if (event.hook === aclHook.ingress) return place;
  return {
    ...place,
    pid: event.pid,
    command: textOf(event.comm),
    ...optional('user', names.user(event.uid)),
    uid: event.uid,
    gid: event.gid,
  };
}

/** `time` is the event's own, RFC 3339. */
export function logEntry(event: AclEvent, time: string, names: EventNames): AclLogEntry {
  const protocol = protocolName(event.protocol);
  const address = formatIp(event.addr);
  const ingress = event.hook === aclHook.ingress;
  const vip = event.vip.some((byte) => byte !== 0) ? formatIp(event.vip) : undefined;
  const name =
    vip === undefined
      ? names.endpoint(ingress ? '' : address, event.port, protocol)
      : (names.endpoint(vip, event.vipPort, protocol) ??
        names.endpoint(address, event.port, protocol));
  return {
    time,
    verdict: event.verdict === verdictNumber.deny ? 'deny' : 'audit',
    rule: event.rule === 0 ? defaultRule : (names.rule(event.rule) ?? `rule ${event.rule}`),
    workload: workloadOf(event, names),
    ...optional('source', ingress ? address : undefined),
    destination: {
      ...optional('address', ingress ? undefined : formatEndpoint(address, event.port)),
      port: event.port,
      protocol,
      ...name,
    },
    ...optional('via', vip === undefined ? undefined : formatEndpoint(vip, event.vipPort)),
    hook: hookNames[event.hook] ?? `hook ${event.hook}`,
  };
}
