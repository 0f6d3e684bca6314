/**
 * The programs of access control on a test host, with policies written by hand
 * through the codecs: no compiler, no agent.
 */
import { mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  BpfError,
  type BpfLink,
  type BpfMap,
  type LoadedObject,
  openObject,
  RingBuffer,
} from '../../addon/index.ts';
import * as acl from '../../src/acl/abi.ts';
import {
  encodeBackend,
  encodeService,
  encodeSlot,
  encodeU32,
  encodeVipKey,
} from '../../src/datapath/abi.ts';
import { aclHooks, hooks } from '../../src/datapath/hooks.ts';
import { canTellSubflows, haveSetRetval } from '../../src/datapath/io/features.ts';
import { objectPath } from '../../src/datapath/io/object.ts';
import { parseCidr } from '../../src/net/cidr.ts';
import { parseIp } from '../../src/net/ip.ts';
import { type Child } from '../harness/child.ts';
import { eventually } from '../harness/eventually.ts';
import type { TestHost } from '../harness/host.ts';
import { dialClient } from '../harness/programs.ts';

export type Mode = 1 | 2;

export const protocols = { tcp: 6, udp: 17 } as const;
export type Protocol = keyof typeof protocols;

export type Matches = Partial<acl.MatchValue>;

/** An endpoint (`ip`, port), a block with or without a port, or an ingress port. */
export interface Dest {
  readonly ip?: string;
  readonly block?: string;
  readonly ingress?: true;
  readonly port?: number;
  readonly protocol?: Protocol;
  /** The allow rule that closes it. */
  readonly restricted?: number;
  readonly any?: Matches;
  readonly tags?: Readonly<Record<number, Matches>>;
  readonly users?: Readonly<Record<number, Matches>>;
  readonly groups?: Readonly<Record<number, Matches>>;
  readonly sources?: Readonly<Record<string, Matches>>;
  readonly tagsDeny?: true;
  readonly groupsDeny?: true;
}

export interface Policy {
  readonly defaultDeny?: true;
  readonly automaton?: number;
  readonly dests: readonly Dest[];
}

export interface LoadOptions {
  readonly mode: Mode;
  readonly ringBytes?: number;
  readonly cgroups?: number;
}

export function ip(text: string): Uint8Array {
  const bytes = parseIp(text);
  if (bytes === undefined) throw new Error(`no address: ${text}`);
  return bytes;
}

/** Why this kernel cannot run mode 2; undefined where it can. */
export function lsmMissing(): string | undefined {
  let order = '';
  try {
    order = readFileSync('/sys/kernel/security/lsm', 'utf8').trim();
  } catch {
    return 'there is no /sys/kernel/security/lsm';
  }
  if (!order.split(',').includes('bpf')) return `lsm=${order} has no bpf`;
  const object = openObject(objectPath());
  try {
    object.setGlobal('zh_acl_mode', Uint8Array.of(2));
    for (const { name } of object.programs()) object.setAutoload(name, name === 'zh_lsm_connect');
    object.load().close();
    return undefined;
  } catch (error) {
    if (error instanceof BpfError && error.code === 'EPERM') return 'LSM programs are not allowed';
    throw error;
  } finally {
    object.close();
  }
}

export const cgroupId = (path: string): bigint => statSync(path, { bigint: true }).ino;

function u32(value: number): Uint8Array {
  return encodeU32(value);
}

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

const full = (matches: Matches): acl.MatchValue => ({ deny: 0, allow: 0, audit: 0, ...matches });

export class AclKit implements Disposable {
  readonly host: TestHost;
  readonly mode: Mode;
  readonly object: LoadedObject;
  readonly #maps = new Map<string, BpfMap>();
  readonly #links: BpfLink[] = [];
  readonly #ring: RingBuffer;
  readonly #events: acl.AclEvent[] = [];
  #gen = 0;
  #written: { map: string; key: Uint8Array }[] = [];

