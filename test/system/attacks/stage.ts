/**
 * A host with an agent whose rules are attacked: who runs where, witnesses that
 * tell what reached them, and what became of each attempt (attack.c). Verdicts
 * are judged at the server's side: what arrived, arrived, whatever the client saw.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { whyNoLsm } from '../../../src/acl/io/enforcement.ts';
import { Child, run } from '../../harness/child.ts';
import { smallMaps } from '../../harness/config.ts';
import { eventually } from '../../harness/eventually.ts';
import { TestHost } from '../../harness/host.ts';
import { attackClient } from '../../harness/programs.ts';

export type Mode = 'cgroup' | 'lsm';

/** Each with the reason why this machine cannot have it, if so: give it to test() as `skip`. */
export function modes(): { readonly mode: Mode; readonly options: { readonly skip?: string } }[] {
  const noLsm = whyNoLsm();
  return [
    { mode: 'cgroup', options: {} },
    { mode: 'lsm', options: noLsm === undefined ? {} : { skip: noLsm } },
  ];
}

/** One who tries. */
export interface Who {
  /** Below the host's cgroup; without: the host's own. */
  readonly cgroup?: string;
  readonly user?: number;
  readonly group?: number;
  /** Supplementary ones. */
  readonly groups?: readonly number[];
  /** Words before the client, which end in exec: `unshare -U …`. */
  readonly wrapper?: readonly string[];
}

export interface Arrival {
  readonly server: string;
  readonly what: 'accept' | 'line' | 'datagram';
  readonly from: string;
  readonly word?: string;
}

interface Outcome {
  readonly reply?: string;
  readonly error?: string;
  readonly at?: string;
  readonly missing?: string;
}

/** The host's addresses beside loopback, on the interface e0. */
export const HOST4 = '192.0.2.1';
export const HOST6 = '2001:db8::1';
export const HOST_LINK = 'fe80::1';
/** Of the host at the other end of the wire. */
export const PEER4 = '192.0.2.2';
export const PEER6 = '2001:db8::2';
const PEER_LINK = 'fe80::2';

/** The interface's number at both ends, for scopes of IPv6. */
const E0 = '77';

export interface StageOptions {
  readonly defaultAction?: 'allow' | 'deny';
  /** What the agent attaches to, instead of the host's cgroup. */
  readonly cgroup?: string;
}

const witnessProgram = fileURLToPath(new URL('witness.py', import.meta.url));
const movingClient = fileURLToPath(new URL('moves.py', import.meta.url));

/** Two hosts on one wire; the first has the agent. */
async function wire(host: TestHost, peer: TestHost): Promise<void> {
  const ends = ['peer', 'name', 'e0', 'index', E0, 'netns', peer.name];
  await host.ip('link', 'add', 'e0', 'index', E0, 'type', 'veth', ...ends);
  for (const [end, v4, v6, link, gateway] of [
    [host, HOST4, HOST6, HOST_LINK, PEER4],
    [peer, PEER4, PEER6, PEER_LINK, HOST4],
  ] as const) {
    const commands = [
      `addr add ${v4}/24 brd + dev e0`,
      `addr add ${v6}/64 dev e0 nodad`,
      `addr add ${link}/64 dev e0 nodad`,
      'link set e0 up',
      // Datagrams to groups and to everybody need a way out.
      `route add default via ${gateway}`,
    ];
    await run(['ip', '-n', end.name, '-batch', '-'], { input: commands.join('\n') });
    // Ping sockets and fast open need leave.
    const settings = ['net.ipv4.tcp_fastopen=3', 'net.ipv4.ping_group_range=0 2147483647'];
    // A host with containers forwards, and so has anycast addresses (RFC 4291, 2.6.1).
    if (end === host) settings.push('net.ipv6.conf.all.forwarding=1');
    await run(['nsenter', `--net=/run/netns/${end.name}`, 'sysctl', '-qw', ...settings]);
  }
}

export class Stage implements AsyncDisposable {
  readonly host: TestHost;
  /** At the other end of the wire, without an agent. */
  readonly peer: TestHost;
  readonly mode: Mode;
  /** As it was started, so that it can be started again. */
  readonly config: string;
  #witness: Child | undefined;
  /** Attempts that this kernel cannot make at all, with the reason: a test says them. */
  readonly missing = new Map<string, string>();
  /** How long a client waits for an answer; for attempts whose packets are dropped. */
  waitMs: number | undefined;
  #marks = 0;
  #words = 0;
  #read = 0;

