/**
 * VIPs that several services have recorded: two halves of a cluster gave out the
 * same one while they did not see each other. Who has it is decided here, anew
 * from the records alone, so that all nodes agree and nothing is written.
 *
 *   from the pools      the smallest name keeps it, each other service gets its next
 *                       candidate (vips.ts) that nobody recorded; in order of names
 *   from elsewhere      each port and protocol is the smallest name's that has it
 *
 * Immutable: an update leaves the index before it as it was. It costs what was
 * touched, or what is contested if that may have changed.
 */
import { familyOf, parseIp } from '../net/ip.ts';
import { BucketMap } from '../state/bucket-map.ts';
import type { Protocol, ServicePort, ServiceRecord } from '../state/records.ts';
import { endpointText } from './context.ts';
import { allocateVip, inPools, type VipPools } from './vips.ts';

export interface Conflict {
  /** As recorded. */
  readonly vip: string;
  /** `reassigned`: of the pools, the loser has another. `port`: the loser goes without that port. */
  readonly kind: 'reassigned' | 'port';
  /** Who has it, and who does not. */
  readonly services: readonly [winner: string, loser: string];
  readonly port?: number;
  readonly protocol?: Protocol;
  /** The loser's VIP in its place; none if the pool is full. */
  readonly now?: string;
}

/** What a service has instead of what it recorded. */
export interface Outcome {
  readonly vips: readonly string[];
  /** endpointText() of a VIP and port that another service has. */
  readonly lost: ReadonlySet<string>;
}

/** Names of the services that recorded a VIP, in order; mostly one. */
type Claim = string | readonly string[];

export interface VipIndex {
  /** What the index is of: a snapshot's, but for services that were not named as touched yet. */
  readonly records: BucketMap<ServiceRecord>;
  readonly claims: BucketMap<Claim>;
  /** VIPs with several claims. */
  readonly contested: ReadonlySet<string>;
  /** Candidates that were looked at: the outcomes hang on whether somebody recorded them. */
  readonly candidates: ReadonlySet<string>;
  /** Of the services that lost something. */
  readonly outcomes: ReadonlyMap<string, Outcome>;
  readonly conflicts: readonly Conflict[];
}

const EMPTY: VipIndex = {
  records: new BucketMap(),
  claims: new BucketMap(),
  contested: new Set(),
  candidates: new Set(),
  outcomes: new Map(),
  conflicts: [],
};

function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

const namesOf = (claim: Claim | undefined): readonly string[] =>
  claim === undefined ? [] : typeof claim === 'string' ? [claim] : claim;

/** A Claim while it changes. */
type Claimants = string | Set<string> | undefined;

function withName(claimants: Claimants, name: string): Claimants {
  if (claimants === undefined || claimants === name) return name;
  return typeof claimants === 'string' ? new Set([claimants, name]) : claimants.add(name);
}

function withoutName(claimants: Claimants, name: string): Claimants {
  if (claimants === undefined || claimants === name) return undefined;
  if (typeof claimants === 'string') return claimants;
  claimants.delete(name);
  return claimants.size > 1 ? claimants : [...claimants][0];
}

/** Claims and contested VIPs while services come and go. */
class Claims {
  readonly #index: VipIndex;
  readonly #written = new Map<string, Claimants>();
  readonly #contested: Set<string>;
  /** Whether what was decided may not hold any more. */
  isDisturbed = false;

  constructor(index: VipIndex) {
    this.#index = index;
    this.#contested = new Set(index.contested);
  }

