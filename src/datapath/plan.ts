/**
 * Desired frontends against the tables: which writes, in which order.
 *
 * The order is fixed, so that no prefix of a plan shows a half-made service:
 * what nobody refers to is written first (names, backends, slots), then each
 * service's set is switched in one entry, then VIPs appear, then VIPs go, and
 * last what nobody refers to any more is cleared. Silent when all is right.
 */
import { BlockPool, IndexPool, restMs, withoutOverlaps } from './allocate.ts';
import {
  backendState,
  bytesToKey,
  encodeBackend,
  encodeMeta,
  encodeName,
  encodeService,
  encodeSlot,
  decodeVipKey,
  keyToBytes,
  layoutMagic,
  layoutVersion,
  noSuchPort,
  putKey,
  putU32,
} from './abi.ts';
import type { ServiceEntry } from './abi.ts';
import { columnsOf, differs, endpointKey, stateNumber } from './compare.ts';
import { anyPortKey, claimedKeys, isAnyPort } from './desired.ts';
import type { Frontend, Target } from './desired.ts';
import { GroupBuilder } from './tables.ts';
import type { Member, TableName, Tables, WriteGroup } from './tables.ts';
import { backendText, reasonText } from './text.ts';
import type { Reason } from './text.ts';

export interface PlanLimits {
  readonly services: number;
  readonly slots: number;
  readonly backends: number;
}

/** The tables cannot hold what is wanted; nothing was written. */
export class LimitError extends Error {
  override readonly name = 'LimitError';
  readonly limit: keyof PlanLimits;
  readonly max: number;
  /** Set when room will be there after this long: freed entries are resting. */
  readonly retryAfterMs: number | undefined;

  constructor(limit: keyof PlanLimits, max: number, retryAfterMs?: number) {
    super(`the kernel map for ${limit} is full (maps.${limit} = ${max})`);
    this.limit = limit;
    this.max = max;
    this.retryAfterMs = retryAfterMs;
  }
}

/** zh_set.count of bpf/abi.h has 16 bits. */
export const setBackendsMax = 65_535;

/** One VIP and port has more backends than a set can hold; nothing was written. */
export class SetSizeError extends Error {
  override readonly name = 'SetSizeError';

  constructor({ service, port, targets }: Frontend) {
    super(
      `${service}:${port} has ${targets.length} backends; one VIP and port takes ${setBackendsMax} at most`,
    );
  }
}

export interface Plan {
  readonly groups: readonly WriteGroup[];
  readonly writes: number;
  /** What was wrong, for repairs: one line a frontend. */
  readonly reasons: readonly string[];
  readonly revision: number;
}

const phases = [
  ['name', 'names', 'set'],
  ['serviceStats', 'svc_stats', 'set'],
  ['backendStats', 'bk_stats', 'set'],
  ['backend', 'backends', 'set'],
  ['slot', 'slots', 'set'],
  ['service', 'services', 'set'],
  ['vip', 'vips', 'set'],
  ['vipGone', 'vips', 'delete'],
  ['anyPortGone', 'vips', 'delete'],
  ['serviceGone', 'services', 'set'],
  ['backendGone', 'backends', 'set'],
  ['nameGone', 'names', 'delete'],
  ['meta', 'meta', 'set'],
] as const satisfies readonly (readonly [string, TableName, 'set' | 'delete'])[];

type Phase = (typeof phases)[number][0];

const NO_ADDRESS = new Uint8Array(16);

/** Undone when a plan is abandoned, carried out when it was applied. */
interface Draft {
  readonly builders: Map<Phase, GroupBuilder>;
  readonly reasons: Reason[];
  readonly takenServices: number[];
  readonly takenBackends: number[];
  readonly takenBlocks: number[];
  readonly freedServices: number[];
  readonly freedBackends: number[];
  readonly freedBlocks: number[];
  readonly vipDelta: Map<string, number>;
  readonly indexChanges: {
    readonly frontend: string;
    readonly index: number | undefined;
    readonly service: string;
  }[];
  readonly revision: number;
  readonly now: number;
}

export interface PlannerOptions {
  readonly limits: PlanLimits;
  /** Whether an address of 16 bytes (as a string) is of the VIP ranges. */
  readonly inVipRange: (address: string) => boolean;
}

