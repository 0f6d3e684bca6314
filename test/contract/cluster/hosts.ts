/** Hosts whose members run in this process, over loopback; their state is in memory, and outlives a restart. */
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAddress } from '../../../src/cluster/address.ts';
import type { FactChanged } from '../../../src/cluster/ephemeral.ts';
import { systemClock } from '../../../src/cluster/io/clock.ts';
import { foundCluster, type Founded } from '../../../src/cluster/io/founding.ts';
import type { Identity } from '../../../src/cluster/io/identity.ts';
import { joinCluster } from '../../../src/cluster/io/joining.ts';
import type { MemberOptions } from '../../../src/cluster/io/member-options.ts';
import { Member } from '../../../src/cluster/io/member.ts';
import { systemRandom } from '../../../src/cluster/io/random.ts';
import { Vault } from '../../../src/cluster/io/vault.ts';
import type { Peer } from '../../../src/hyparview-ts/index.ts';
import {
  documentOf,
  Replica,
  SHARED,
  type Saved,
  type Update,
} from '../../../src/state/replica/replica.ts';
import { eventually } from '../../harness/eventually.ts';

export const POOLS = ['240.0.0.0/4', 'fd7a:6572:6f68:6f70::/64'];

export class Host {
  readonly name: string;
  readonly directory = mkdtempSync(join(tmpdir(), 'zerohop-member-'));
  readonly vault = new Vault(this.directory);
  readonly identity: Identity;
  readonly seeds: readonly Peer[];
  readonly writer = randomInt(1, 2 ** 31);
  readonly log: string[] = [];
  /** What the agent holds: it follows `changed` and nothing else. */
  seen = new Map<string, string>();
  facts: FactChanged[] = [];
  /** Keys that others wrote. */
  readonly heard: string[] = [];
  /** How often it was told that others can be reached, or not. */
  told = 0;
  isDiskFull = false;
  replica: Replica;
  #stored: Update[] = [];
  #clock = '';
  /** Chosen by the kernel at the first start, and the same from then on. */
  #port = 0;
  #member: Member | undefined;

  constructor(name: string, identity: Identity, seeds: readonly Peer[]) {
    this.name = name;
    this.identity = identity;
    this.seeds = seeds;
    this.replica = this.#open();
  }

  get id(): string {
    return this.identity.nodeId;
  }

  get node(): string {
    return this.id;
  }

  get member(): Member {
    if (this.#member === undefined) throw new Error(`${this.name} does not run`);
    return this.#member;
  }

  get isRunning(): boolean {
    return this.#member !== undefined;
  }

  get saved(): Saved {
    return { clock: this.#clock, updates: this.#stored };
  }

  /** As from a backup. */
  restore({ clock, updates }: Saved): void {
    this.#clock = clock;
    this.#stored = [...updates];
  }

  #open(): Replica {
    return Replica.open(this, this.saved);
  }

  #keep(updates: readonly Update[], whole: boolean): void {
    const ids = new Set(whole ? updates.map(({ document }) => document) : []);
    this.#stored = [...this.#stored.filter(({ document }) => !ids.has(document)), ...updates];
    this.#clock = this.replica.clockState();
  }

