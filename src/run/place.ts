/**
 * Which of a program's listening sockets serve which ports of a service, and
 * at what address others reach them. Pure: `zerohop run` asks this again and
 * again while the program opens and closes sockets.
 */
import { parseIp } from '../net/ip.ts';
import { whyNoBackend } from '../net/classes.ts';
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

/** Loopback stands for "all addresses": the service is for programs of this host. */
function addressesOf(listener: SeenListener, wish: Wish): readonly string[] {
  if (wish.address !== undefined) return [wish.address];
  if (listener.address === '0.0.0.0') return ['127.0.0.1'];
  if (listener.address === '::') return listener.takesV4 ? ['127.0.0.1', '::1'] : ['::1'];
  const ip = parseIp(listener.address);
  return ip === undefined || whyNoBackend(ip) !== undefined ? [] : [listener.address];
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
  const placements = new Map<string, Placement>();
  const notices: string[] = [];
  for (const port of wish.ports) {
    const candidates = listeners.filter(
      (one) => one.protocol === port.protocol && (wish.listenPort ?? one.port) === one.port,
    );
    const numbers = [...new Set(candidates.map((one) => one.port))].toSorted((a, b) => a - b);
    const alone = wish.ports.filter((other) => other.protocol === port.protocol).length === 1;
    const chosen = choose(port, numbers, alone, notices);
    for (const listener of candidates) {
      if (listener.port !== chosen) continue;
      for (const address of addressesOf(listener, wish)) {
        // A backend of a family without a VIP would never be asked.
        if (!wish.vips.some((vip) => vip.includes(':') === address.includes(':'))) continue;
        placements.set(`${port.name} ${address}`, {
          portName: port.name,
          address,
          port: listener.port,
        });
      }
    }
  }
  return { placements: [...placements.values()], notices };
}

export function samePlacement(a: Placement, b: Placement): boolean {
  return a.portName === b.portName && a.address === b.address && a.port === b.port;
}