/** Keeps the tables as they were applied, and plans against them. */
export class Planner {
  readonly tables: Tables;
  readonly #options: PlannerOptions;
  readonly #serviceIndices: IndexPool;
  readonly #backendIds: IndexPool;
  readonly #blocks: BlockPool;
  /** Frontend keys by the service that has them. */
  readonly #byService = new Map<string, Set<string>>();
  /** Frontends by VIP (16 bytes as a string). */
  readonly #vipUses = new Map<string, number>();
  #open: Draft | undefined;

  constructor(tables: Tables, options: PlannerOptions) {
    this.tables = tables;
    this.#options = options;
    const services = new Set<number>();
    const backends = new Set<number>();
    const blocks = new Map<number, number>();
    for (const [key, index] of tables.vips) {
      if (index === noSuchPort || !this.#sane(key, index)) continue;
      services.add(index);
      this.#note(tables.names.get(index)?.service ?? '', key, 1);
      const entry = tables.service(index);
      const members = this.#membersOf(index);
      if (ownsBlock(entry, members)) blocks.set(entry.base, entry.members);
      for (const member of members) backends.add(member.id);
    }
    this.#serviceIndices = new IndexPool(options.limits.services, services);
    this.#backendIds = new IndexPool(options.limits.backends, backends);
    this.#blocks = new BlockPool(
      options.limits.slots,
      withoutOverlaps([...blocks].map(([base, count]) => ({ base, count }))),
    );
  }

  /** How full the tables are. */
  get used(): Readonly<Record<keyof PlanLimits | 'vips', number>> {
    return {
      services: this.#serviceIndices.used,
      slots: this.#blocks.used,
      backends: this.#backendIds.used,
      vips: this.tables.vips.size,
    };
  }

  /** Names of the services that the tables hold. */
  serviceNames(): IterableIterator<string> {
    return this.#byService.keys();
  }

  /**
   * The plan that gives each named service exactly these frontends. Must be
   * followed by applied() or abandoned(). Throws LimitError.
   *
   * `whole`: these are all services there are; anything else in the tables goes.
   */
  plan(
    wanted: ReadonlyMap<string, readonly Frontend[]>,
    revision: number,
    now: number,
    whole = false,
  ): Plan {
    if (this.#open !== undefined) throw new Error('bug: a plan is still open');
    const draft = newDraft(revision, now);
    this.#open = draft;
    try {
      const claimed = claimedKeys(wanted);
      for (const [service, frontends] of wanted) {
        this.#planService(draft, service, frontends, claimed);
      }
      if (whole) this.#removeStrangers(draft, wanted, claimed);
      this.#planAnyPorts(draft, whole);
    } catch (error) {
      this.abandoned();
      throw error;
    }
    if (revision !== this.tables.revision || draft.builders.size > 0) {
      encodeMeta({ magic: layoutMagic, layout: layoutVersion, revision }, add(draft, 'meta', 0));
    }
    const groups = phases.flatMap(([phase]) => draft.builders.get(phase)?.build() ?? []);
    const writes = groups.reduce(
      (sum, group) => sum + (group.table === 'meta' ? 0 : group.count),
      0,
    );
    return {
      groups,
      writes,
      revision,
      get reasons() {
        return draft.reasons.map(reasonText);
      },
    };
  }

  /** The open plan is in the kernel: take it over. */
  applied(plan: Plan): void {
    const draft = this.#open;
    if (draft === undefined) throw new Error('bug: no plan is open');
    this.#open = undefined;
    this.tables.apply(plan.groups);
    this.tables.revision = plan.revision;
    for (const index of draft.freedServices) this.#serviceIndices.give(index, draft.now);
    for (const id of draft.freedBackends) this.#backendIds.give(id, draft.now);
    for (const base of draft.freedBlocks) this.#blocks.give(base, draft.now);
    for (const [vip, delta] of draft.vipDelta) this.#countVip(vip, delta);
    for (const { service, frontend, index } of draft.indexChanges) {
      this.#noteKey(service, frontend, index !== undefined);
    }
  }

  /** The open plan was not (wholly) applied; nothing of it counts. */
  abandoned(): void {
    const draft = this.#open;
    this.#open = undefined;
    if (draft === undefined) return;
    for (const index of draft.takenServices) this.#serviceIndices.untake(index);
    for (const id of draft.takenBackends) this.#backendIds.untake(id);
    for (const base of draft.takenBlocks) this.#blocks.untake(base);
  }

  #sane(key: string, index: number): boolean {
    if (index >= this.#options.limits.services) return false;
    return bytesToKey(this.tables.services.get(index).subarray(0, 20)) === key;
  }

  /** Its members, without what a damaged table may show there. */
  #membersOf(index: number): Member[] {
    return this.tables
      .members(this.tables.service(index))
      .filter(
        ({ id, backend }) =>
          id < this.#options.limits.backends &&
          backend.service === index &&
          backend.state !== backendState.free,
      );
  }

