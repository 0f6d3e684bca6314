/** `zerohop run`: run a program as a backend of a service, from its first listen() to its end. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import type { ApiClient } from '../api/io/client.ts';
import type { ServiceAnswer, StatusAnswer } from '../api/schemas.ts';
import { canonicalIp } from '../net/ip.ts';
import { ProblemError } from '../state/problem.ts';
import type { ServicePort } from '../state/records.ts';
import { connect, option, parsePort, parseWeight, splitService, wholeNumber } from './options.ts';
import { note, UsageError } from './output.ts';
import { DEFAULT_SOCKET_PATH } from '../config/defaults.ts';

interface RunOptions {
  readonly service: string;
  readonly socket: string;
  readonly weight?: string;
  readonly address?: string;
  readonly listen?: string;
  readonly quiet?: true;
}

/** As the shells have it: the command was not found. */
const EXIT_NO_COMMAND = 127;

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function onPath(name: string): boolean {
  if (name.includes('/')) return isProgram(name);
  const directories = (process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin').split(delimiter);
  return directories.some((directory) => isProgram(join(directory, name)));
}

type Service = ServiceAnswer['service'];

/** `80`, `53/udp` or nothing if it is a name. */
function asNumber(port: string): ReturnType<typeof parsePort> | undefined {
  return /^[0-9]+(\/|$)/.test(port) ? parsePort(port) : undefined;
}

async function findOrCreate(
  agent: ApiClient,
  name: string,
  port: string | undefined,
): Promise<Service> {
  const { step } = await import('../api/io/client.ts');
  const path = `/v1/services/${step(name)}`;
  try {
    return (await agent.call<ServiceAnswer>('GET', path)).service;
  } catch (error) {
    if (!(error instanceof ProblemError) || error.problems[0]?.code !== 'not-found') throw error;
    const number = port === undefined ? undefined : asNumber(port);
    if (number === undefined) {
      const hint = `\`zerohop service add ${name} --port PORT\` makes it, or --service ${name}:PORT; ${error.problems[0].hint ?? ''}`;
      throw new ProblemError([{ ...error.problems[0], hint }], { cause: error });
    }
    await agent.call('POST', '/v1/services', {}, { name, ports: [number] });
    const { service } = await agent.call<ServiceAnswer>('GET', path);
    return service;
  }
}

function choosePorts(service: Service, port: string | undefined): readonly ServicePort[] {
  if (port === undefined) return service.ports;
  const number = asNumber(port);
  const found = service.ports.filter((one) =>
    number === undefined
      ? one.name === port
      : one.port === number.port && (!port.includes('/') || one.protocol === number.protocol),
  );
  if (found.length > 0) return found;
  const known = service.ports.map((one) => `${one.name} (${one.port}/${one.protocol})`).join(', ');
  throw new ProblemError([
    {
      code: 'not-found',
      message: `"${service.name}" has no port "${port}"`,
      hint: `it has ${known}`,
    },
  ]);
}

function parseAddress(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const address = canonicalIp(text);
  if (address === undefined) throw new UsageError(`address "${text}" is not an IP address`);
  return address;
}

async function run(command: readonly string[], options: RunOptions): Promise<void> {
  const { service: name, port } = splitService(options.service.toLowerCase());
  const weight = options.weight === undefined ? undefined : parseWeight(options.weight);
  const address = parseAddress(options.address);
  const listenPort =
    options.listen === undefined ? undefined : wholeNumber(options.listen, 'port', 1, 65_535);
  const [program = ''] = command;
  if (!onPath(program)) {
    note(`zerohop: ${program}: command not found`);
    process.exitCode = EXIT_NO_COMMAND;
    return;
  }
  const agent = await connect(options);
  const { cgroupPath } = await agent.call<StatusAnswer>('GET', '/v1/status');
  const service = await findOrCreate(agent, name, port);
  const wish = { ports: choosePorts(service, port), vips: service.vips, address, listenPort };

  const { createRunCgroup } = await import('../run/io/cgroup.ts');
  const { HostWatch } = await import('../run/io/host.ts');
  const { Registration } = await import('../run/io/registration.ts');
  const { supervise } = await import('../run/io/supervise.ts');
  const { ownerOfSelf } = await import('../state/io/owners.ts');
  const tell =
    options.quiet === true
      ? (): void => undefined
      : (text: string): void => note(`zerohop: ${text}`);
  // Only the program's name: arguments may hold secrets, and owners are shown to everybody.
  const owner = ownerOfSelf(program.split('/').at(-1) ?? program);
  const registration = new Registration({ agent, service: name, owner, weight, tell });
  const cgroup = createRunCgroup(cgroupPath, name);
  const host = new HostWatch(agent, () => performance.now());
  process.exitCode = await supervise({ command, cgroup, registration, wish, host });
}

const HELP = `
The program runs in a cgroup of its own; whatever port it (or a child) listens on is
found and registered, and removed when it ends, even by kill -9. Signals are passed on;
SIGTERM drains first. The exit code is the program's.

A socket on all addresses is registered as 127.0.0.1, and as ::1 if it takes IPv6; in a
cluster at this host's address there, so that other hosts reach it. --address says
otherwise. With :PORT the service is made if it does not exist.

Examples:
  zerohop run --service web:80 -- python3 -m http.server 0
  zerohop run --service shop:https --weight 3 -- ./server --listen 127.0.0.1:8443`;

export function registerRun(program: Command): void {
  program
    .command('run')
    .argument('<command...>', 'the program and its arguments, after --')
    .description('run a program as a backend of a service')
    .addOption(
      option(
        '--service <name[:port]>',
        'the service, and which of its ports',
      ).makeOptionMandatory(),
    )
    .addOption(option('--weight <n>', '0–65535, its share of new connections (default: 1)'))
    .addOption(option('--address <ip>', 'the address to register instead of what its socket says'))
    .addOption(option('--listen <port>', 'which of its ports counts, if it listens on several'))
    .addOption(option('--socket <path>', "the agent's socket").default(DEFAULT_SOCKET_PATH))
    .addOption(option('-q, --quiet', "say nothing of one's own"))
    .passThroughOptions()
    .addHelpText('after', HELP)
    .action(run);
}
