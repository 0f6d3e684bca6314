/**
 * Lashup's torture with whole agents: minutes of random partitions, kills, restarts from disk and
 * writes to all hosts, some of them for ever gone; then quiet. In the end every host has the same
 * state, the catalog and map that follow from it and from who lives, and nothing acknowledged is lost.
 */
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import { writeGone } from '../../../src/cluster/departures.ts';
import { below, sfc32, unit } from '../../../src/hyparview-ts/random.ts';
import type { Random } from '../../../src/hyparview-ts/random.ts';
import { parseCidr, type Cidr } from '../../../src/net/cidr.ts';
import { documentOf, Replica } from '../../../src/state/replica/replica.ts';
import { StateView } from '../../../src/state/replica/view.ts';
import type { Agent } from './agent.ts';
import { FakeMap } from './fake-map.ts';
import { Fleet, Violation, type Place } from './fleet.ts';
import { Oracle, type Counts } from './oracle.ts';
import { randomWrites } from './writes.ts';

export interface TortureOptions {
  readonly hosts?: number;
  readonly forMs?: number;
  /** Between two writes anywhere, on average. */
  readonly writeMs?: number;
}

export interface TortureResult extends Counts {
  readonly seed: number;
  /** Of every event, and of every byte of replication. */
  readonly hash: string;
  readonly events: number;
  readonly kills: number;
  readonly partitions: number;
  readonly gone: number;
  readonly epochs: number;
  /** VIPs that several services had recorded, in the end. */
  readonly conflicts: number;
  /** After the last fault. */
  readonly equalAfterMs: number;
}

const FOR_MS = 300_000;
const WRITE_MS = 500;
/** The overlay's promise is ten minutes. */
const EQUAL_WITHIN_MS = 600_000;
const GONE_MAX = 3;
/** So small that hosts which do not see each other give out the same VIPs. */
const SMALL_POOL = '10.200.0.0/25';

export function torture(seed: number, options: TortureOptions = {}): TortureResult {
  const run = new Torture(seed, options);
  try {
    return run.run();
  } catch (error) {
    throw new Error(run.story(), { cause: error });
  }
}

class Torture {
  readonly #seed: number;
  readonly #forMs: number;
  readonly #writeMs: number;
  readonly #fleet: Fleet;
  readonly #random: Random;
  readonly #oracle = new Oracle();
  readonly #log: string[] = [];
  #faults = true;
  #kills = 0;
  #partitions = 0;
  #gone = 0;

