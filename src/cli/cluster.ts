/** `zerohop cluster`: found, join and leave a cluster, put a member out, see how it stands. */
import type { Command } from 'commander';
import type { ClusterAnswer, MembershipAnswer, RevocationAnswer } from '../api/cluster-schemas.ts';
import { registerClusterJoin } from './cluster-join.ts';
import { aliveText, caresOf, lagText, linksText, rttText } from './cluster-text.ts';
import { registerClusterTokens } from './cluster-token.ts';
import { membersOf, NO_CLUSTER } from './members.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { note, print, printJson, UsageError } from './output.ts';

async function init(options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const cluster = await agent.call<ClusterAnswer>('POST', '/v1/cluster');
  if (options.json === true) {
    printJson(cluster);
    return;
  }
  if (!cluster.member) return;
  const { columns } = await import('./table.ts');
  print(
    columns([
      ['cluster', cluster.clusterId],
      ['node', `${cluster.nodeId} (${cluster.name})`],
      ['listens', cluster.address],
    ]),
  );
  note(
    'this host has the CA key. `zerohop cluster token` makes a token, with which another host joins',
  );
}

interface LeaveOptions extends ClientOptions {
  readonly yes?: true;
  readonly force?: true;
}

async function leave(options: LeaveOptions): Promise<void> {
  const agent = await connect(options);
  const before = await agent.call<ClusterAnswer>('GET', '/v1/cluster');
  if (before.member && options.yes !== true) {
    const { name, clusterId } = before;
    throw new UsageError(
      `this would take ${name} out of the cluster ${clusterId} (${aliveText(before)}); to come back it needs a new token`,
      'say --yes if that is meant',
    );
  }
  const query = { force: options.force };
  const after = await agent.call<ClusterAnswer>('DELETE', '/v1/cluster', query);
  if (options.json === true) printJson(after);
  else if (before.member) {
    print(`left the cluster ${before.clusterId}`);
    note(
      'services, rules and keys stay on this host as they are; what `zerohop run` runs here serves this host alone',
    );
  }
}

async function revoke(node: string, options: ClientOptions & { reason: string }): Promise<void> {
  const agent = await connect(options);
  const body = { node, reason: options.reason };
  const answer = await agent.call<RevocationAnswer>('POST', '/v1/cluster/revocations', {}, body);
  if (answer.signer === true) {
    note(
      'zerohop: warning: it had the CA key, which cannot be taken back: if the host is stolen, found a new cluster',
    );
  }
  if (options.json === true) printJson(answer);
  else print(`revoked ${answer.name === '' ? 'node' : answer.name} ${answer.id}`);
}

function facts(cluster: MembershipAnswer, signers: readonly string[]): string[][] {
  const { suspect, dead, left, unknown } = cluster.members;
  const others = Object.entries({ suspect, dead, unknown, left }).filter(([, count]) => count > 0);
  const zone = cluster.zone === '' ? '' : `, zone ${cluster.zone}`;
  return [
    ['cluster', cluster.clusterId],
    ['this host', `${cluster.name}, node ${cluster.nodeId}, at ${cluster.address}${zone}`],
    [
      'certificate',
      `until ${cluster.certificateUntil}, to be renewed at ${cluster.certificateRenewAt}`,
    ],
    ['CA key', signers.length === 0 ? 'on no known member' : `on ${signers.join(', ')}`],
    [
      'members',
      [aliveText(cluster), ...others.map(([state, count]) => `${count} ${state}`)].join(', '),
    ],
    ['links', linksText(cluster)],
  ];
}

async function status(options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const cluster = await agent.call<ClusterAnswer>('GET', '/v1/cluster');
  if (options.json === true) {
    printJson(cluster);
    return;
  }
  if (!cluster.member) {
    note(NO_CLUSTER);
  } else {
    const members = await membersOf(agent);
    const signers = members.filter((one) => one.signer && one.state !== 'left');
    const { columns } = await import('./table.ts');
    print(
      columns(
        facts(
          cluster,
          signers.map((one) => one.name),
        ),
      ),
    );
    if (cluster.neighbours.length > 0) {
      const rows = cluster.neighbours.map((one) => [
        one.name,
        one.id,
        rttText(one.rttMs),
        lagText(one),
      ]);
      print(`\n${columns(rows, ['NEIGHBOUR', 'ID', 'RTT', 'STATE'])}`);
    }
  }
  const cares = caresOf(cluster);
  if (cares.length > 0) print(`\n${cares.join('\n')}`);
}

const LEAVE_HELP = `
Without --yes it only says what it would do, with exit code 2. The last member with the
CA's key is refused unless --force is given: nobody could join any more.

Stopping the agent is not leaving: a host that is away comes back by itself.`;

const REVOKE_HELP = `
For a host that was stolen or is gone for good: its certificate counts no more, every
member cuts it off, its backends are forgotten. It cannot be undone; the host may join
again with a new token, as a new node.

Example:
  zerohop cluster revoke web3 --reason 'sold, TICKET-12'`;

const HELP = `
Examples:
  zerohop cluster init                                on the first host
  zerohop cluster token                               there, once for each other host
  zerohop cluster join 10.0.0.7:7946 --token -        on each other host
  zerohop members`;

export function registerCluster(program: Command): void {
  const cluster = program
    .command('cluster')
    .description('hosts that share services, rules and keys: found, join, leave, tokens')
    .addHelpText('after', HELP);
  clientCommand(cluster.command('init'))
    .description('found a cluster with this host as its first member')
    .action(init);
  registerClusterTokens(cluster);
  registerClusterJoin(cluster);
  clientCommand(cluster.command('leave'))
    .description('take this host out of its cluster; it keeps the state')
    .addOption(option('--yes', 'yes, this host, this cluster'))
    .addOption(option('--force', "also as the last member with the CA's key"))
    .addHelpText('after', LEAVE_HELP)
    .action(leave);
  clientCommand(cluster.command('revoke'))
    .argument('<node>', 'its name, if no other member has it, or its id')
    .description('put another member out, for good')
    .addOption(option('--reason <text>', 'why, for those who look later').makeOptionMandatory())
    .addHelpText('after', REVOKE_HELP)
    .action(revoke);
  clientCommand(cluster.command('status'))
    .description('how this host stands in its cluster')
    .action(status);
}
