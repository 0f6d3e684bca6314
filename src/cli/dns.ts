/** `zerohop dns`: what the resolver answers, and how it stands. */
import type { Command } from 'commander';
import type {
  DnsFlushAnswer,
  DnsQueryAnswer,
  DnsStatusAnswer,
  DnsZoneAnswer,
} from '../api/dns-schemas.ts';
import { registerDnsInstall } from './dns-install.ts';
import { registerDnsRecord } from './dns-record.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { counted, EXIT_FAILED, note, print, printJson } from './output.ts';

async function zone(
  name: string | undefined,
  options: ClientOptions & { readonly type?: string; readonly quiet?: true },
): Promise<void> {
  const agent = await connect(options);
  const query = { name, type: options.type };
  const answer = await agent.call<DnsZoneAnswer>('GET', '/v1/dns/zone', query);
  if (options.json === true) {
    printJson(answer);
    return;
  }
  if (options.quiet === true) {
    new Set(answer.entries.map((entry) => entry.name)).forEach((known) => print(known));
    return;
  }
  if (answer.entries.length === 0) {
    note(`nothing in the zone ${answer.domain} is of that name and type`);
    return;
  }
  const { columns } = await import('./table.ts');
  const rows = answer.entries.map(({ name: owner, ttl, type, data, from, hidden }) => [
    owner,
    String(ttl),
    type,
    data,
    hidden === undefined ? from : `${from}, not given: ${hidden}`,
  ]);
  print(columns(rows, ['NAME', 'TTL', 'TYPE', 'DATA', 'FROM']));
  if (!answer.ready) note('zerohop: warning: not ready yet: the agent has just begun');
}

async function ask(name: string, type: string | undefined, options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const body = { name, ...(type === undefined ? {} : { type }) };
  const answer = await agent.call<DnsQueryAnswer>('POST', '/v1/dns/query', {}, body);
  if (answer.rcode !== 'NOERROR' || answer.answers.length === 0) process.exitCode = EXIT_FAILED;
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const { attemptText, entryCells, verdictText } = await import('./dns-text.ts');
  const { columns } = await import('./table.ts');
  print(`;; ${verdictText(answer)}`);
  for (const attempt of answer.attempts) print(`;; asked ${attemptText(attempt)}`);
  for (const section of ['answers', 'authority', 'additional'] as const) {
    const entries = answer[section];
    if (entries.length === 0) continue;
    if (section !== 'answers') print(`;; ${section}`);
    print(columns(entries.map(entryCells)));
  }
}

async function status(options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const answer = await agent.call<DnsStatusAnswer>('GET', '/v1/dns/status');
  if (answer.listeners.some((one) => !one.listening)) process.exitCode = EXIT_FAILED;
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const { dnsFacts, UPSTREAM_HEADERS, upstreamCells } = await import('./dns-text.ts');
  const { installedText } = await import('./dns-install.ts');
  const { columns } = await import('./table.ts');
  print(columns([...dnsFacts(answer), ['this host', await installedText()]]));
  if (answer.upstreams.length > 0)
    print(`\n${columns(answer.upstreams.map(upstreamCells), UPSTREAM_HEADERS)}`);
  else if (answer.enabled) note('no upstreams: names of others are answered with SERVFAIL');
}

async function flush(name: string | undefined, options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const body = name === undefined ? {} : { name };
  const answer = await agent.call<DnsFlushAnswer>('POST', '/v1/dns/flush', {}, body);
  if (options.json === true) printJson(answer);
  else print(`forgot ${counted(answer.flushed, 'answer')}`);
}

const QUERY_HELP = `
TYPE is A without it; an address as NAME asks for its name (PTR). Other types than A,
AAAA, TXT, … by number: TYPE65.
Exit code 1 if there is no such record, or no answer.

Examples:
  zerohop dns query web.zerohop.internal
  zerohop dns query _http._tcp.web.zerohop.internal SRV
  zerohop dns query 252.189.37.169
  zerohop dns query example.com AAAA --json`;

export function registerDns(program: Command): void {
  const dns = program
    .command('dns')
    .description('names of services, hosts and your own records; the resolver of this host');
  clientCommand(dns.command('zone'))
    .argument('[name]', 'this name and all below it')
    .description('show all that this host answers by itself, and from what')
    .addOption(option('--type <type>', 'of this type only'))
    .addOption(option('-q, --quiet', 'names only'))
    .addHelpText('after', '\nExample:\n  zerohop dns zone web.zerohop.internal --type SRV')
    .action(zone);
  clientCommand(dns.command('query'))
    .argument('<name>')
    .argument('[type]')
    .description('ask the resolver, and show where the answer comes from')
    .addHelpText('after', QUERY_HELP)
    .action(ask);
  clientCommand(dns.command('status'))
    .description('where it listens, whom it asks, what it did; exit code 1 if it does not listen')
    .action(status);
  clientCommand(dns.command('flush'))
    .argument('[name]', 'this name and all below it')
    .description('forget what others answered')
    .action(flush);
  registerDnsInstall(dns);
  registerDnsRecord(dns);
}
