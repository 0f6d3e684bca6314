// Where a node listens, as text: `10.0.0.7:7946` or `[fd00::7]:7946`. Names are not looked up here.
import { ProblemError } from '../state/problem.ts';

export const DEFAULT_PORT = 7946; // Serf's, which Consul and Docker use for gossip too

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Throws ProblemError; without a port the default one is meant. */
export function parseAddress(text: string): HostPort {
  const match =
    /^\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\](?::(\d{1,5}))?$/.exec(text) ??
    /^([A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1];
  const port = match?.[2] === undefined ? DEFAULT_PORT : Number(match[2]);
  if (host === undefined || port < 1 || port > 65_535) {
    const message = `"${text}" is not an address`;
    const hint = 'write HOST:PORT, with an IPv6 address in brackets: 10.0.0.7:7946, [fd00::7]:7946';
    throw new ProblemError([{ code: 'invalid', message, path: 'address', hint }]);
  }
  return { host, port };
}

export function formatAddress({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
