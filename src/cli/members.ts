/** `zerohop members` and `zerohop routes`: who is in the cluster, and over whom this host reaches them. */
import type { Command } from 'commander';
import type { MemberAnswer, MemberListAnswer, RouteListAnswer } from '../api/cluster-schemas.ts';
import type { ApiClient } from '../api/io/client.ts';
import { rttText } from './cluster-text.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { note, print, printJson } from './output.ts';

export const NO_CLUSTER =
  'in no cluster: `zerohop cluster init` founds one, `zerohop cluster join` joins one';

export async function membersOf(agent: ApiClient): Promise<readonly MemberAnswer[]> {
  const { members } = await agent.call<MemberListAnswer>('GET', '/v1/members');
  return members.toSorted((a, b) =>
    a.name === b.name ? (a.id < b.id ? -1 : 1) : a.name < b.name ? -1 : 1,
  );
}

export async function printMembers(members: readonly MemberAnswer[]): Promise<void> {
  const { columns } = await import('./table.ts');
  const rows = members.map((member) => [
    member.name,
    member.id,
    member.state,
    member.zone,
    member.address,
    member.self ? 'self' : rttText(member.rttMs),
    member.version ?? '',
    member.since ?? '',
  ]);
  print(columns(rows, ['NAME', 'ID', 'STATE', 'ZONE', 'ADDRESS', 'RTT', 'VERSION', 'SINCE']));
}

async function list(options: ClientOptions & { quiet?: true }): Promise<void> {
  const agent = await connect(options);
  const members = await membersOf(agent);
  if (options.json === true) printJson({ members });
  else if (options.quiet === true) for (const { name } of members) print(name);
  else if (members.length === 0) note(NO_CLUSTER);
  else await printMembers(members);
}

async function routes(node: string | undefined, options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const members = await membersOf(agent);
  let { routes: found } = await agent.call<RouteListAnswer>('GET', '/v1/routes');
  if (node !== undefined) {
    const { findMember } = await import('../api/cluster-names.ts');
    const { id } = findMember(members, node);
    found = found.filter((route) => route.to === id);
  }
  if (options.json === true) {
    printJson({ routes: found });
    return;
  }
  if (found.length === 0) {
    note(
      members.length === 0
        ? NO_CLUSTER
        : `no route to ${node ?? 'anybody'}: \`zerohop members\` shows who is alive`,
    );
    return;
  }
  const names = new Map(members.map((member) => [member.id, member.name]));
  const { columns } = await import('./table.ts');
  const rows = found
    .toSorted((a, b) => a.hops - b.hops || (a.name < b.name ? -1 : 1))
    .map((route) => [
      route.name,
      `${route.hops}`,
      route.path.map((id) => names.get(id) ?? id).join(' → '),
    ]);
  print(columns(rows, ['TO', 'HOPS', 'PATH']));
}

const MEMBERS_HELP = `
STATE is what this host knows: alive; suspect: a neighbour does not hear it; dead: given
up; left; unknown: not heard of since this agent started. RTT is measured to neighbours.

Examples:
  zerohop members
  zerohop members --json | jq -r '.members[] | select(.state != "alive") | .name'`;

const ROUTES_HELP = `
Over which members word from this host travels. Connections to services do not: they go
straight to their backends.

Examples:
  zerohop routes
  zerohop routes web3`;

export function registerMembers(program: Command): void {
  clientCommand(program.command('members'))
    .description('everybody in the cluster, as seen from this host')
    .addOption(option('-q, --quiet', 'names only'))
    .addHelpText('after', MEMBERS_HELP)
    .action(list);
  clientCommand(program.command('routes'))
    .argument('[node]', 'to this member only: its name or id')
    .description('over which members this host reaches the others')
    .addHelpText('after', ROUTES_HELP)
    .action(routes);
}
