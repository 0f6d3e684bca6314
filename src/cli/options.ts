/**
 * Options that several commands share. Each long option can be given by an
 * environment variable too: `--dry-run` is ZEROHOP_DRY_RUN.
 */
import { Option, type Command } from 'commander';
import type { ApiClient } from '../api/io/client.ts';
import { DEFAULT_SOCKET_PATH } from '../config/defaults.ts';
import { UsageError } from './output.ts';

export function option(flags: string, description: string): Option {
  const made = new Option(flags, description);
  const name = (made.long ?? '').replace(/^--/, '').replaceAll('-', '_').toUpperCase();
  return made.env(`ZEROHOP_${name}`);
}

/** An option that may be given several times; its variable takes a list with commas. */
export function listOption(flags: string, description: string): Option {
  return option(flags, description).argParser(
    (value: string, before: readonly string[] | undefined) => [
      ...(before ?? []),
      ...value.split(',').map((part) => part.trim()),
    ],
  );
}

export interface ClientOptions {
  readonly socket: string;
  readonly json?: true;
}

/** `--socket` and `--json`, for every command that asks the agent. */
export function clientCommand(command: Command): Command {
  return command
    .addOption(option('--socket <path>', "the agent's socket").default(DEFAULT_SOCKET_PATH))
    .addOption(option('--json', 'print one JSON document'));
}

export async function connect(options: ClientOptions): Promise<ApiClient> {
  const { ApiClient: Client } = await import('../api/io/client.ts');
  return new Client(options.socket);
}

/** A whole number as typed. */
export function wholeNumber(text: string, what: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value < min || value > max) {
    throw new UsageError(`${what} "${text}" is not a whole number in ${min}–${max}`);
  }
  return value;
}

/** `web:http` → web, http; `web` → web, undefined. */
export function splitService(text: string): { service: string; port: string | undefined } {
  const colon = text.indexOf(':');
  if (colon < 0) return { service: text, port: undefined };
  const port = text.slice(colon + 1);
  if (colon === 0 || port === '')
    throw new UsageError(`"${text}" is not SERVICE or SERVICE:PORTNAME`);
  return { service: text.slice(0, colon), port };
}

export interface PortArgument {
  readonly name?: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

/** `[NAME:]PORT[/tcp|/udp]`; without a name the agent calls it `tcp-80`. */
export function parsePort(text: string): PortArgument {
  const match = /^(?:([^:/]+):)?([0-9]{1,6})(?:\/([A-Za-z]+))?$/.exec(text);
  const protocol = match?.[3]?.toLowerCase() ?? 'tcp';
  if (match === null || (protocol !== 'tcp' && protocol !== 'udp')) {
    throw new UsageError(
      `port "${text}" is not [NAME:]PORT[/tcp|/udp]`,
      'for example 80, http:80, 53/udp or dns:53/udp',
    );
  }
  const port = wholeNumber(match[2] ?? '', 'port', 1, 65_535);
  return { ...(match[1] === undefined ? {} : { name: match[1] }), port, protocol };
}

export function parseWeight(text: string): number {
  return wholeNumber(text, 'weight', 0, 65_535);
}
