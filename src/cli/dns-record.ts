/** `zerohop dns record`: names that you give, answered on every host. */
import type { Command, Option } from 'commander';
import type { DnsRecordListAnswer } from '../api/dns-schemas.ts';
import type { OutcomeAnswer } from '../api/schemas.ts';
import { clientCommand, connect, option, wholeNumber, type ClientOptions } from './options.ts';
import { note, print, printJson, printOutcome } from './output.ts';

interface ChangeOptions extends ClientOptions {
  readonly dryRun?: true;
}

interface AddOptions extends ChangeOptions {
  readonly ttl?: string;
  readonly replace?: true;
}

/** RFC 2181, 8. */
const TTL_MAX = 2 ** 31 - 1;

/** Of types whose data has several parts, also given as so many words: `MX 10 mail.example`. */
function dataOf(type: string, words: readonly string[]): readonly string[] {
  const isInParts = ['MX', 'SRV'].includes(type.toUpperCase());
  return isInParts && words.every((word) => !/\s/.test(word)) ? [words.join(' ')] : words;
}

async function add(
  name: string,
  type: string,
  words: readonly string[],
  options: AddOptions,
): Promise<void> {
  const ttl = options.ttl === undefined ? undefined : wholeNumber(options.ttl, '--ttl', 0, TTL_MAX);
  const body = { ...(ttl === undefined ? {} : { ttl }), data: dataOf(type, words) };
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const query = { dryRun: options.dryRun };
  const outcome =
    options.replace === true
      ? await agent.call<OutcomeAnswer>(
          'PUT',
          `/v1/dns/records/${step(name)}/${step(type)}`,
          query,
          body,
        )
      : await agent.call<OutcomeAnswer>('POST', '/v1/dns/records', query, { name, type, ...body });
  printOutcome(outcome, options.json === true);
}

async function list(options: ClientOptions & { quiet?: true }): Promise<void> {
  const agent = await connect(options);
  const answer = await agent.call<DnsRecordListAnswer>('GET', '/v1/dns/records');
  if (options.json === true) {
    printJson(answer);
  } else if (options.quiet === true) {
    new Set(answer.records.map(({ name }) => name)).forEach((name) => print(name));
  } else if (answer.records.length === 0) {
    note('no records yet: `zerohop dns record add` adds one');
  } else {
    const { columns } = await import('./table.ts');
    const rows = answer.records.flatMap(({ name, type, ttl, data }) =>
      data.map((one) => [name, type, ttl === undefined ? '' : String(ttl), one]),
    );
    print(columns(rows, ['NAME', 'TYPE', 'TTL', 'DATA']));
    for (const { name, type, hidden } of answer.records)
      if (hidden !== undefined) note(`zerohop: warning: ${name} ${type} is not given: ${hidden}`);
  }
}

async function remove(
  name: string,
  type: string | undefined,
  options: ChangeOptions,
): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const path = `/v1/dns/records/${step(name)}${type === undefined ? '' : `/${step(type)}`}`;
  const query = { dryRun: options.dryRun };
  printOutcome(await agent.call<OutcomeAnswer>('DELETE', path, query), options.json === true);
}

const ADD_HELP = `
TYPE is A, AAAA, CNAME, TXT, SRV, MX or PTR. NAME is whole: db.zerohop.internal, or any other
name, which is then answered here and not by its owner. What is added stands beside what the
name has of that type; with --replace in its place. A CNAME stands alone.

Examples:
  zerohop dns record add db.zerohop.internal A 10.0.0.7 10.0.0.8 --ttl 60
  zerohop dns record add www.zerohop.internal CNAME web.zerohop.internal
  zerohop dns record add zerohop.internal MX 10 mail.example.com
  zerohop dns record add _sip._udp.zerohop.internal SRV 0 5 5060 sip.example.com
  zerohop dns record add zerohop.internal TXT "v=spf1 -all"
  zerohop dns record add db.zerohop.internal A 10.0.0.9 --replace`;

export function registerDnsRecord(dns: Command): void {
  const record = dns.command('record').description('your own records: add, list, remove');
  const dryRun = (): Option => option('--dry-run', 'say what would change, and change nothing');
  clientCommand(record.command('add'))
    .argument('<name>')
    .argument('<type>')
    .argument('<data...>')
    .description('add records of a type; answered when this returns')
    .addOption(option('--ttl <seconds>', "how long others keep it; default: the zone's"))
    .addOption(option('--replace', 'in place of those it has of that type'))
    .addOption(dryRun())
    .addHelpText('after', ADD_HELP)
    .action(add);
  clientCommand(record.command('ls'))
    .description('list records')
    .addOption(option('-q, --quiet', 'names only'))
    .action(list);
  clientCommand(record.command('rm'))
    .argument('<name>')
    .argument('[type]')
    .description('remove what a name has, or of one type')
    .addOption(dryRun())
    .action(remove);
}
