/** `zerohop backend`: add, list, drain and remove backends. */
import type { Command } from 'commander';
import type { BackendListAnswer, OutcomeAnswer } from '../api/schemas.ts';
import { formatEndpoint, parseEndpoint } from '../net/ip.ts';
import { BACKEND_HEADERS, backendCells } from './backend-text.ts';
import {
  clientCommand,
  connect,
  option,
  parseWeight,
  splitService,
  type ClientOptions,
} from './options.ts';
import { note, print, printJson, printOutcome, UsageError } from './output.ts';

interface ChangeOptions extends ClientOptions {
  readonly dryRun?: true;
}

function checkedEndpoint(text: string): string {
  const endpoint = parseEndpoint(text);
  if (endpoint === undefined) {
    throw new UsageError(
      `"${text}" is no ADDR:PORT`,
      'for example 10.0.0.1:8080 or [fd00::1]:8080; ports are 1–65535',
    );
  }
  return formatEndpoint(endpoint.address, endpoint.port);
}

async function change(
  method: 'PUT' | 'PATCH' | 'DELETE',
  target: string,
  endpoint: string,
  options: ChangeOptions,
  body?: object,
): Promise<void> {
  const { service, port } = splitService(target);
  const address = checkedEndpoint(endpoint);
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const path = `/v1/services/${step(service)}/backends/${step(address)}`;
  const query = { portName: port, dryRun: options.dryRun };
  printOutcome(await agent.call<OutcomeAnswer>(method, path, query, body), options.json === true);
}

async function add(
  target: string,
  endpoint: string,
  options: ChangeOptions & { weight?: string },
): Promise<void> {
  const weight = options.weight === undefined ? undefined : parseWeight(options.weight);
  await change('PUT', target, endpoint, options, { weight });
}

async function drain(
  target: string,
  endpoint: string,
  options: ChangeOptions & { undo?: true },
): Promise<void> {
  const state = options.undo === true ? 'active' : 'draining';
  await change('PATCH', target, endpoint, options, { state });
}

async function remove(target: string, endpoint: string, options: ChangeOptions): Promise<void> {
  await change('DELETE', target, endpoint, options);
}

async function list(target: string | undefined, options: ClientOptions): Promise<void> {
  const wanted = target === undefined ? undefined : splitService(target);
  const agent = await connect(options);
  const answer = await agent.call<BackendListAnswer>('GET', '/v1/backends', {
    service: wanted?.service,
  });
  const backends = answer.backends.filter(
    (one) => wanted?.port === undefined || one.portName === wanted.port,
  );
  if (options.json === true) {
    printJson({ ...answer, backends });
  } else if (backends.length === 0) {
    note(
      `no backends${target === undefined ? '' : ` of "${target}"`} yet: \`zerohop backend add\` adds one`,
    );
  } else {
    const { columns } = await import('./table.ts');
    const rows = backends.map((backend) => [
      backend.service,
      backend.portName,
      formatEndpoint(backend.address, backend.port),
      String(backend.weight),
      ...backendCells(backend),
    ]);
    print(columns(rows, ['SERVICE', 'PORT', 'BACKEND', 'WEIGHT', ...BACKEND_HEADERS]));
  }
}

const ADD_HELP = `
Adding one that is there already gives it the new weight and makes it active.
A service with several ports needs the port's name. Weight 0 takes no connections.

Examples:
  zerohop backend add web 10.0.0.1:8080
  zerohop backend add web [fd00::1]:8080 --weight 3
  zerohop backend add shop:https 10.0.0.1:8443`;

export function registerBackend(program: Command): void {
  const backend = program.command('backend').description('add, list, drain and remove backends');
  const dryRun = (): ReturnType<typeof option> =>
    option('--dry-run', 'say what would change, and change nothing');
  clientCommand(backend.command('add'))
    .argument('<service[:port-name]>')
    .argument('<addr:port>', 'where it listens')
    .description('add a backend, or give it a new weight')
    .addOption(option('--weight <n>', '0–65535, its share of new connections (default: 1)'))
    .addOption(dryRun())
    .addHelpText('after', ADD_HELP)
    .action(add);
  clientCommand(backend.command('ls'))
    .argument('[service[:port-name]]')
    .description('list backends')
    .action(list);
  clientCommand(backend.command('drain'))
    .argument('<service[:port-name]>')
    .argument('<addr:port>')
    .description('give a backend no new connections; those it has go on')
    .addOption(option('--undo', 'make it active again'))
    .addOption(dryRun())
    .action(drain);
  clientCommand(backend.command('rm'))
    .argument('<service[:port-name]>')
    .argument('<addr:port>')
    .description('remove a backend; without a port name, from every port it serves')
    .addOption(dryRun())
    .action(remove);
}
