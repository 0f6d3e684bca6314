/** `zerohop status`: the agent and its datapath at a glance. */
import type { Command } from 'commander';
import type { StatusAnswer } from '../api/schemas.ts';
import { caresOf, standingText } from './cluster-text.ts';
import { dnsCares, dnsText } from './dns-text.ts';
import { clientCommand, connect, type ClientOptions } from './options.ts';
import { counted, EXIT_FAILED, print, printJson } from './output.ts';

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
}

/** `untracked` ones show their backend in getpeername(). */
function socketsText({ spilled, untracked }: StatusAnswer['datapath']['counters']): string {
  return `${spilled} met a taken place (maps.sockets), ${untracked} could not be remembered`;
}

function aclText({
  state,
  enforcementText,
  why,
  rules,
  defaultAction,
}: StatusAnswer['acl']): string {
  const stored = counted(rules, 'rule');
  const judged = defaultAction === 'deny' ? `${stored}, all else denied` : stored;
  if (state === 'unenforced') return `NOT ENFORCED: ${judged}; ${why}`;
  return `${judged}, enforced by ${enforcementText} (${why})`;
}

function eventsText({ counters }: StatusAnswer['acl']): string {
  const { eventsDropped, unknownCgroups, unclassifiedCgroups } = counters;
  return `${counted(eventsDropped, 'verdict')} lost before the log, ${unknownCgroups} judged without a known cgroup, ${counted(unclassifiedCgroups, 'new cgroup')} without room`;
}

function facts(status: StatusAnswer): string[][] {
  const { datapath } = status;
  const attached = datapath.attachments.filter((one) => one.effective).length;
  return [
    ['agent', `${status.version} on ${status.node}, pid ${status.pid}, since ${status.startedAt}`],
    [
      'state',
      `revision ${status.revision}: ${counted(status.services, 'service')}, ${counted(status.backends, 'backend')}, in ${status.dataDir}`,
    ],
    ['datapath', `${datapath.state}, revision ${datapath.appliedRevision}`],
    [
      'cgroup',
      `${status.cgroupPath}, ${attached} of ${counted(datapath.attachments.length, 'hook')} effective`,
    ],
    ['pins', `${status.pinDir}${datapath.adoptedPins ? ', adopted from an earlier agent' : ''}`],
    ['last full check', datapath.lastFullCheckAt ?? 'none yet'],
    ['repaired entries', String(datapath.repairedEntries)],
    ['sockets', socketsText(datapath.counters)],
    ['access control', aclText(status.acl)],
    ...(status.acl.state === 'idle' ? [] : [['acl counters', eventsText(status.acl)]]),
    ...(status.cluster === undefined ? [] : [['cluster', standingText(status.cluster)]]),
    ...(status.dns === undefined ? [] : [['dns', dnsText(status.dns)]]),
    [
      'memory',
      `${mebibytes(status.memory.rssBytes)} resident, ${mebibytes(status.memory.heapUsedBytes)} heap`,
    ],
    ['socket', status.socketPath],
  ];
}

async function show(options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const status = await agent.call<StatusAnswer>('GET', '/v1/status');
  const { datapath } = status;
  if (datapath.state === 'degraded') process.exitCode = EXIT_FAILED;
  if (options.json === true) {
    printJson(status);
    return;
  }
  const { columns } = await import('./table.ts');
  print(columns(facts(status)));
  if (datapath.problem !== undefined) print(`\ndegraded: ${datapath.problem}`);
  for (const care of status.cluster === undefined ? [] : caresOf(status.cluster)) print(care);
  for (const care of status.dns === undefined ? [] : dnsCares(status.dns)) print(care);
  for (const feature of datapath.degradedFeatures) print(`without: ${feature}`);
  if (status.acl.state !== 'idle') {
    for (const way of status.acl.notCovered) print(`not covered by access control: ${way}`);
  }
  for (const { hook, effective } of datapath.attachments) {
    if (!effective) print(`not effective: ${hook}`);
  }
  const fills = datapath.maps.map((map) => [
    map.name,
    `${map.used}`,
    `${map.max}`,
    `${Math.ceil((map.used / map.max) * 100)} %`,
    map.limit,
  ]);
  print(`\n${columns(fills, ['MAP', 'USED', 'MAX', 'FILL', 'RAISED BY'])}`);
}

export function registerStatus(program: Command): void {
  clientCommand(program.command('status'))
    .description('show the agent and its datapath; exit code 1 if the datapath is degraded')
    .action(show);
}