  private constructor(host: TestHost, peer: TestHost, mode: Mode, config: string) {
    this.host = host;
    this.peer = peer;
    this.mode = mode;
    this.config = config;
  }

  static async create(mode: Mode, options: StageOptions = {}): Promise<Stage> {
    await using scope = new AsyncDisposableStack();
    const host = scope.use(await TestHost.create());
    const peer = scope.use(await TestHost.create());
    await wire(host, peer);
    const { defaultAction = 'allow' } = options;
    const acl = { enforcement: mode, defaultAction };
    // Witnesses have port 53, at every address.
    const config = host.writeConfig({ maps: smallMaps, acl, dns: { enabled: false } });
    const where = options.cgroup === undefined ? {} : { cgroup: options.cgroup };
    await host.agent.start({ config, ...where });
    scope.move();
    return new Stage(host, peer, mode, config);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
    await this.peer[Symbol.asyncDispose]();
  }

  /** As `zerohop apply`; `$HOST` is the host's cgroup as rules write it. */
  async apply(...documents: readonly object[]): Promise<void> {
    const text = JSON.stringify({ documents });
    const body: unknown = JSON.parse(text.replaceAll('$HOST', this.cgroupPath()));
    const answer = await this.host.api('POST', '/v1/apply', body);
    assert.equal(answer.status, 200, `${answer.text}\n${text}`);
  }

  async removeAcl(name: string): Promise<void> {
    const answer = await this.host.api('DELETE', `/v1/acls/${name}`);
    assert.equal(answer.status, 200, answer.text);
  }

