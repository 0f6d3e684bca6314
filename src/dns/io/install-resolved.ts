/**
 * `dns install` beside systemd-resolved: our drop-in, put there and taken out. A host that lives on
 * FallbackDNS, in its files or compiled in, is refused: resolved uses that only while it has no
 * server at all, so that with ours nobody would be left to ask. Where that cannot be known before,
 * it is seen afterwards and the drop-in taken out again.
 */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostPort } from '../../cluster/address.ts';
import { ProblemError } from '../../state/problem.ts';
import { readText, remove, removeEmpty, writeText } from './etc-file.ts';
import { hostUpstreams } from './host-upstreams.ts';
import type { Plan } from './install-plan.ts';
import { run } from './install-run.ts';
import { dropInText, listsOf, RESOLVED_DROP_IN, RESOLVED_RESTART } from './resolved.ts';

export interface DropIn {
  readonly address: HostPort;
  /** Names under these are asked of us. */
  readonly domains: readonly string[];
  /** Whether a server is ourselves. */
  readonly isOwn: (host: string) => boolean;
  /** dns.upstreams: the agent does not live on what this host has. */
  readonly hasUpstreams: boolean;
}

/** A guess: resolved writes its resolv.conf before systemctl is told that it runs. */
const SERVERS_WAIT_MS = 2000;
const SERVERS_LOOK_MS = 50;

/** Rejects where it can be told beforehand that names of others would fail. */
export async function planDropIn(dropIn: DropIn): Promise<Plan> {
  const text = dropInText(dropIn.address, dropIn.domains);
  const step = `${RESOLVED_DROP_IN}: systemd-resolved asks the agent for names under ${dropIn.domains[0]}`;
  const before = readText(RESOLVED_DROP_IN);
  // With a drop-in of ours resolved hides what else it would use.
  const servers = before === undefined ? serversBeside(dropIn) : undefined;
  if (servers !== undefined && servers.length > 0 && !dropIn.hasUpstreams) {
    const lists = (await listsOf('dns')) ?? [];
    const isNone = lists.every(({ words }) => words.length === 0);
    if (lists.length > 0 && isNone) throw fallbackOnly(servers);
  }
  return {
    method: 'resolved',
    edits: before === text ? [] : [{ step, apply: () => writeText(RESOLVED_DROP_IN, text) }],
    command: RESOLVED_RESTART,
    check: () => checkServers(dropIn, servers),
  };
}

export function backResolved(): Plan | undefined {
  if (!existsSync(RESOLVED_DROP_IN)) return undefined;
  const edit = { step: `${RESOLVED_DROP_IN}: removed`, apply: removeDropIn };
  return { method: 'resolved', edits: [edit], command: RESOLVED_RESTART };
}

/** The folder too, where nothing else is in it: it is not there on most hosts. */
function removeDropIn(): void {
  remove(RESOLVED_DROP_IN);
  removeEmpty(dirname(RESOLVED_DROP_IN));
}

/** `before`: the servers without the drop-in, where they are known. */
async function checkServers(
  dropIn: DropIn,
  before: readonly string[] | undefined,
): Promise<readonly string[]> {
  if ((await waitedFor(dropIn)).length > 0) return [];
  const alone = 'systemd-resolved has no server but the agent: while the agent is down';
  if (dropIn.hasUpstreams) return [`${alone}, this host resolves nothing`];
  // Nothing is lost: it may have no network yet.
  if (before?.length === 0)
    return [`${alone}, and until a link has servers, names of others fail on this host`];
  removeDropIn();
  const problem = await run(RESOLVED_RESTART);
  throw fallbackOnly(before ?? (await waitedFor(dropIn)), problem);
}

async function waitedFor(dropIn: DropIn): Promise<readonly string[]> {
  const endMs = performance.now() + SERVERS_WAIT_MS;
  for (;;) {
    const servers = serversBeside(dropIn);
    if (servers.length > 0 || performance.now() > endMs) return servers;
    await sleep(SERVERS_LOOK_MS);
  }
}

function serversBeside({ isOwn }: DropIn): readonly string[] {
  return hostUpstreams(isOwn).map(({ host }) => host);
}

/** The agent has no TLS: our names would fail, and to go first takes from all others what TLS is for. */
export function tlsOnly({ isAllPossible }: { readonly isAllPossible: boolean }): ProblemError {
  const message =
    'systemd-resolved asks over TLS only (DNSOverTLS=yes), which the agent does not speak: it would never be asked';
  const all = '; or `zerohop dns install --all`, with which all names are asked in plain text';
  const hint = `give DNSOverTLS=yes to links and not to all (systemd.network(5), \`resolvectl dnsovertls\`)${isAllPossible ? all : ''}`;
  return new ProblemError([{ code: 'invalid', message, hint }]);
}

function fallbackOnly(servers: readonly string[], problem?: string): ProblemError {
  const which = servers.length === 0 ? '' : ` (${servers.join(' ')})`;
  const message = `this host has only FallbackDNS${which}: systemd-resolved uses that only while it has no other server, so with the agent as its server all names of others would fail`;
  const hint =
    'set dns.upstreams and restart the agent, or give a link of this host servers of its own, and do it again';
  return new ProblemError([
    { code: 'invalid', message, hint: problem === undefined ? hint : `${hint}; ${problem}` },
  ]);
}
