/** `zerohop service`: add, list, show and remove services. */
import type { Command } from 'commander';
import type { OutcomeAnswer, ServiceAnswer, ServiceListAnswer } from '../api/schemas.ts';
import { formatEndpoint } from '../net/ip.ts';
import { BACKEND_HEADERS, backendCells, FAILED_OPEN } from './backend-text.ts';
import {
  clientCommand,
  connect,
  listOption,
  option,
  parsePort,
  type ClientOptions,
} from './options.ts';
import { counted, note, print, printJson, printOutcome } from './output.ts';

interface AddOptions extends ClientOptions {
  readonly port: readonly string[];
  readonly vip?: readonly string[];
  readonly dryRun?: true;
}

async function add(name: string, options: AddOptions): Promise<void> {
  const ports = options.port.map(parsePort);
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const body = { name, ports, ...(options.vip === undefined ? {} : { vips: options.vip }) };
  const outcome = await agent.call<OutcomeAnswer>(
    'POST',
    '/v1/services',
    { dryRun: options.dryRun },
    body,
  );
  printOutcome(outcome, options.json === true);
  if (options.json === true || options.dryRun === true) return;
  const path = `/v1/services/${step(name)}`;
  const { service } = await agent.call<ServiceAnswer>('GET', path);
  print(`reachable at ${service.vips.join(' and ')}`);
}

type Port = ServiceAnswer['service']['ports'][number];

function portText(port: Port): string {
  return `${port.name}:${port.port}/${port.protocol}`;
}

async function list(options: ClientOptions & { quiet?: true }): Promise<void> {
  const agent = await connect(options);
  const answer = await agent.call<ServiceListAnswer>('GET', '/v1/services');
  if (options.json === true) {
    printJson(answer);
  } else if (options.quiet === true) {
    for (const service of answer.services) print(service.name);
  } else if (answer.services.length === 0) {
    note('no services yet: `zerohop service add` adds one');
  } else {
    const { columns } = await import('./table.ts');
    const rows = answer.services.map(({ name, vips, ports, backends }) => [
      name,
      vips.join(' '),
      ports.map(portText).join(' '),
      `${backends.usable}/${backends.total}`,
    ]);
    print(columns(rows, ['SERVICE', 'VIPS', 'PORTS', 'USABLE']));
  }
}

async function show(name: string, options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const answer = await agent.call<ServiceAnswer>('GET', `/v1/services/${step(name)}`);
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const { columns } = await import('./table.ts');
  const { service } = answer;
  print(`service  ${service.name}\nvips     ${service.vips.join(' ')}\n`);
  for (const port of service.ports) {
    const backends = service.backends.filter((backend) => backend.portName === port.name);
    print(
      `port ${port.name}: ${port.port}/${port.protocol}, ${counted(backends.length, 'backend')}`,
    );
    if (port.failOpen === true) print(`  ${FAILED_OPEN}`);
    if (backends.length === 0) continue;
    const rows = backends.map((backend) => [
      '  ' + formatEndpoint(backend.address, backend.port),
      String(backend.weight),
      ...backendCells(backend),
    ]);
    print(columns(rows, ['  BACKEND', 'WEIGHT', ...BACKEND_HEADERS]));
  }
}

async function remove(name: string, options: ClientOptions & { dryRun?: true }): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const query = { dryRun: options.dryRun };
  const path = `/v1/services/${step(name)}`;
  printOutcome(await agent.call<OutcomeAnswer>('DELETE', path, query), options.json === true);
}

const ADD_HELP = `
Without --vip the service gets one IPv4 and one IPv6 VIP, computed from its name.
With --vip it has exactly those given. A port without a name is called tcp-80.

Examples:
  zerohop service add web --port 80
  zerohop service add shop --port http:80 --port https:443 --vip 240.0.0.80
  zerohop service add dns --port 53/udp --port 53/tcp`;

export function registerService(program: Command): void {
  const service = program.command('service').description('add, list, show and remove services');
  clientCommand(service.command('add'))
    .argument('<name>', 'DNS labels: web, api.shop')
    .description('add a service')
    .addOption(
      listOption(
        '--port <[name:]port[/tcp|/udp]>',
        'a port it offers; repeatable',
      ).makeOptionMandatory(),
    )
    .addOption(listOption('--vip <ip>', 'its virtual IP; repeatable'))
    .addOption(option('--dry-run', 'say what would change, and change nothing'))
    .addHelpText('after', ADD_HELP)
    .action(add);
  clientCommand(service.command('ls'))
    .description('list services; USABLE is backends that take connections now / all')
    .addOption(option('-q, --quiet', 'names only'))
    .action(list);
  clientCommand(service.command('show'))
    .argument('<name>')
    .description('show one service and its backends')
    .action(show);
  clientCommand(service.command('rm'))
    .argument('<name>')
    .description('remove a service and its backends')
    .addOption(option('--dry-run', 'say what would change, and change nothing'))
    .action(remove);
}
