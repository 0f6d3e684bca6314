/** `zerohop acl test`: the verdict, rule by rule, without sending anything. */
import type { Command } from 'commander';
import type { AclTestAnswer } from '../api/acl-schemas.ts';
import { parseAskedTarget, parseSubject } from './acl-text.ts';
import { clientCommand, connect, listOption, option, type ClientOptions } from './options.ts';
import { EXIT_FAILED, note, print, printJson } from './output.ts';

interface Options extends ClientOptions {
  readonly from: readonly string[];
  readonly to: string;
}

type Target = AclTestAnswer['targets'][number];

function headline(target: Target): string {
  const { verdict, address, protocol, service, portName, via } = target;
  const name =
    service === undefined ? '' : ` (${service}${portName === undefined ? '' : `:${portName}`})`;
  const through = via === undefined ? '' : `, through ${via}`;
  return `${verdict === 'allow' ? 'allowed' : 'denied'}  ${address}/${protocol}${name}${through}: ${target.why}`;
}

function kernelLine({ kernel }: Target): string {
  if (kernel === undefined) return '  the kernel was not asked: nothing is enforced';
  if (kernel.same) return '  the kernel says the same';
  return `  BUT THE KERNEL SAYS ${kernel.verdict.toUpperCase()} (${kernel.rule}): see zerohop status`;
}

async function printTarget(target: Target): Promise<void> {
  print(headline(target));
  if (target.rules.length > 0) {
    const { columns } = await import('./table.ts');
    const rows = target.rules.map(({ rule, action, applies, why }) => [
      `  ${rule}`,
      action,
      applies ? 'applies' : '-',
      why,
    ]);
    print(columns(rows));
  }
  print(kernelLine(target));
}

async function ask(options: Options): Promise<void> {
  const body = { from: parseSubject(options.from), to: parseAskedTarget(options.to) };
  const agent = await connect(options);
  const answer = await agent.call<AclTestAnswer>('POST', '/v1/acl-test', {}, body);
  if (!answer.allowed) process.exitCode = EXIT_FAILED;
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const who = Object.entries(answer.subject).map(([key, value]) => `${key} ${String(value)}`);
  if (who.length > 0) print(`asking: ${who.join(', ')}`);
  for (const target of answer.targets) await printTarget(target);
  for (const text of answer.notes) note(text);
}

const HELP = `
--from   unit:web.service  cgroup:/batch/1  user:deploy  group:ops: what is not given matches
         no rule, so give all that counts; pid:123 is a process as it is now;
         cidr:192.0.2.1 is an address outside that reaches a port of this host.
--to     redis.prod, redis.prod:main, redis.prod:6379, or IP:PORT[/udp].
Exit code: 0 allowed, 1 denied (one of the targets is enough), or the question makes no sense.

Examples:
  zerohop acl test --from unit:web.service --to redis.prod:6379
  zerohop acl test --from pid:$$ --to 10.0.0.1:443
  zerohop acl test --from cidr:192.0.2.1 --to redis.prod`;

export function registerAclTest(acl: Command): void {
  clientCommand(acl.command('test'))
    .description('say whether one may talk to the other, rule by rule, without sending anything')
    .addOption(listOption('--from <kind:value>', 'who asks; repeatable').makeOptionMandatory())
    .addOption(option('--to <target>', 'what is asked for').makeOptionMandatory())
    .addHelpText('after', HELP)
    .action(ask);
}
