/**
 * Which of a program's listening sockets serve which ports of a service, and
 * at what address others reach them. Pure: `zerohop run` asks this again and
 * again while the program opens and closes sockets.
 */
import { parseIp } from '../net/ip.ts';
import { addressClass, whyNoBackend } from '../net/classes.ts';
import type { ServicePort } from '../state/records.ts';
import type { Listener } from './sockets.ts';

export interface SeenListener extends Listener {
  /** An IPv6 wildcard socket that takes IPv4 too (no IPV6_V6ONLY). */
  readonly takesV4: boolean;
}

export interface Wish {
  /** The service's ports that the program may serve. */
  readonly ports: readonly ServicePort[];
  readonly vips: readonly string[];
  /** Where to reach it, instead of what the socket says. */
  readonly address?: string | undefined;
  /** What other members of the cluster reach this host at; empty or absent outside a cluster. */
  readonly hostAddresses?: readonly string[] | undefined;
  /** The one port of the program that counts; for programs with several. */
  readonly listenPort?: number | undefined;
}

export interface Placement {
  readonly portName: string;
  readonly address: string;
  readonly port: number;
}

export interface Placed {
  readonly placements: readonly Placement[];
  /** What could not be decided, for people; the same text for the same state. */
  readonly notices: readonly string[];
}

const isV6 = (address: string): boolean => address.includes(':');

/**
 * Where a socket on all addresses of a family is reached: at the host's address in the cluster, so
 * that others reach it too. Without one of this family loopback stands for all: the service is for
 * programs of this host then.
 */
function hostAddresses(wish: Wish, loopback: string): readonly string[] {
  const found = (wish.hostAddresses ?? []).filter((one) => isV6(one) === isV6(loopback));
  return found.length > 0 ? found : [loopback];
}

function addressesOf(listener: SeenListener, wish: Wish): readonly string[] {
  if (wish.address !== undefined) return [wish.address];
  if (listener.address === '0.0.0.0') return hostAddresses(wish, '127.0.0.1');
  if (listener.address === '::') {
    const v6 = hostAddresses(wish, '::1');
    return listener.takesV4 ? [...hostAddresses(wish, '127.0.0.1'), ...v6] : v6;
  }
  const ip = parseIp(listener.address);
  return ip === undefined || whyNoBackend(ip) !== undefined ? [] : [listener.address];
}

function isLoopback(address: string): boolean {
  const ip = parseIp(address);
  return ip !== undefined && addressClass(ip) === 'loopback';
}

/** Of the placements of one port: what to say if other members of the cluster reach none of them. */
function whyHereOnly(placements: readonly Placement[], wish: Wish): string | undefined {
  const { hostAddresses: hosts = [], address } = wish;
  const [first] = placements;
  if (hosts.length === 0 || address !== undefined || first === undefined) return undefined;
  if (!placements.every((one) => isLoopback(one.address))) return undefined;
  const where = placements.map((one) => one.address).join(' and ');
  return `port "${first.portName}" is registered at ${where}, which only this host reaches: for other hosts let it listen on ${hosts.join(' or ')}, or say --address IP`;
}

/**
 * The program's port for one port of the service: the same number if it listens
 * there, else its only one, else the lowest, with a notice.
 */
function choose(
  port: ServicePort,
  numbers: readonly number[],
  alone: boolean,
  notices: string[],
): number | undefined {
  const [lowest] = numbers;
  if (lowest === undefined || numbers.includes(port.port))
    return lowest === undefined ? undefined : port.port;
  const list = numbers.join(', ');
  if (!alone) {
    notices.push(
      `it listens on ${list}, and none is ${port.port}: say which serves port "${port.name}" with --service NAME:${port.name} --listen PORT`,
    );
    return undefined;
  }
  if (numbers.length > 1) {
    notices.push(
      `it listens on ${list}; ${lowest} is taken for port "${port.name}" (--listen PORT chooses another)`,
    );
  }
  return lowest;
}

export function placeListeners(listeners: readonly SeenListener[], wish: Wish): Placed {
  const placements: Placement[] = [];
  const notices: string[] = [];
  for (const port of wish.ports) {
    const candidates = listeners.filter(
      (one) => one.protocol === port.protocol && (wish.listenPort ?? one.port) === one.port,
    );
    const numbers = [...new Set(candidates.map((one) => one.port))].toSorted((a, b) => a - b);
    const alone = wish.ports.filter((other) => other.protocol === port.protocol).length === 1;
    const chosen = choose(port, numbers, alone, notices);
    const placed = new Map<string, Placement>();
    for (const listener of candidates) {
      if (listener.port !== chosen) continue;
      for (const address of addressesOf(listener, wish)) {
        // A backend of a family without a VIP would never be asked.
        if (!wish.vips.some((vip) => isV6(vip) === isV6(address))) continue;
        placed.set(address, { portName: port.name, address, port: listener.port });
      }
    }
    placements.push(...placed.values());
    const hereOnly = whyHereOnly([...placed.values()], wish);
    if (hereOnly !== undefined) notices.push(hereOnly);
  }
  return { placements, notices };
}

export function samePlacement(a: Placement, b: Placement): boolean {
  return a.portName === b.portName && a.address === b.address && a.port === b.port;
}
