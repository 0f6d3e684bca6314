/** `zerohop cluster token`, `tokens`, `withdraw`: words that let a host join. */
import type { Command } from 'commander';
import type {
  IssuedTokenAnswer,
  TokenAnswer,
  TokenListAnswer,
  WithdrawnTokenAnswer,
} from '../api/cluster-schemas.ts';
import { parseDuration } from './duration.ts';
import { membersOf } from './members.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { note, print, printJson } from './output.ts';

/** As the API has it (TOKEN_VALID_S_MAX), which is too slow to load for this. */
const VALID_S_MAX = 30 * 86_400;

/**
 * For the other host. The word is in it where somebody looks at it anyway; where it goes into a
 * pipe or a file, standard error may end up in a log, which is no place for a password.
 */
export function joinCommand({ address, token }: IssuedTokenAnswer, isSeen: boolean): string {
  return `zerohop cluster join ${address} --token ${isSeen ? token : '-'}`;
}

async function make(options: ClientOptions & { valid: string; signer?: true }): Promise<void> {
  const validForS = parseDuration(options.valid, '--valid', 1, VALID_S_MAX);
  const agent = await connect(options);
  const body = { validForS, signer: options.signer === true };
  const issued = await agent.call<IssuedTokenAnswer>('POST', '/v1/cluster/tokens', {}, body);
  if (options.json === true) {
    printJson(issued);
    return;
  }
  print(issued.token);
  const isSeen = process.stdout.isTTY;
  const gets = issued.signer ? "; the host gets the CA's key too" : '';
  note(
    `good once, until ${issued.expiresAt}, at this host${gets}: keep it like a password. On the other host:`,
  );
  note(`  ${joinCommand(issued, isSeen)}`);
  if (!isSeen) note('which reads the word from standard input');
}

function stateOf(token: TokenAnswer, nowMs: number): string {
  if (token.used !== undefined) return 'used';
  return Date.parse(token.expiresAt) > nowMs ? 'open' : 'expired';
}

async function list(options: ClientOptions & { quiet?: true }): Promise<void> {
  const agent = await connect(options);
  const { tokens } = await agent.call<TokenListAnswer>('GET', '/v1/cluster/tokens');
  if (options.json === true) {
    printJson({ tokens });
    return;
  }
  const nowMs = Date.now();
  if (options.quiet === true) {
    for (const token of tokens) if (stateOf(token, nowMs) === 'open') print(token.id);
    return;
  }
  if (tokens.length === 0) {
    note('this host has made no tokens: `zerohop cluster token` makes one');
    return;
  }
  const names = new Map((await membersOf(agent)).map((member) => [member.id, member.name]));
  const { columns } = await import('./table.ts');
  const rows = tokens.map((token) => [
    token.id,
    stateOf(token, nowMs),
    token.expiresAt,
    token.signer ? 'yes' : 'no',
    token.used === undefined
      ? ''
      : `${names.get(token.used.node) ?? token.used.node} ${token.used.at}`,
  ]);
  print(columns(rows, ['TOKEN', 'STATE', 'EXPIRES', 'SIGNER', 'USED BY']));
}

async function withdraw(ids: readonly string[], options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const { step } = await import('../api/io/client.ts');
  for (const id of ids) {
    const path = `/v1/cluster/tokens/${step(id)}`;
    const answer = await agent.call<WithdrawnTokenAnswer>('DELETE', path);
    if (options.json === true) printJson(answer);
    else print(`withdrew token ${answer.id}`);
  }
}

const HELP = `
The word alone is on standard output, so that it can be piped; how to use it is on
standard error. It is good once, at this host, and opens the cluster: keep it like a
password. \`zerohop cluster withdraw\` takes an unused one back.

Only a host with the CA's key makes tokens: the one that founded the cluster, and those
that joined with a token made with --signer. Have two or three of them.

Examples:
  zerohop cluster token
  zerohop cluster token --valid 10m | ssh web2 zerohop cluster join 10.0.0.7 --token -`;

export function registerClusterTokens(cluster: Command): void {
  clientCommand(cluster.command('token'))
    .description('make a token, with which one host can join at this one')
    .addOption(option('--valid <duration>', 'how long: 90s, 10m, 24h, 7d').default('1h'))
    .addOption(option('--signer', "the host that uses it gets the CA's key, and makes tokens too"))
    .addHelpText('after', HELP)
    .action(make);
  clientCommand(cluster.command('tokens'))
    .description('list the tokens that this host made')
    .addOption(option('-q, --quiet', 'ids of open ones only'))
    .action(list);
  clientCommand(cluster.command('withdraw'))
    .argument('<token...>', 'its id, as `zerohop cluster tokens` shows it')
    .description('take back tokens that nobody used, one after the other')
    .action(withdraw);
}
