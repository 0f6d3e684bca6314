/** `zerohop cluster join`: makes this host a member, and waits until it has what the cluster has. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ClusterAnswer, MembershipAnswer } from '../api/cluster-schemas.ts';
import type { ApiClient } from '../api/io/client.ts';
import { ProblemError } from '../state/problem.ts';
import { isInStep, standingText } from './cluster-text.ts';
import { membersOf, printMembers } from './members.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { note, printJson, UsageError } from './output.ts';

interface JoinOptions extends ClientOptions {
  readonly token: string;
  readonly merge?: true;
  readonly discard?: true;
  /** False with --no-wait. */
  readonly wait: boolean;
}

/** How often to ask how far the state is, and for how long; 10,000 services come in seconds. Guesses. */
const ASK_INTERVAL_MS = 200;
const WAIT_MS = 120_000;

function readToken(text: string): string {
  const word = (text === '-' ? readFileSync(0, 'utf8') : text).trim();
  if (word !== '') return word;
  throw new UsageError(
    'the join token is empty',
    'make one with `zerohop cluster token` on a member',
  );
}

function lost(message: string, hint: string): ProblemError {
  return new ProblemError([{ code: 'unavailable', message, hint }]);
}

/** Until nothing that a neighbour told of is missing; tells how it stands whenever that changes. */
async function untilInStep(agent: ApiClient): Promise<MembershipAnswer> {
  let told = '';
  for (let waitedMs = 0; ; waitedMs += ASK_INTERVAL_MS) {
    const cluster = await agent.call<ClusterAnswer>('GET', '/v1/cluster');
    if (!cluster.member) {
      throw lost(
        'this host is in no cluster any more',
        "the agent's log says why: journalctl -u zerohop",
      );
    }
    const isLinked = cluster.neighbours.length > 0;
    const text = isLinked ? standingText(cluster) : 'connecting to its members';
    if (text !== told) note(`zerohop: ${text}`);
    told = text;
    if (isInStep(cluster)) return cluster;
    if (waitedMs >= WAIT_MS) {
      const message = `joined, but after ${WAIT_MS / 1000} s the cluster's state is not all here: ${text}`;
      throw lost(message, 'it goes on by itself; `zerohop cluster status` shows how far it is');
    }
    await sleep(ASK_INTERVAL_MS);
  }
}

async function join(address: string, options: JoinOptions): Promise<void> {
  const token = readToken(options.token);
  const state = options.merge === true ? 'merge' : options.discard === true ? 'discard' : undefined;
  const agent = await connect(options);
  note(`zerohop: asking ${address} for a certificate`);
  const body = { address, token, ...(state === undefined ? {} : { state }) };
  let cluster = await agent.call<ClusterAnswer>('POST', '/v1/cluster/join', {}, body);
  if (cluster.member)
    note(`zerohop: in the cluster ${cluster.clusterId}, as node ${cluster.nodeId}`);
  if (options.wait) cluster = await untilInStep(agent);
  if (options.json === true) printJson(cluster);
  else await printMembers(await membersOf(agent));
}

const HELP = `
ADDR is the host that made the token: IP, IP:PORT, [IP]:PORT or a name. A token is good
once, for one host. An argument is seen by everybody on this host who lists processes:
--token - reads the word from standard input, and ZEROHOP_TOKEN is for scripts.

A host with services, rules or keys of its own says what becomes of them: --merge adds
them where the cluster has none of that name, --discard drops them. What \`zerohop run\`
runs here comes along in any case.

Returns when this host has the cluster's state, --no-wait when it is a member.

Examples:
  zerohop cluster join 10.0.0.7:7946 --token -
  zerohop cluster join web1.example.net --token - --merge <word.txt
  ssh web1 zerohop cluster token | zerohop cluster join web1 --token -`;

export function registerClusterJoin(cluster: Command): void {
  clientCommand(cluster.command('join'))
    .argument('<addr>', 'the host that made the token')
    .description('join a cluster with a token that one of its members made')
    .addOption(option('--token <word>', 'the token; -: from standard input').makeOptionMandatory())
    .addOption(option('--merge', "add this host's services, rules and keys to the cluster's"))
    .addOption(option('--discard', "drop this host's services, rules and keys").conflicts('merge'))
    .addOption(option('--no-wait', "do not wait for the cluster's state"))
    .addHelpText('after', HELP)
    .action(join);
}
