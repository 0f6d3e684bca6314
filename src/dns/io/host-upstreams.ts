/**
 * The name servers that this host has beside us: what /etc/resolv.conf says, and behind the stub of
 * systemd-resolved what that one uses. Looked at now and then: files of a few lines, replaced
 * by DHCP clients and others in ways that no watch follows.
 */
import { readFileSync, statSync } from 'node:fs';
import type { HostPort } from '../../cluster/address.ts';
import { readResolvConf, serverAddress, withoutOwnLines } from '../resolv-conf.ts';

export const RESOLV_CONF = '/etc/resolv.conf';
/** What resolved asks itself; resolv.conf names only its stub. */
export const RESOLVED_UPSTREAMS = '/run/systemd/resolve/resolv.conf';
const STUBS: ReadonlySet<string> = new Set(['127.0.0.53', '127.0.0.54']);
const DNS_PORT = 53;
/** A guess: more than anybody writes down. */
const UPSTREAMS_MAX = 16;

export interface Paths {
  readonly resolvConf: string;
  readonly resolved: string;
}

const PATHS: Paths = { resolvConf: RESOLV_CONF, resolved: RESOLVED_UPSTREAMS };

/** `isOwn`: whether a server, in canonical text, is ourselves. None where there is no file, or nothing else in it. */
export function hostUpstreams(
  isOwn: (host: string, port: number) => boolean,
  paths: Paths = PATHS,
): readonly HostPort[] {
  const named = nameserversOf(paths.resolvConf);
  const behind = named.some((host) => STUBS.has(host)) ? nameserversOf(paths.resolved) : [];
  const hosts = named.flatMap((host) => (STUBS.has(host) ? behind : [host]));
  return [...new Set(hosts)]
    .filter((host) => !STUBS.has(host) && !isOwn(host, DNS_PORT))
    .slice(0, UPSTREAMS_MAX)
    .map((host) => ({ host, port: DNS_PORT }));
}

/** Another text: one of the files is not what it was. */
export function hostUpstreamsStamp({ resolvConf, resolved }: Paths = PATHS): string {
  return [resolvConf, resolved].map(stampOf).join(' ');
}

function nameserversOf(path: string): readonly string[] {
  try {
    const { nameservers } = readResolvConf(withoutOwnLines(readFileSync(path, 'utf8')).rest);
    return nameservers.flatMap((server) => serverAddress(server) ?? []);
  } catch {
    return [];
  }
}

function stampOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}`;
  } catch {
    return '-';
  }
}