  /** Takes away all rules, services, witnesses and cgroups: as after create(). */
  async clear(): Promise<void> {
    for (const kind of ['acls', 'services']) {
      const list = (await this.host.api('GET', `/v1/${kind}`)).json() as {
        [kind: string]: { name: string }[];
      };
      for (const { name } of list[kind] ?? []) {
        const answer = await this.host.api('DELETE', `/v1/${kind}/${name}`);
        assert.equal(answer.status, 200, answer.text);
      }
    }
    await this.#witness?.stop('SIGKILL');
    this.#witness = undefined;
    this.#read = 0;
    this.missing.clear();
    const below = readdirSync(this.host.cgroup, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
    for (const path of below.toSorted().toReversed()) rmdirSync(path);
  }

  /** Makes it and answers where it is. */
  cgroup(name = ''): string {
    const path = join(this.host.cgroup, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** From the mount's root, as in `from: [{cgroup: …}]`. */
  cgroupPath(name = ''): string {
    return `/${this.host.cgroup.slice(dirname(this.host.cgroup).length + 1)}${name && `/${name}`}`;
  }

  /** The words that make a command this one's, after the host's own cgroup was joined. */
  become(who: Who): string[] {
    const { cgroup, user, group = user, groups, wrapper = [] } = who;
    const words: string[] = [];
    if (cgroup !== undefined)
      words.push(
        'sh',
        '-c',
        'echo 0 >"$0" && exec "$@"',
        join(this.cgroup(cgroup), 'cgroup.procs'),
      );
    if (user !== undefined || group !== undefined || groups !== undefined) {
      words.push('setpriv', '--reuid', String(user ?? 0), '--regid', String(group ?? 0));
      words.push(groups === undefined ? '--clear-groups' : `--groups=${groups.join()}`);
    }
    return [...words, ...wrapper];
  }

  /** NAME=KIND,ADDR,PORT of witness.py. Answers the names of those that this kernel cannot have. */
  async witnesses(...servers: readonly string[]): Promise<string[]> {
    const child = this.host.spawn(['/usr/bin/python3', witnessProgram, ...servers]);
    const [text] = await child.says(/^\[.*\]$/m, 20_000);
    this.#witness = child;
    const list = JSON.parse(text) as { name: string; missing?: string }[];
    return list.filter(({ missing }) => missing !== undefined).map(({ name }) => name);
  }

  /** What arrived at the servers since the last call. */
  async arrivals(): Promise<Arrival[]> {
    const witness = this.#witness;
    if (witness === undefined) return [];
    const mark = `m${++this.#marks}`;
    witness.say(`${mark}\n`);
    const end = `{"mark": "${mark}"}\n`;
    await eventually('the witness', () => witness.stdout.includes(end));
    const until = witness.stdout.indexOf(end) + end.length;
    const lines = witness.stdout.slice(this.#read, until).split('\n');
    this.#read = until;
    return lines
      .filter((line) => line.startsWith('{') && !line.startsWith('{"mark"'))
      .map((line) => JSON.parse(line) as Arrival);
  }

  /**
   * Makes the attempts (see attack.c) one after the other and answers what
   * became of each: the server that it reached, or the error.
   */
  async tries(who: Who, attempts: readonly string[], from = this.host): Promise<string[]> {
    return await this.#run([...this.become(who), await attackClient()], attempts, from);
  }

  /** As tries(), of one process that moves about (moves.py). */
  async moves(...steps: readonly string[]): Promise<string[]> {
    return await this.#run(['/usr/bin/python3', movingClient], steps, this.host);
  }

  /** As tries(), with another copy of the client or words before it. */
  async program(
    who: Who,
    program: readonly string[],
    attempts: readonly string[],
  ): Promise<string[]> {
    return await this.#run([...this.become(who), ...program], attempts, this.host);
  }

  async #run(command: string[], attempts: readonly string[], from: TestHost): Promise<string[]> {
    assert.deepEqual(await this.arrivals(), [], 'nobody had tried yet');
    const word = `w${++this.#words}`;
    const whole = [...command, word, ...attempts];
    const env = this.waitMs === undefined ? {} : { ATTACK_WAIT_MS: String(this.waitMs) };
    const { code, stdout, stderr } = await from.exec(whole, { timeoutMs: 120_000, env });
    assert.equal(code, 0, `${whole.join(' ')}\n${stderr}${stdout}`);
    return verdicts(word, JSON.parse(stdout) as Outcome[], await this.arrivals());
  }

  /** Makes the attempts, which must end as said: `{ 'tcp.connect=127.0.0.1,80': 'EPERM' }`. */
  async expect(
    who: Who,
    expected: Readonly<Record<string, string>>,
    from = this.host,
  ): Promise<void> {
    const attempts = Object.keys(expected);
    const seen = await this.tries(who, attempts, from);
    const got: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    for (const [i, attempt] of attempts.entries()) {
      const verdict = seen[i] ?? 'nothing';
      if (verdict.startsWith('missing')) {
        this.missing.set(attempt, verdict);
        continue;
      }
      got[attempt] = verdict;
      wanted[attempt] = expected[attempt] ?? '';
    }
    assert.deepEqual(got, wanted, `${this.mode}: ${JSON.stringify(who)}`);
  }

  /** The same attempts by one who may, and by one who may not: nothing of his may arrive. */
  async expectOnly(
    allowed: Who,
    denied: Who,
    expected: Readonly<Record<string, string>>,
    from = this.host,
  ): Promise<void> {
    const none = Object.fromEntries(Object.keys(expected).map((attempt) => [attempt, 'EPERM']));
    await this.expect(denied, none, from);
    await this.expect(allowed, expected, from);
  }
}

/** What became of each attempt; what arrived counts more than what the client says. */
function verdicts(
  word: string,
  outcomes: readonly Outcome[],
  arrivals: readonly Arrival[],
): string[] {
  const talked = new Set(
    arrivals.filter(({ what }) => what === 'line').map(({ server, from }) => `${server} ${from}`),
  );
  const silent = arrivals.filter(
    ({ what, server, from }) => what === 'accept' && !talked.has(`${server} ${from}`),
  );
  // Only one that failed otherwise may have got as far as that.
  const failed = outcomes.filter(({ error = 'EPERM' }) => error !== 'EPERM');
  assert.ok(
    silent.length <= failed.length,
    `accepted, and never a word: ${JSON.stringify({ silent, outcomes })}`,
  );
  return outcomes.map((outcome, i) => {
    if (outcome.missing !== undefined) return `missing: ${outcome.missing}`;
    const reached = arrivals.find((arrival) => arrival.word === `${word}.${i + 1}`);
    const error = outcome.error ?? '';
    if (reached === undefined) return error || (outcome.reply ?? 'nothing');
    if (error === 'EPERM') return `EPERM, but ${reached.server} got it`;
    return reached.server;
  });
}