  async start(options: Partial<MemberOptions> = {}): Promise<Member> {
    this.replica = this.#open();
    this.seen = valuesOf(this.replica);
    this.facts = [];
    const note =
      (level: string) =>
      (fields: object, message: string): void => {
        this.log.push(`${level} ${message} ${JSON.stringify(fields)}`);
      };
    this.#member = await Member.start({
      vault: this.vault,
      identity: this.vault.identity() ?? this.identity,
      state: {
        replica: this.replica,
        keep: (updates, whole) => this.#keep(updates, whole),
        write: (writes, nowMs) => {
          if (this.isDiskFull) throw new Error('a full disk');
          const done = this.replica.transact(writes, nowMs);
          this.#keep(done.updates, false);
          this.#follow(done.changed);
          return done;
        },
        renew: () => this.replica.renew(this.writer ^ 1),
        forget: (node) => {
          this.#follow(this.replica.forgetDocument(documentOf(node)));
          this.#stored = this.#stored.filter(({ document }) => document !== documentOf(node));
        },
      },
      settings: {
        listen: { host: '127.0.0.1', port: this.#port },
        advertise: undefined,
        zone: 'here',
        name: this.name,
        vips: POOLS,
      },
      dataDirectory: this.directory,
      software: '1.2.3',
      seeds: this.seeds,
      clock: systemClock,
      random: systemRandom(),
      log: { debug: note('debug'), info: note('info'), warn: note('warn') },
      handlers: {
        changed: (changed) => {
          this.heard.push(...changed.map(({ key }) => key));
          this.#follow(changed);
        },
        reachability: () => {
          this.told += 1;
        },
        facts: (changed) => this.facts.push(...changed),
      },
      ...options,
    });
    this.#port = parseAddress(this.#member.address).port;
    return this.#member;
  }

  #follow(changed: readonly { document: string; key: string; after: string | undefined }[]): void {
    for (const { document, key, after } of changed) {
      if (after === undefined) this.seen.delete(`${document} ${key}`);
      else this.seen.set(`${document} ${key}`, after);
    }
  }

  /** As the agent writes: stored, then told. */
  write(document: 'shared' | 'own', key: string, value: string | undefined): void {
    const done = this.replica.transact([{ document, key, value }], Date.now());
    this.#keep(done.updates, false);
    this.#follow(done.changed);
    this.member.local(done);
  }

  /** Of the shared document. */
  reads(key: string): string | undefined {
    return this.seen.get(`${SHARED} ${key}`);
  }

  async stop(goodbye: boolean): Promise<void> {
    const member = this.#member;
    this.#member = undefined;
    await member?.stop(goodbye);
  }

  /** After leave(). */
  ended(): void {
    this.#member = undefined;
  }
}

export function valuesOf(replica: Replica): Map<string, string> {
  const values = new Map<string, string>();
  for (const id of replica.documents())
    for (const { key } of replica.winners(id))
      values.set(`${id} ${key}`, replica.get(id, key) ?? '?');
  return values;
}

export const SLOW = { timeoutMs: 20_000 };

/** With the host itself. */
export function alive({ member }: Host): number {
  return member.members().filter(({ state }) => state === 'alive' || state === 'suspect').length;
}

export function names({ member }: Host): string {
  return member
    .members()
    .map(({ name }) => name)
    .sort()
    .join(' ');
}

export function unreachable({ member }: Host): string[] {
  return [...member.unreachable()].sort();
}

/** Hosts of one cluster; stop() ends them and takes their directories away. */
export class Hosts {
  readonly all: Host[] = [];

  /** The first one, which signs. */
  async found(name: string, founded?: Founded): Promise<Host> {
    const { authority, identity } = founded ?? (await foundCluster(systemClock));
    const host = new Host(name, identity, []);
    host.vault.saveAuthorityKey(authority.keyPem);
    host.vault.saveIdentity(identity);
    this.all.push(host);
    await host.start();
    return host;
  }

  /** Three that know each other. */
  async three(): Promise<readonly [Host, Host, Host]> {
    const a = await this.found('a');
    const three = [a, await this.join('b', a), await this.join('c', a)] as const;
    await eventually('all to know all', () => three.every((host) => alive(host) === 3), SLOW);
    await eventually('all records', () => three.every((host) => names(host) === 'a b c'), SLOW);
    return three;
  }

  async join(name: string, through: Host, word?: string): Promise<Host> {
    const token = word ?? through.member.issueToken(60_000, false).token;
    const joined = await joinCluster(through.member.address, token, systemClock);
    const host = new Host(name, joined.identity, joined.peers);
    host.vault.saveIdentity(joined.identity);
    this.all.push(host);
    await host.start({ revocations: joined.revocations });
    return host;
  }

  async stop(): Promise<void> {
    await Promise.all(this.all.map((host) => host.stop(false)));
    for (const { directory } of this.all) rmSync(directory, { recursive: true });
  }
}
