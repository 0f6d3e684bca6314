/** `zerohop acl log`: who was denied or audited, and with -f who is. */
import type { Command } from 'commander';
import type { AclLogAnswer } from '../api/acl-schemas.ts';
import { clientCommand, connect, option, wholeNumber, type ClientOptions } from './options.ts';
import { counted, note, print, printJson } from './output.ts';

interface Options extends ClientOptions {
  readonly follow?: true;
  readonly rule?: string;
  readonly number: string;
}

type Entry = AclLogAnswer['entries'][number];

function whoText({ unit, cgroup, command, pid, user, uid }: Entry['workload']): string {
  const place = unit ?? cgroup ?? 'unknown cgroup';
  if (command === undefined) return place;
  return `${place} ${command}[${pid ?? '?'}] ${user ?? uid ?? '?'}`;
}

function whereText({ destination, via, source }: Entry): string {
  const { service, portName, address, port, protocol } = destination;
  const name = service === undefined ? '' : ` (${service}:${portName ?? port})`;
  if (source !== undefined) return `from ${source} to port ${port}/${protocol}${name}`;
  return `to ${address ?? port}/${protocol}${name}${via === undefined ? '' : ` through ${via}`}`;
}

/** `2026-01-01T00:00:00.000Z deny only-web: web.service curl[42] deploy to 10.0.0.1:6379/tcp (redis.prod:main)` */
export function logLine(entry: Entry): string {
  return `${entry.time} ${entry.verdict} ${entry.rule}: ${whoText(entry.workload)} ${whereText(entry)}`;
}

function droppedLine(count: number): string {
  return `${counted(count, 'verdict')} not shown: more came than could be read`;
}

async function follow(options: Options, query: Record<string, string>): Promise<void> {
  const agent = await connect(options);
  await agent.lines('/v1/acl-log', { ...query, follow: true }, (line) => {
    if (options.json === true) {
      print(line);
      return;
    }
    const value = JSON.parse(line) as Entry | { readonly dropped: number };
    if ('dropped' in value) note(droppedLine(value.dropped));
    else print(logLine(value));
  });
}

async function log(options: Options): Promise<void> {
  const limit = String(wholeNumber(options.number, 'number', 0, 4096));
  const query = { limit, ...(options.rule === undefined ? {} : { rule: options.rule }) };
  if (options.follow === true) return follow(options, query);
  const agent = await connect(options);
  const answer = await agent.call<AclLogAnswer>('GET', '/v1/acl-log', query);
  if (options.json === true) {
    printJson(answer);
    return;
  }
  for (const entry of answer.entries) print(logLine(entry));
  if (answer.entries.length === 0) note('nothing was denied or audited since the agent started');
  if (answer.dropped > 0) note(droppedLine(answer.dropped));
  return undefined;
}

const HELP = `
The agent keeps the last 4096 verdicts since its start. With -f --json: one JSON object a
line; {"dropped": N} says how many were lost between its neighbours.

Examples:
  zerohop acl log -n 100
  zerohop acl log -f --rule only-web
  zerohop acl log -f --json | jq -r .workload.unit`;

export function registerAclLog(acl: Command): void {
  clientCommand(acl.command('log'))
    .description('who was denied or audited')
    .addOption(option('-f, --follow', 'go on until Ctrl-C'))
    .addOption(option('--rule <rule>', 'of this rule only; defaultAction: what no rule names'))
    .addOption(option('-n, --number <n>', 'this many of the last ones').default('20'))
    .addHelpText('after', HELP)
    .action(log);
}