  #note(service: string, key: string, delta: number): void {
    this.#noteKey(service, key, delta > 0);
    this.#countVip(key.slice(0, 16), delta);
  }

  #noteKey(service: string, key: string, present: boolean): void {
    const keys = this.#byService.get(service) ?? new Set<string>();
    if (present) keys.add(key);
    else keys.delete(key);
    if (keys.size > 0) this.#byService.set(service, keys);
    else this.#byService.delete(service);
  }

  #countVip(vip: string, delta: number): void {
    const uses = (this.#vipUses.get(vip) ?? 0) + delta;
    if (uses > 0) this.#vipUses.set(vip, uses);
    else this.#vipUses.delete(vip);
  }

  #planService(
    draft: Draft,
    service: string,
    frontends: readonly Frontend[],
    claimed: ReadonlySet<string>,
  ): void {
    const kept = new Set<string>();
    for (const frontend of frontends) {
      kept.add(frontend.key);
      this.#planFrontend(draft, frontend);
    }
    for (const key of this.#byService.get(service) ?? []) {
      // A VIP that another service takes over is switched there, not removed here.
      if (!kept.has(key) && !claimed.has(key)) this.#removeFrontend(draft, service, key);
    }
  }

  #planFrontend(draft: Draft, frontend: Frontend): void {
    const index = this.tables.vips.get(frontend.key);
    if (index === undefined || index === noSuchPort || !this.#sane(frontend.key, index)) {
      const what =
        index === undefined ? 'not in the maps' : 'points to a service that is not its own';
      because(draft, frontend, what);
      this.#create(draft, frontend, undefined);
      return;
    }
    const name = this.tables.names.get(index);
    if (name?.service !== frontend.service || name.port !== frontend.port) {
      because(
        draft,
        frontend,
        `carried the name ${name?.service ?? 'of nobody'}:${name?.port ?? ''}`,
      );
      this.#create(draft, frontend, index);
      return;
    }
    this.#update(draft, frontend, index);
  }

  #create(draft: Draft, frontend: Frontend, replaced: number | undefined): void {
    const index = this.#serviceIndices.take(draft.now);
    if (index === undefined) throw this.#full('services', this.#serviceIndices.resting);
    draft.takenServices.push(index);
    const { service, port, key } = frontend;
    encodeName({ service, port }, add(draft, 'name', index));
    add(draft, 'serviceStats', index); // zero
    const gen = (this.tables.service(index).gen + 1) & 0xffff;
    this.#writeSet(draft, frontend, index, gen, []);
    putU32(add(draft, 'vip', key), 0, index);
    draft.indexChanges.push({ frontend: key, index, service });
    if (replaced === undefined) {
      bump(draft.vipDelta, key.slice(0, 16), 1);
    } else {
      const owner = this.tables.names.get(replaced)?.service ?? '';
      draft.indexChanges.unshift({ frontend: key, index: undefined, service: owner });
      this.#clearService(draft, replaced);
    }
  }

  #update(draft: Draft, frontend: Frontend, index: number): void {
    const entry = this.tables.service(index);
    const members = this.#membersOf(index);
    const wrong = differs(frontend, entry, members);
    if (wrong === undefined) return;
    because(draft, frontend, wrong);
    this.#writeSet(draft, frontend, index, (entry.gen + 1) & 0xffff, members);
    if (ownsBlock(entry, members)) draft.freedBlocks.push(entry.base);
  }

  /** Backends and slots of a frontend's new set, then the entry that shows them; other members go. */
  #writeSet(
    draft: Draft,
    frontend: Frontend,
    index: number,
    gen: number,
    members: readonly Member[],
  ): void {
    if (frontend.targets.length > setBackendsMax) throw new SetSizeError(frontend);
    // Of a new one, which may be one of 10,000 at once, there is nothing to look up.
    const wanted =
      members.length === 0
        ? undefined
        : new Map(frontend.targets.map((t) => [endpointKey(t.address, t.port), t]));
    const ids: number[] = [];
    const targets: Target[] = [];
    for (const { id, backend } of members) {
      const where = endpointKey(bytesToKey(backend.addr), backend.port);
      const target = wanted?.get(where);
      if (target === undefined) continue;
      wanted?.delete(where);
      if (backend.state !== stateNumber(target))
        this.#writeBackend(draft, id, index, target, backend.incarnation);
      ids.push(id);
      targets.push(target);
    }
    // By index: a damaged table may show one address, or one index, twice.
    const kept = new Set(ids);
    for (const { id } of members) if (!kept.has(id)) this.#freeBackend(draft, id);
    for (const target of wanted?.values() ?? frontend.targets) {
      ids.push(this.#newBackend(draft, index, target));
      targets.push(target);
    }
    const base = this.#writeSlots(draft, ids, targets, gen);
    const usable = targets.some((t) => t.state === 'active' && t.weight > 0);
    const key = decodeVipKey(keyToBytes(frontend.key));
    const count = usable ? ids.length : 0;
    const entry = { key, members: ids.length, base, count, gen };
    encodeService(entry, add(draft, 'service', index));
  }

  #writeSlots(
    draft: Draft,
    ids: readonly number[],
    targets: readonly Target[],
    gen: number,
  ): number {
    if (ids.length === 0) return 0;
    const base = this.#blocks.take(ids.length, draft.now);
    if (base === undefined) throw this.#full('slots', this.#blocks.resting);
    draft.takenBlocks.push(base);
    const columns = columnsOf(targets);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      const column = columns[i] ?? { threshold: 0, alias: i };
      const alias = ids[column.alias] ?? id;
      const weight = targets[i]?.weight ?? 0;
      const slot = { backend: id, alias, threshold: column.threshold, gen, weight };
      encodeSlot(slot, add(draft, 'slot', base + i));
    }
    return base;
  }

  #newBackend(draft: Draft, index: number, target: Target): number {
    const id = this.#backendIds.take(draft.now);
    if (id === undefined) throw this.#full('backends', this.#backendIds.resting);
    draft.takenBackends.push(id);
    const before = this.tables.incarnation(id);
    if (before > 0) add(draft, 'backendStats', id); // zero
    this.#writeBackend(draft, id, index, target, (before + 1) >>> 0);
    return id;
  }

  #writeBackend(
    draft: Draft,
    id: number,
    service: number,
    target: Target,
    incarnation: number,
  ): void {
    const { address, port } = target;
    const entry = { addr: NO_ADDRESS, port, state: stateNumber(target), service, incarnation };
    // Not by way of bytes of its own: there are 100,000.
    putKey(encodeBackend(entry, add(draft, 'backend', id)), address);
  }

  #freeBackend(draft: Draft, id: number): void {
    const entry = this.tables.backend(id);
    encodeBackend({ ...entry, state: backendState.free }, add(draft, 'backendGone', id));
    draft.freedBackends.push(id);
  }

  #removeFrontend(draft: Draft, service: string, key: string): void {
    const index = this.tables.vips.get(key);
    draft.reasons.push({ key, who: service || 'unknown', what: 'not wanted' });
    add(draft, 'vipGone', key);
    draft.indexChanges.push({ frontend: key, index: undefined, service });
    bump(draft.vipDelta, key.slice(0, 16), -1);
    if (index !== undefined && this.#sane(key, index)) this.#clearService(draft, index);
  }

  /** After nobody refers to it: the entry loses its key, its backends are free. */
  #clearService(draft: Draft, index: number): void {
    const entry = this.tables.service(index);
    encodeService(noService(entry.gen), add(draft, 'serviceGone', index));
    const members = this.#membersOf(index);
    for (const { id } of members) this.#freeBackend(draft, id);
    if (ownsBlock(entry, members)) draft.freedBlocks.push(entry.base);
    add(draft, 'nameGone', index);
    draft.freedServices.push(index);
  }

  /** Frontends of services not wanted, and entries that make no sense. */
  #removeStrangers(
    draft: Draft,
    wanted: ReadonlyMap<string, readonly Frontend[]>,
    claimed: ReadonlySet<string>,
  ): void {
    for (const [service, keys] of this.#byService) {
      if (wanted.has(service)) continue;
      for (const key of keys) if (!claimed.has(key)) this.#removeFrontend(draft, service, key);
    }
    for (const [key, index] of this.tables.vips) {
      if (claimed.has(key) || isAnyPort(key) || this.#sane(key, index)) continue;
      draft.reasons.push({ key, who: 'a stranger', what: `pointed to service index ${index}` });
      add(draft, 'vipGone', key);
    }
    this.#clearOrphans(draft);
  }

  /**
   * What no VIP leads to, because an agent was killed or a write failed before
   * the last steps of a plan. A backend left active keeps UDP flows alive.
   */
  #clearOrphans(draft: Draft): void {
    const { services, backends, names } = this.tables;
    const who = 'nobody';
    for (let index = 0; index < services.high; index++) {
      if (this.#serviceIndices.has(index)) continue;
      if (
        services
          .get(index)
          .subarray(0, 20)
          .some((byte) => byte !== 0)
      ) {
        draft.reasons.push({ key: undefined, who, what: `service index ${index} was left over` });
        const none = noService(this.tables.service(index).gen);
        encodeService(none, add(draft, 'serviceGone', index));
      }
    }
    for (let id = 0; id < backends.high; id++) {
      if (this.#backendIds.has(id)) continue;
      const { addr, port, state } = this.tables.backend(id);
      if (state === backendState.free) continue;
      const what = `backend ${backendText(bytesToKey(addr), port)} was left over`;
      draft.reasons.push({ key: undefined, who, what });
      this.#freeBackend(draft, id);
    }
    for (const index of names.keys()) {
      if (!this.#serviceIndices.has(index)) add(draft, 'nameGone', index);
    }
  }

  /** A VIP has its any-port entry as long as it has a frontend. */
  #planAnyPorts(draft: Draft, whole: boolean): void {
    const vips = new Set(draft.vipDelta.keys());
    if (whole) {
      for (const vip of this.#vipUses.keys()) vips.add(vip);
      for (const key of this.tables.vips.keys()) if (isAnyPort(key)) vips.add(key.slice(0, 16));
    }
    for (const vip of vips) {
      const key = anyPortKey(vip);
      const uses = (this.#vipUses.get(vip) ?? 0) + (draft.vipDelta.get(vip) ?? 0);
      const wanted = uses > 0 && this.#options.inVipRange(vip);
      const present = this.tables.vips.get(key);
      if (wanted && present !== noSuchPort) {
        draft.reasons.push({
          key,
          who: 'the VIP itself',
          what: 'its other ports were not refused',
        });
        putU32(add(draft, 'vip', key), 0, noSuchPort);
      }
      if (!wanted && present !== undefined) {
        draft.reasons.push({ key, who: 'the VIP itself', what: 'not wanted' });
        add(draft, 'anyPortGone', key);
      }
    }
  }

  #full(limit: keyof PlanLimits, resting: number): LimitError {
    return new LimitError(limit, this.#options.limits[limit], resting > 0 ? restMs : undefined);
  }
}

/**
 * Whether an entry's slots are its own: a damaged one may point anywhere, also
 * into the block of another service, and may claim half the map.
 */
function ownsBlock(entry: { readonly members: number }, members: readonly Member[]): boolean {
  return members.length > 0 && members.length === entry.members;
}

/** An entry without a key; the next owner's sets are counted on from `gen`. */
function noService(gen: number): ServiceEntry {
  const key = { addr: new Uint8Array(16), port: 0, protocol: 0 };
  return { key, members: 0, base: 0, count: 0, gen };
}

function newDraft(revision: number, now: number): Draft {
  return {
    builders: new Map(),
    reasons: [],
    takenServices: [],
    takenBackends: [],
    takenBlocks: [],
    freedServices: [],
    freedBackends: [],
    freedBlocks: [],
    vipDelta: new Map(),
    indexChanges: [],
    revision,
    now,
  };
}

/** The value goes into what this returns, as GroupBuilder has it. */
function add(draft: Draft, phase: Phase, key: number | string): Uint8Array {
  let builder = draft.builders.get(phase);
  if (builder === undefined) {
    const [, table, kind] = phases.find(([name]) => name === phase) as (typeof phases)[number];
    builder = new GroupBuilder(table, kind);
    draft.builders.set(phase, builder);
  }
  return builder.add(key);
}

function bump(counts: Map<string, number>, key: string, delta: number): void {
  counts.set(key, (counts.get(key) ?? 0) + delta);
}

function because(draft: Draft, frontend: Frontend, what: string): void {
  draft.reasons.push({ key: frontend.key, who: `${frontend.service}:${frontend.port}`, what });
}