  private constructor(host: TestHost, mode: Mode, object: LoadedObject) {
    this.host = host;
    this.mode = mode;
    this.object = object;
    this.#ring = new RingBuffer(
      this.map('zh_acl_events'),
      (record) => this.#events.push(acl.decodeEvent(record.slice())),
      { unref: true },
    );
  }

  static load(
    host: TestHost,
    { mode, ringBytes = 256 * 1024, cgroups = 256 }: LoadOptions,
  ): AclKit {
    const object = openObject(objectPath());
    try {
      object.setGlobal('zh_acl_mode', Uint8Array.of(mode));
      object.setGlobal('zh_have_set_retval', Uint8Array.of(haveSetRetval() ? 1 : 0));
      object.setGlobal('zh_have_mptcp', Uint8Array.of(canTellSubflows() ? 1 : 0));
      object.setGlobal('zh_vip4_net', Uint8Array.of(240, 0, 0, 0));
      object.setGlobal('zh_vip4_mask', Uint8Array.of(255, 0, 0, 0));
      object.setGlobal('zh_scope_id', u64(cgroupId(host.cgroup)));
      object.setMaxEntries('zh_acl_events', ringBytes);
      object.setMaxEntries('zh_acl_cgroups', cgroups);
      for (const { name } of object.programs()) {
        object.setAutoload(name, mode === 2 || !name.startsWith('zh_lsm'));
      }
      return new AclKit(host, mode, object.load());
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** The service hooks, and BPF LSM in mode 2. */
  attach(): this {
    for (const { program: name } of hooks) {
      using program = this.object.program(name);
      this.#links.push(program.attachCgroup(this.host.cgroup));
    }
    if (this.mode === 2) {
      for (const { program: name } of aclHooks.judge) {
        using program = this.object.program(name);
        this.#links.push(program.attach());
      }
    }
    return this;
  }

  attachIngress(): this {
    using program = this.object.program('zh_ingress');
    this.#links.push(program.attachCgroup(this.host.cgroup));
    return this;
  }

  /** New cgroups are classified from here on. */
  watch(): this {
    for (const what of ['cgroup_mkdir', 'cgroup_rmdir']) {
      using program = this.object.program(`zh_${what}`);
      this.#links.push(program.attachRawTracepoint(what));
    }
    return this;
  }

  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (map === undefined) {
      map = this.object.map(name);
      this.#maps.set(name, map);
    }
    return map;
  }

  setHead(change: Partial<acl.AclEntry>): void {
    const map = this.map('zh_acl');
    const now = acl.decodeAcl(map.get(u32(0)) ?? new Uint8Array(acl.aclLayouts.acl.bytes));
    map.set(u32(0), acl.encodeAcl({ ...now, layout: acl.aclLayoutVersion, ...change }));
  }

  /** Puts a policy in force, in place of the one before: written, flipped, the old deleted. */
  enforce(policy: Policy): void {
    const old = this.#written;
    this.#written = [];
    const gen = this.#gen + 1;
    let flags = policy.defaultDeny === true ? acl.genFlag.defaultDeny : 0;
    policy.dests.forEach((dest, i) => (flags |= this.#writeDest(gen, i + 1, dest)));
    const entry = { gen, automaton: policy.automaton ?? 1, flags };
    this.map('zh_acl_gens').set(u32(gen & 1), acl.encodeGen(entry));
    this.setHead({ gen });
    this.#gen = gen;
    for (const { map, key } of old) this.map(map).delete(key);
  }

  #put(map: string, key: Uint8Array, value: Uint8Array): void {
    this.map(map).set(key, value);
    this.#written.push({ map, key });
  }

  #writeDest(gen: number, policy: number, dest: Dest): number {
    const kinds = { any: { 0: dest.any }, tag: dest.tags, user: dest.users, group: dest.groups };
    const { policyFlag: flag, genFlag } = acl;
    let flags = dest.restricted === undefined ? 0 : flag.restricted;
    if (dest.any !== undefined) flags |= flag.hasAny;
    if (dest.tags !== undefined) flags |= flag.hasTags;
    if (dest.users !== undefined) flags |= flag.hasUsers;
    if (dest.groups !== undefined) flags |= flag.hasGroups;
    if (dest.tagsDeny === true) flags |= flag.tagsDeny;
    if (dest.groupsDeny === true) flags |= flag.groupsDeny;
    for (const [kind, values] of Object.entries(kinds)) {
      for (const [value, matches] of Object.entries(values ?? {})) {
        if (matches === undefined) continue;
        const key = {
          gen,
          policy,
          kind: acl.matchKind[kind as acl.MatchKind],
          value: Number(value),
        };
        this.#put('zh_acl_matches', acl.encodeMatchKey(key), acl.encodeMatch(full(matches)));
      }
    }
    for (const [cidr, matches] of Object.entries(dest.sources ?? {})) {
      const { first, prefixLength } = cidrOf(cidr);
      const key = acl.encodeSourceKey({ gen, policy, addr: first, bits: prefixLength });
      this.#put('zh_acl_sources', key, acl.encodeMatch(full(matches)));
    }
    const region = dest.block === undefined ? 0 : this.#region(gen, dest.block);
    const key = acl.encodeDestKey({
      gen,
      region,
      ...(dest.ip === undefined ? {} : { addr: ip(dest.ip) }),
      port: dest.port ?? 0,
      protocol: dest.port === undefined ? 0 : protocols[dest.protocol ?? 'tcp'],
      ...(dest.ingress === undefined ? {} : { ingress: dest.ingress }),
    });
    this.#put('zh_acl_dests', key, acl.encodeDest({ policy, flags, rule: dest.restricted ?? 0 }));
    if (dest.ingress !== undefined) return genFlag.haveIngress;
    return region === 0 ? genFlag.haveDests : genFlag.haveCidrs;
  }

  readonly #regions = new Map<string, number>();

  #region(gen: number, block: string): number {
    const region = this.#regions.get(block) ?? this.#regions.size + 1;
    this.#regions.set(block, region);
    const { first, prefixLength } = cidrOf(block);
    const key = acl.encodeCidrKey({ gen, addr: first, bits: prefixLength });
    this.#put('zh_acl_cidrs', key, u32(region));
    return region;
  }

  /** A cgroup's entry, as the agent's scan writes it. */
  classify(path: string, value: Partial<acl.CgroupValue>, automaton = 1): void {
    const key = acl.encodeCgroupKey({ id: cgroupId(path), automaton });
    const whole = { state: 0, tags: [], overflow: false, ...value };
    this.map('zh_acl_cgroups').set(key, acl.encodeCgroup(whole));
  }

  classOf(id: bigint, automaton = 1): acl.CgroupValue | undefined {
    const bytes = this.map('zh_acl_cgroups').get(acl.encodeCgroupKey({ id, automaton }));
    return bytes === undefined ? undefined : acl.decodeCgroup(bytes);
  }

  placeOf(id: bigint): acl.PlaceValue | undefined {
    const bytes = this.map('zh_acl_places').get(acl.encodePlaceKey(id));
    return bytes === undefined ? undefined : acl.decodePlace(bytes);
  }

  /** A service with one backend. */
  serve(
    vip: string,
    port: number,
    backend: { ip: string; port: number },
    protocol: Protocol,
  ): void {
    const key = { addr: ip(vip), port, protocol: protocols[protocol] };
    const service = { key, members: 1, base: 0, count: 1, gen: 1 };
    const slot = { backend: 0, alias: 0, threshold: 0xffffffff, gen: 1, weight: 1 };
    const to = { addr: ip(backend.ip), port: backend.port, state: 1, service: 0, incarnation: 1 };
    this.map('zh_backends').set(u32(0), encodeBackend(to));
    this.map('zh_slots').set(u32(0), encodeSlot(slot));
    this.map('zh_services').set(u32(0), encodeService(service));
    this.map('zh_vips').set(encodeVipKey(key), u32(0));
  }

  stats(rule: number): { denied: number; allowed: number; audited: number } {
    const bytes = this.map('zh_acl_stats').get(u32(rule)) ?? new Uint8Array(0);
    const { denied, allowed, audited } = acl.decodeStats(bytes);
    return { denied: Number(denied), allowed: Number(allowed), audited: Number(audited) };
  }

  counts(): { dropped: number; unknown: number; unclassed: number } {
    const bytes = this.map('zh_acl_counts').get(u32(0)) ?? new Uint8Array(0);
    const { dropped, unknown, unclassed } = acl.decodeCounts(bytes);
    return { dropped: Number(dropped), unknown: Number(unknown), unclassed: Number(unclassed) };
  }

  /** All events since the last call. */
  events(): acl.AclEvent[] {
    let before = -1;
    while (this.#events.length !== before) {
      before = this.#events.length;
      this.#ring.drain();
    }
    return this.#events.splice(0);
  }

  [Symbol.dispose](): void {
    for (const link of this.#links) link.close();
    this.#ring.close();
    for (const map of this.#maps.values()) map.close();
    this.object.close();
  }
}

/** prefixLength as for IPv6: that of an IPv4 block plus 96. */
function cidrOf(text: string): { first: Uint8Array; prefixLength: number } {
  const parsed = parseCidr(text);
  if (!parsed.ok) throw new Error(`${text} ${parsed.reason}`);
  const { first, prefixLength, family } = parsed.cidr;
  return { first, prefixLength: prefixLength + (family === 4 ? 96 : 0) };
}

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
}