  constructor(seed: number, { hosts = 25, forMs = FOR_MS, writeMs = WRITE_MS }: TortureOptions) {
    this.#seed = seed;
    this.#forMs = forMs;
    this.#writeMs = writeMs;
    this.#random = sfc32(seed, 41);
    const v6 = block('fd7a:6572:6f68:6f70::/64');
    // a slow disk in every third run: much is under way when it is killed
    const diskMs = below(this.#random, 3) === 0 ? ([5, 60] as const) : ([0.2, 2] as const);
    this.#fleet = new Fleet({ seed, diskMs, pools: { v4: block(SMALL_POOL), v6 } });
    const zones = 1 + below(this.#random, 3);
    for (const place of this.#fleet.addHosts(hosts, zones))
      if (below(this.#random, 3) === 0) place.skewMs = 600_000 * (unit(this.#random) - 0.5);
    const loss = below(this.#random, 3) === 0 ? 0.1 * unit(this.#random) : 0;
    const otherZoneLatencyMs = 1 + 30 * unit(this.#random);
    this.#fleet.sim.network = { latencyMs: 1, otherZoneLatencyMs, jitter: 0.2, loss, duplicate: 0 };
    this.#fleet.onKilled = (place) => this.#oracle.killed(place);
    this.#fleet.onWrites = (place, agent, writes) => this.#oracle.begin(place, agent, writes);
  }

  run(): TortureResult {
    const { sim } = this.#fleet;
    this.#fleet.bootstrap(20);
    sim.runUntil(this.#fleet.places.length * 20 + 5000);
    this.#writeOn();
    this.#killOn();
    const end = sim.now + this.#forMs;
    while (sim.now < end) {
      this.#part();
      sim.runUntil(sim.now + 20_000 * unit(this.#random));
      this.#heal();
      sim.runUntil(sim.now + 10_000 * unit(this.#random));
      if (below(this.#random, 4) === 0) this.#checkMaps();
    }
    const equalAfterMs = this.#settle();
    this.#check();
    return this.#result(equalAfterMs);
  }

  /** The seed, how to run it again, and what happened last. */
  story(): string {
    const { sim } = this.#fleet;
    return [
      `agents: torture failed with seed ${this.#seed}; again: npm run sim:agents -- --torture --seed ${this.#seed} --count 1`,
      '  faults and writes:',
      ...this.#log.slice(-24).map((line) => `    ${line}`),
      '  events:',
      ...sim
        .trace()
        .slice(-24)
        .map((line) => `    ${line}`),
    ].join('\n');
  }

  #note(what: string): void {
    this.#log.push(`${this.#fleet.sim.now.toFixed(1)} ms  ${what}`);
  }

  #again(meanMs: number, what: () => void): void {
    const { sim } = this.#fleet;
    const next = (): void => {
      if (!this.#faults) return;
      what();
      sim.after(2 * meanMs * unit(this.#random), next);
    };
    sim.after(2 * meanMs * unit(this.#random), next);
  }

  #someLiving(): Place | undefined {
    const living = this.#fleet.living();
    return living[below(this.#random, Math.max(1, living.length))];
  }

  #writeOn(): void {
    let nth = 0;
    this.#again(this.#writeMs, () => {
      const place = this.#someLiving();
      if (place === undefined) return;
      nth += 1;
      this.#write(place, nth);
      // killed while it writes
      if (below(this.#random, 20) === 0) this.#killAfter(place, 4 * unit(this.#random));
    });
    this.#again(20_000, () => {
      const place = this.#someLiving();
      if (place === undefined) return;
      const document = below(this.#random, 2) === 0 ? 'shared' : 'own';
      this.#compact(place, document);
      if (below(this.#random, 2) > 0) return;
      // once more, before it hears from anybody, as if the first one had not been
      this.#killAfter(place, 20 * unit(this.#random), 'silently', () =>
        this.#compact(place, document),
      );
    });
  }

  #compact(place: Place, document: 'shared' | 'own'): void {
    this.#note(`host ${place.index} begins an epoch of its ${document} document`);
    this.#fleet.give(place.index, { type: 'compact', document });
  }

  #write(place: Place, nth: number): void {
    const random = sfc32(this.#seed, 10_000 + nth);
    this.#fleet.command(place.index, {
      writes: (agent) => {
        const { what, writes } = randomWrites(agent, place, nth, random, this.#fleet.pools);
        this.#note(`host ${place.index}: ${what}`);
        return writes;
      },
    });
  }

  #killOn(): void {
    this.#again(8000, () => {
      const place = this.#someLiving();
      if (place !== undefined) this.#killAfter(place, 0);
    });
    this.#again(this.#forMs / 4, () => {
      const place = this.#someLiving();
      if (place !== undefined && this.#gone < GONE_MAX) this.#loseForGood(place);
    });
    this.#again(30_000, () => {
      const place = this.#someLiving();
      if (place === undefined) return;
      const jumpMs = 240_000 * (unit(this.#random) - 0.5);
      place.skewMs = Math.max(-300_000, Math.min(300_000, place.skewMs + jumpMs));
      this.#note(`the clock of host ${place.index} jumps by ${Math.round(jumpMs)} ms`);
    });
  }

  #killAfter(
    place: Place,
    ms: number,
    how: 'silently' | 'reset' = below(this.#random, 2) === 0 ? 'silently' : 'reset',
    restarted: () => void = () => {},
  ): void {
    const { sim } = this.#fleet;
    const { life } = place;
    sim.after(ms, () => {
      if (place.life !== life || place.agent === undefined) return;
      this.#note(`host ${place.index} is killed ${how}${place.disk.isWriting ? ', writing' : ''}`);
      this.#kills += 1;
      this.#fleet.kill(place.index, how);
      const downMs = 20_000 * unit(this.#random) * unit(this.#random);
      sim.after(downMs, () => {
        if (this.#restart(place)) restarted();
      });
    });
  }

  #restart(place: Place): boolean {
    if (place.agent !== undefined || !place.disk.isThere) return false;
    this.#note(`host ${place.index} starts again`);
    this.#fleet.start(place.index, [0, 1, 2]);
    return true;
  }

  /** Taken away, its disk too; or leaves. Somebody says so for all, and another host comes. */
  #loseForGood(place: Place): void {
    if (place.index < 3) return; // those that others join through
    this.#gone += 1;
    const leaves = below(this.#random, 2) === 0;
    const wallMs = this.#fleet.wallMs(place);
    const gone = writeGone(place.id, {
      why: leaves ? 'left' : 'revoked',
      at: new Date(wallMs).toISOString(),
      atMs: wallMs,
      addresses: [place.address],
    });
    const forGood = (): void => {
      if (leaves) this.#fleet.leave(place.index);
      else this.#fleet.kill(place.index, 'silently');
      place.disk.isThere = false;
      this.#note(`host ${place.index} is gone for good${leaves ? ': it left' : ''}`);
      this.#oracle.lost(this.#fleet, place);
    };
    if (leaves) {
      this.#fleet.command(place.index, { writes: () => [gone] });
      this.#fleet.sim.after(1000, forGood);
    } else {
      forGood();
      this.#fleet.sim.after(5000, () => this.#say(gone));
    }
    const [fresh] = this.#fleet.addHosts(1, 1);
    if (fresh !== undefined)
      this.#fleet.sim.after(10_000, () => this.#fleet.start(fresh.index, [0, 1, 2]));
  }

  #say(gone: ReturnType<typeof writeGone>): void {
    const place = this.#someLiving();
    if (place !== undefined) this.#fleet.command(place.index, { writes: () => [gone] });
  }

  #part(): void {
    const { sim } = this.#fleet;
    const sides = 2 + below(this.#random, 2);
    const isOneWay = below(this.#random, 5) === 0;
    for (const host of sim.hosts) host.side = below(this.#random, sides);
    for (let a = 0; a < sides; a++)
      for (let b = 0; b < sides; b++)
        if (a !== b && (!isOneWay || a < b)) sim.cuts.add(`${a} ${b}`);
    this.#partitions += 1;
    this.#note(`${sides} sides${isOneWay ? ', one way' : ''}`);
  }

  #heal(): void {
    this.#fleet.sim.cuts.clear();
    this.#note('healed');
  }

  /** The faults end. */
  #settle(): number {
    const { sim } = this.#fleet;
    this.#faults = false;
    sim.cuts.clear();
    sim.network = { ...sim.network, loss: 0 };
    for (const place of this.#fleet.places) this.#restart(place);
    for (const place of this.#fleet.places) this.#revokeUnheard(place);
    this.#note('quiet');
    const start = sim.now;
    for (;;) {
      sim.runUntil(sim.now + 1000);
      const wrong = this.#unequal();
      if (wrong === undefined) return sim.now - start;
      if (sim.now - start > EQUAL_WITHIN_MS)
        throw new Violation(`not equal ${EQUAL_WITHIN_MS} ms after the last fault: ${wrong}`);
    }
  }

  /** It left, and nobody was there to hear that it left for good: an operator says so. */
  #revokeUnheard({ id, disk, address }: Place): void {
    const isHeard = this.#fleet.living().some(({ agent }) => agent?.roll.isGone(id) === true);
    if (!disk.isThere && !isHeard)
      this.#say(writeGone(id, { why: 'revoked', at: '2027-01-01', atMs: 0, addresses: [address] }));
  }

  /** What is not yet as it has to become; everything else is an error at once. */
  #unequal(): string | undefined {
    const living = this.#fleet.living();
    const missing = this.#fleet.places.find(({ agent, disk }) => !agent && disk.isThere);
    if (missing !== undefined) return `host ${missing.index} does not run`;
    const all = living.map(({ id }) => id);
    const [first, ...others] = living.map((place) => stateOf(place.agent as Agent));
    for (const [i, other] of others.entries())
      if (other !== first) return `hosts ${living[0]?.index} and ${living[i + 1]?.index} differ`;
    for (const { index, agent } of living) {
      const lost = agent?.unreachable() ?? [];
      if (lost.length > 0) return `host ${index} does not reach ${lost.join(', ')}`;
      const known = agent?.view.nodes();
      const unknown = all.filter((id) => known?.has(id) !== true);
      if (unknown.length > 0) return `host ${index} does not know ${unknown.join(', ')}`;
    }
    return undefined;
  }

  /** At any time: what followed change by change is what would be made afresh. */
  #checkMaps(): void {
    for (const { index, agent, map, disk } of this.#fleet.living()) {
      if (agent === undefined || disk.isWriting) continue;
      if (map.text() !== mapOf(agent.replica, agent))
        throw new Violation(`host ${index}: its map is not what its state says`);
    }
  }

  #check(): void {
    this.#checkMaps();
    const living = this.#fleet.living();
    const goneIds = this.#fleet.places.filter(({ disk }) => !disk.isThere).map(({ id }) => id);
    const [first] = living.map(({ map }) => map.text());
    for (const { index, agent, disk, map, id } of living) {
      if (agent === undefined) continue;
      const who = `host ${index}`;
      this.#oracle.check(agent.replica, who);
      const stored = Replica.open({ node: id, writer: disk.writer }, disk.saved());
      this.#oracle.check(stored, `${who}, its disk`);
      for (const goneId of goneIds)
        if (agent.replica.documents().includes(documentOf(goneId)))
          throw new Violation(`${who} has the document of ${goneId}, which is gone for good`);
      if (map.text() !== mapOf(stored, agent))
        throw new Violation(`${who}: its map is not what its disk says`);
      if (map.text() !== first) throw new Violation(`the maps of ${who} and another differ`);
    }
  }

  #result(equalAfterMs: number): TortureResult {
    const { sim, bytesHash, notices } = this.#fleet;
    const conflicts = this.#fleet.living()[0]?.agent?.catalog.conflicts.length ?? 0;
    return {
      seed: this.#seed,
      hash: `${sim.hash.toString(16)}-${bytesHash.toString(16)}`,
      events: sim.events,
      kills: this.#kills,
      partitions: this.#partitions,
      gone: this.#gone,
      epochs: notices.get('epoch') ?? 0,
      conflicts,
      equalAfterMs,
      ...this.#oracle.counts(),
    };
  }
}

/** Equal where the documents are; those of which nothing is known do not count. */
function stateOf({ replica }: Agent): string {
  const lines = replica
    .documents()
    .filter((id) => replica.stats(id).items > 0)
    .map((id) => `${id} ${replica.digest(id)}`);
  return lines.toSorted().join('\n');
}

/** From nothing but a state and who is unreachable for this agent. */
function mapOf(replica: Replica, agent: Agent): string {
  const view = StateView.open(replica);
  const map = new FakeMap();
  map.reconcile(buildCatalog(view.snapshot(), agent.contextOf(view)));
  return map.text();
}

function block(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed.ok) throw new Error(`bug: ${text} is no block`);
  return parsed.cidr;
}
