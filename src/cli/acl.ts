/** `zerohop acl`: who may talk to whom: add, list, show, remove, test rules, and follow verdicts. */
import { Option, type Command } from 'commander';
import type { AclListAnswer, AclShowAnswer } from '../api/acl-schemas.ts';
import type { OutcomeAnswer } from '../api/schemas.ts';
import { registerAclLog } from './acl-log.ts';
import { registerAclTest } from './acl-test.ts';
import { parseSelector, parseTarget } from './acl-text.ts';
import { clientCommand, connect, listOption, option, type ClientOptions } from './options.ts';
import { note, print, printJson, printOutcome } from './output.ts';

interface ChangeOptions extends ClientOptions {
  readonly dryRun?: true;
}

interface AddOptions extends ChangeOptions {
  readonly to: string;
  readonly from?: readonly string[];
  readonly action: string;
}

type Acl = AclShowAnswer['acl'];

async function add(name: string, options: AddOptions): Promise<void> {
  const to = parseTarget(options.to);
  const from = options.from?.map(parseSelector);
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const body = { to, ...(from === undefined ? {} : { from }), action: options.action };
  const query = { dryRun: options.dryRun };
  const path = `/v1/acls/${step(name)}`;
  const outcome = await agent.call<OutcomeAnswer>('PUT', path, query, body);
  printOutcome(outcome, options.json === true);
}

function targetText({ service, port, cidr, ports }: Acl['to']): string {
  if (service !== undefined) return port === undefined ? service : `${service}:${port}`;
  const list = ports?.join(',') ?? '';
  if (cidr === undefined) return `:${list}`;
  if (list === '') return cidr;
  return cidr.includes(':') ? `[${cidr}]:${list}` : `${cidr}:${list}`;
}

/** As `--from` takes them. */
function selectorTexts(acl: Acl): string[] {
  return acl.from.flatMap((item) =>
    Object.entries(item).map(([kind, value]) => `${kind}:${value}`),
  );
}

/** More selectors than this make a table unreadable; `show` has them all. */
const SELECTORS_SHOWN_MAX = 3;

function fromText(acl: Acl): string {
  const texts = selectorTexts(acl);
  if (texts.length === 0) return 'everyone';
  const more = texts.length - SELECTORS_SHOWN_MAX;
  const shown = texts.slice(0, SELECTORS_SHOWN_MAX).join(' ');
  return more > 0 ? `${shown} and ${more} more` : shown;
}

async function list(options: ClientOptions & { quiet?: true }): Promise<void> {
  const agent = await connect(options);
  const answer = await agent.call<AclListAnswer>('GET', '/v1/acls');
  if (options.json === true) {
    printJson(answer);
    return;
  }
  if (options.quiet === true) {
    for (const acl of answer.acls) print(acl.name);
    return;
  }
  if (answer.acls.length === 0) {
    note('no rules yet: `zerohop acl add` adds one');
  } else {
    const { columns } = await import('./table.ts');
    const rows = answer.acls.map((acl) => [
      acl.name,
      acl.action,
      targetText(acl.to),
      fromText(acl),
      `${acl.counters.denied}`,
      `${acl.counters.allowed}`,
      `${acl.counters.audited}`,
    ]);
    print(columns(rows, ['RULE', 'ACTION', 'TO', 'FROM', 'DENIED', 'ALLOWED', 'AUDITED']));
  }
  if (answer.defaultAction === 'deny') {
    print(`\nwhat no rule names is denied (acl.defaultAction): ${answer.deniedByDefault} denied`);
  }
  for (const acl of answer.acls) {
    for (const warning of acl.warnings) note(`zerohop: warning: ${acl.name}: ${warning}`);
  }
}

async function show(name: string, options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const answer = await agent.call<AclShowAnswer>('GET', `/v1/acls/${step(name)}`);
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const { acl } = answer;
  const { columns } = await import('./table.ts');
  const [first = 'everyone', ...others] = selectorTexts(acl);
  const { denied, allowed, audited } = acl.counters;
  print(
    columns([
      ['rule', acl.name],
      ['action', acl.action],
      ['to', targetText(acl.to)],
      ['from', first],
      ...others.map((text) => ['', text]),
      ['counted', `${denied} denied, ${allowed} allowed, ${audited} audited`],
    ]),
  );
  for (const warning of acl.warnings) note(`zerohop: warning: ${warning}`);
}

async function remove(names: readonly string[], options: ChangeOptions): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  const query = { dryRun: options.dryRun };
  for (const name of names) {
    const path = `/v1/acls/${step(name)}`;
    printOutcome(await agent.call<OutcomeAnswer>('DELETE', path, query), options.json === true);
  }
}

const ADD_HELP = `
--to     redis.prod or redis.prod:main (a service, or one port of it, by name),
         10.0.0.0/8 or 10.0.0.0/8:443/tcp,80/tcp or [fd00::/8]:443/tcp, or :25/tcp
--from   unit:web.service  cgroup:/batch/*  user:deploy  group:ops: programs of this host;
         cidr:192.0.2.0/24: who may come in from outside. Any one of them is enough;
         without --from: every program of this host.
A destination that no rule names is open; once an allow names it, only those allowed
get in; deny wins; audit only reports. A denied connect() gets EPERM.

Examples:
  zerohop acl add only-web --to redis.prod --from unit:web.service
  zerohop acl add no-mail --to :25/tcp --action deny
  zerohop acl add watch --to 10.0.0.0/8 --from 'cgroup:/batch/*' --from user:deploy --action audit
  zerohop acl add office --to redis.prod --from cidr:192.0.2.0/24`;

export function registerAcl(program: Command): void {
  const acl = program
    .command('acl')
    .description('who may talk to whom: add, list, test and remove rules, follow verdicts');
  const dryRun = (): Option => option('--dry-run', 'say what would change, and change nothing');
  clientCommand(acl.command('add'))
    .argument('<name>')
    .description('add a rule, or replace it; when this returns, connect() obeys')
    .addOption(option('--to <target>', 'what it protects').makeOptionMandatory())
    .addOption(listOption('--from <kind:value>', 'who it is about; repeatable'))
    .addOption(
      option('--action <action>', 'what happens')
        .choices(['allow', 'deny', 'audit'])
        .default('allow'),
    )
    .addOption(dryRun())
    .addHelpText('after', ADD_HELP)
    .action(add);
  clientCommand(acl.command('ls'))
    .description('list rules, with what each did')
    .addOption(option('-q, --quiet', 'names only'))
    .action(list);
  clientCommand(acl.command('show'))
    .argument('<rule>')
    .description('show one rule with everyone it is about')
    .action(show);
  clientCommand(acl.command('rm'))
    .argument('<rule...>')
    .description('remove rules, one after the other')
    .addOption(dryRun())
    .action(remove);
  registerAclTest(acl);
  registerAclLog(acl);
}