/** A process that dials on demand: test/system/clients/dial.c. */
export class Workload {
  readonly #child: Child;
  #lines = 0;

  private constructor(child: Child) {
    this.#child = child;
  }

  static async start(host: TestHost, cgroup: string, identity?: Identity): Promise<Workload> {
    const { uid, gid, groups = [] } = identity ?? {};
    const ids = uid === undefined ? [] : [uid, gid, ...groups].map(String);
    const join = ['sh', '-c', 'echo 0 >"$0/cgroup.procs" && exec "$@"', cgroup];
    const workload = new Workload(host.spawn([...join, await dialClient(), ...ids]));
    // In its cgroup and of its identity before the first question of a test.
    await workload.asks('connect udp 127.255.255.254 1');
    return workload;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** What it answers: `ok`, or the name of an errno. */
  async asks(line: string, timeoutMs = 60_000): Promise<string> {
    const at = this.#lines++;
    this.#child.say(`${line}\n`);
    return await eventually(
      `an answer to ${line}`,
      () => {
        const lines = this.#child.stdout.split('\n');
        if (lines.length > at + 1) return lines[at]?.trim();
        if (!this.#child.running) throw new Error(`dial ended: ${this.#child.stderr}`);
        return undefined;
      },
      { timeoutMs, everyMs: 1 },
    );
  }

  async end(): Promise<void> {
    this.#child.endInput();
    await this.#child.result();
  }

  moveTo(cgroup: string): void {
    writeFileSync(join(cgroup, 'cgroup.procs'), String(this.pid));
  }
}

/** A cgroup below the host's. */
export function makeCgroup(host: TestHost, ...path: readonly string[]): string {
  const made = join(host.cgroup, ...path);
  mkdirSync(made, { recursive: true });
  return made;
}

export { rmdirSync as removeCgroup };