  put(name: string, before: readonly string[], after: readonly string[]): void {
    for (const vip of before) if (!after.includes(vip)) this.#write(vip, name, withoutName);
    for (const vip of after) if (!before.includes(vip)) this.#write(vip, name, withName);
    // Its ports may be other ones.
    if (after.some((vip) => this.#contested.has(vip))) this.isDisturbed = true;
  }

  #write(vip: string, name: string, change: typeof withName): void {
    const claimants = change(this.#claimants(vip), name);
    this.#written.set(vip, claimants);
    const isContested = typeof claimants === 'object';
    if (isContested || this.#contested.has(vip) || this.#index.candidates.has(vip))
      this.isDisturbed = true;
    if (isContested) this.#contested.add(vip);
    else this.#contested.delete(vip);
  }

  #claimants(vip: string): Claimants {
    if (this.#written.has(vip)) return this.#written.get(vip);
    const claim = this.#index.claims.get(vip);
    return typeof claim === 'object' ? new Set(claim) : claim;
  }

  build(): Pick<VipIndex, 'claims' | 'contested'> {
    const edit = this.#index.claims.edit();
    for (const [vip, claimants] of this.#written) {
      if (claimants === undefined) edit.delete(vip);
      else if (typeof claimants === 'string') edit.set(vip, claimants);
      else edit.set(vip, [...claimants].toSorted(compareText));
    }
    return { claims: edit.build(), contested: this.#contested };
  }
}

type Decided = Pick<VipIndex, 'candidates' | 'outcomes' | 'conflicts'>;

/** Decides over everything that is contested. */
class Judge {
  readonly #index: Pick<VipIndex, 'records' | 'claims' | 'contested'>;
  readonly #pools: VipPools;
  readonly #candidates = new Set<string>();
  readonly #given = new Set<string>();
  readonly #vips = new Map<string, readonly string[]>();
  readonly #lost = new Map<string, Set<string>>();
  readonly #conflicts: Conflict[] = [];

  constructor(index: Pick<VipIndex, 'records' | 'claims' | 'contested'>, pools: VipPools) {
    this.#index = index;
    this.#pools = pools;
  }

  decide(): Decided {
    const losers = new Set<string>();
    for (const vip of [...this.#index.contested].toSorted(compareText)) {
      const [winner = '', ...others] = namesOf(this.#index.claims.get(vip));
      if (!inPools(this.#pools, vip)) this.#sharePorts(vip, [winner, ...others]);
      else for (const loser of others) losers.add(loser);
    }
    // One after another, so that no two get the same.
    for (const loser of [...losers].toSorted(compareText)) this.#reassign(this.#record(loser));
    const names = new Set([...this.#vips.keys(), ...this.#lost.keys()]);
    const outcomes = [...names].map((name): [string, Outcome] => [
      name,
      {
        vips: this.#vips.get(name) ?? this.#record(name).vips,
        lost: this.#lost.get(name) ?? new Set(),
      },
    ]);
    return {
      candidates: this.#candidates,
      outcomes: new Map(outcomes),
      conflicts: this.#conflicts.toSorted(compareConflicts),
    };
  }

  #record(name: string): ServiceRecord {
    const record = this.#index.records.get(name);
    if (record === undefined) throw new Error(`bug: a VIP is claimed by ${name}, which is gone`);
    return record;
  }

  #reassign({ name, vips }: ServiceRecord): void {
    const result = vips.flatMap((vip) => {
      const [winner = name] = namesOf(this.#index.claims.get(vip));
      if (winner === name || !inPools(this.#pools, vip)) return vip;
      const now = this.#nextOf(name, vip);
      const conflict = { vip, kind: 'reassigned', services: [winner, name] } as const;
      this.#conflicts.push(now === undefined ? conflict : { ...conflict, now });
      return now ?? [];
    });
    this.#vips.set(name, result);
  }

  #nextOf(name: string, vip: string): string | undefined {
    const ip = parseIp(vip);
    if (ip === undefined) throw new Error(`bug: record with VIP ${vip}`);
    const allocation = allocateVip(name, familyOf(ip), this.#pools, (candidate) => {
      this.#candidates.add(candidate);
      return this.#index.claims.has(candidate) || this.#given.has(candidate);
    });
    if (!allocation.ok) return undefined;
    this.#given.add(allocation.vip);
    return allocation.vip;
  }

  #sharePorts(vip: string, names: readonly string[]): void {
    const owners = new Map<string, string>();
    for (const loser of names) {
      for (const { port, protocol } of this.#record(loser).ports) {
        const frontend = endpointText(vip, port, protocol);
        const winner = owners.get(frontend);
        if (winner === undefined) {
          owners.set(frontend, loser);
          continue;
        }
        const lost = this.#lost.get(loser) ?? new Set();
        this.#lost.set(loser, lost.add(frontend));
        this.#conflicts.push({ vip, kind: 'port', services: [winner, loser], port, protocol });
      }
    }
  }
}

function compareConflicts(a: Conflict, b: Conflict): number {
  return (
    compareText(a.vip, b.vip) ||
    compareText(a.services[1], b.services[1]) ||
    (a.port ?? 0) - (b.port ?? 0) ||
    compareText(a.protocol ?? '', b.protocol ?? '')
  );
}

/** Both are built in the same order. */
function sameOutcome(a: Outcome | undefined, b: Outcome | undefined): boolean {
  const textOf = ({ vips, lost }: Outcome): string => [...vips, '', ...lost].join();
  return a === b || (a !== undefined && b !== undefined && textOf(a) === textOf(b));
}

function changedOutcomes(before: VipIndex['outcomes'], after: VipIndex['outcomes']): Set<string> {
  const names = new Set([...before.keys(), ...after.keys()]);
  return new Set([...names].filter((name) => !sameOutcome(before.get(name), after.get(name))));
}

/**
 * The index of these services. `touched`: names whose records may differ from those
 * in `before`; of others nothing is taken in, until they are named. Answers with the
 * services, touched or not, whose outcome is another one now.
 */
export function indexVips(
  services: ReadonlyMap<string, ServiceRecord>,
  pools: VipPools,
  previous?: { readonly index: VipIndex; readonly touched: Iterable<string> },
): { readonly index: VipIndex; readonly changed: ReadonlySet<string> } {
  const before = previous?.index ?? EMPTY;
  const claims = new Claims(before);
  const records = (previous === undefined ? BucketMap.from(services) : before.records).edit();
  for (const name of previous?.touched ?? services.keys()) {
    const [was, is] = [before.records.get(name), services.get(name)];
    if (was === is) continue;
    claims.put(name, was?.vips ?? [], is?.vips ?? []);
    if (is === undefined) records.delete(name);
    else if (previous !== undefined) records.set(name, is);
  }
  const now = { ...before, records: records.build(), ...claims.build() };
  if (!claims.isDisturbed) return { index: now, changed: new Set() };
  const index = { ...now, ...new Judge(now, pools).decide() };
  return { index, changed: changedOutcomes(before.outcomes, index.outcomes) };
}

/** Whether a VIP and port of a service leads to it, and not to another one that recorded it too. */
export function isServed(
  { lost }: { readonly lost?: ReadonlySet<string> },
  vip: string,
  { port, protocol }: Pick<ServicePort, 'port' | 'protocol'>,
): boolean {
  return lost?.has(endpointText(vip, port, protocol)) !== true;
}
