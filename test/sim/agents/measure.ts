/**
 * How long it takes until what happens on one host is in the fake maps of the others: a service and a
 * backend added at rest and under churn; a host that dies, or says goodbye.
 *
 * Counted is what waits: disks, batches, links, suspicion. What computing costs is not: it takes no
 * time in the simulator.
 */
import { below, sfc32, unit } from '../../../src/hyparview-ts/random.ts';
import { parseIp } from '../../../src/net/ip.ts';
import { decide, type Command } from '../../../src/state/commands.ts';
import {
  backendKeyOf,
  serviceKey,
  writeBackend,
  writeService,
} from '../../../src/state/replica/schema.ts';
import type { Write } from '../../../src/state/replica/replica.ts';
import { CALM } from '../simulator.ts';
import { quantile } from '../torture.ts';
import { Fleet, Violation, type Place } from './fleet.ts';

export interface Spread {
  /** Pairs of something that happened and a host that heard of it. */
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Of each thing that happened, when the last host had it. */
  readonly allP50Ms: number;
  readonly allP99Ms: number;
}

export interface MeasureOptions {
  readonly hosts: number;
  readonly zones: number;
  /** Writes, or hosts that go. */
  readonly count: number;
}

const SERVICES_MAX = 100;
const PORT = 9000;

/** What is in every host's map at the start: services with three backends or more, one for each host. */
function ready(seed: number, { hosts, zones }: MeasureOptions): Fleet {
  const fleet = new Fleet({ seed });
  fleet.sim.network = { ...CALM, otherZoneLatencyMs: zones > 1 ? 20 : 1 };
  const services = servicesOf(hosts);
  const shared: Write[] = [];
  for (let s = 0; s < services; s++) {
    const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const }];
    const service = { name: `svc-${s}`, vips: [`240.0.${s}.1`], ports };
    shared.push({
      document: 'shared',
      key: serviceKey(service.name),
      value: writeService(service, undefined),
    });
  }
  const backendOf = (index: number, address: string): Write => {
    const place = { service: `svc-${index % services}`, portName: 'http', address, port: 8080 };
    const value = writeBackend({ ...place, weight: 1, state: 'active' }, undefined);
    return { document: index % 2 === 0 ? 'own' : 'shared', key: backendKeyOf(place), value };
  };
  // every second one is a process of its host; the others are operators' and found by the address
  for (let i = 1; i < hosts; i += 2) shared.push(backendOf(i, addressOf(i)));
  fleet.formed(
    hosts,
    zones,
    ({ index, address }) => (index % 2 === 0 ? [backendOf(index, address)] : []),
    shared,
  );
  fleet.bootstrap(5);
  fleet.sim.runUntil(hosts * 5 + 20_000);
  for (const { index, agent } of fleet.places) {
    const lost = agent?.unreachable().length;
    if (lost !== 0) throw new Violation(`host ${index} does not reach ${lost} hosts at the start`);
  }
  return fleet;
}

const servicesOf = (hosts: number): number => Math.min(SERVICES_MAX, Math.ceil(hosts / 3));
const addressOf = (index: number): string => `10.77.${index >> 8}.${index & 255}`;

function endpointHex(address: string, port: number): string {
  return `${Buffer.from(parseIp(address) ?? []).toString('hex')}:${port}*`;
}

/** What hosts are waited for: those that run when it happens, until they are killed. */
class Awaited {
  readonly afterMs: number[] = [];
  readonly untilAllMs: number[] = [];
  readonly #fleet: Fleet;
  readonly #open = new Map<string, { at: number; hosts: Map<number, number>; lastMs: number }>();

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  begin(name: string, except: number): void {
    const others = this.#fleet.living().filter(({ index }) => index !== except);
    const hosts = new Map(others.map(({ index, life }) => [index, life]));
    this.#open.set(name, { at: this.#fleet.sim.now, hosts, lastMs: 0 });
  }

  has(name: string, { index, life }: Place): void {
    const open = this.#open.get(name);
    if (open?.hosts.get(index) !== life) return;
    open.hosts.delete(index);
    open.lastMs = this.#fleet.sim.now - open.at;
    this.afterMs.push(open.lastMs);
    this.#close(name);
  }

  killed(place: Place): void {
    for (const [name, { hosts }] of this.#open) if (hosts.delete(place.index)) this.#close(name);
  }

  /** It was never acknowledged: nobody need have it. */
  drop(name: string): void {
    this.#open.delete(name);
  }

  #close(name: string): void {
    const open = this.#open.get(name);
    if (open === undefined || open.hosts.size > 0) return;
    this.untilAllMs.push(open.lastMs);
    this.#open.delete(name);
  }

  result(): Spread {
    const [first] = this.#open;
    if (first !== undefined)
      throw new Violation(
        `${this.#open.size} never reached all; ${first[0]}: not ${[...first[1].hosts.keys()].slice(0, 9).join(', ')}`,
      );
    const each = this.afterMs.toSorted((a, b) => a - b);
    const all = this.untilAllMs.toSorted((a, b) => a - b);
    const round = (ms: number | undefined): number => Math.round((ms ?? NaN) * 10) / 10;
    return {
      samples: each.length,
      p50Ms: round(quantile(each, 0.5)),
      p99Ms: round(quantile(each, 0.99)),
      maxMs: round(each.at(-1)),
      allP50Ms: round(quantile(all, 0.5)),
      allP99Ms: round(quantile(all, 0.99)),
    };
  }
}

/**
 * `service add` and, when that is acknowledged, `backend add`, on a random host: from the first
 * command to the backend in the map of each other host.
 */
export function propagation(
  seed: number,
  options: MeasureOptions & { readonly churn: boolean },
): Spread {
  const fleet = ready(seed, options);
  const { sim } = fleet;
  const random = sfc32(seed, 51);
  const awaited = new Awaited(fleet);
  const makers = new Map<string, string>();
  for (const place of fleet.places)
    place.map.onWrite = (service, text) => {
      const maker = makers.get(service);
      if (maker !== undefined && text.includes(maker)) awaited.has(service, place);
    };
  const underWay = new Map<string, number>();
  fleet.onKilled = (place) => {
    awaited.killed(place);
    for (const [name, index] of underWay) if (index === place.index) awaited.drop(name);
  };
  // at rest, far enough apart to be alone; under churn, so that some minutes pass
  const everyMs = options.churn ? Math.max(300, 75_000 / options.hosts) : 300;
  if (options.churn) churn(fleet, seed, options.count * everyMs);
  for (let i = 0; i < options.count; i++) {
    const living = fleet.living();
    const place = living[below(random, living.length)];
    if (place === undefined) break;
    const name = `new-${i}`;
    makers.set(name, endpointHex(place.address, PORT));
    awaited.begin(name, place.index);
    underWay.set(name, place.index);
    addService(fleet, place, name, () => underWay.delete(name));
    sim.runUntil(sim.now + everyMs * (0.5 + unit(random)));
  }
  sim.runUntil(sim.now + 30_000);
  return awaited.result();
}

function addService(fleet: Fleet, place: Place, name: string, done: () => void): void {
  const { index, address, life } = place;
  const run = (command: Command, acknowledged?: () => void): void =>
    fleet.command(index, {
      writes: ({ view }) =>
        view.writes(decide(view.snapshot(), command, fleet.pools).changes).writes,
      ...(acknowledged && { acknowledged }),
    });
  const ports = [{ name: 'http', port: 80, protocol: 'tcp' }] as const;
  run({ kind: 'add-service', service: { name, ports } }, () =>
    fleet.sim.after(0, () => {
      if (place.life !== life) return;
      const backend = { address, port: PORT, weight: 1, state: 'active' } as const;
      run({ kind: 'put-backend', service: name, backend }, done);
    }),
  );
}

/** 1 % of the hosts a minute die without a word and come back after 5 s; not those others join through. */
function churn(fleet: Fleet, seed: number, forMs: number): void {
  const { sim } = fleet;
  const random = sfc32(seed, 52);
  const everyMs = 60_000 / (fleet.places.length / 100);
  for (let at = everyMs / 2; at < forMs; at += everyMs)
    sim.after(at, () => {
      const living = fleet.living().filter(({ index }) => index >= 3);
      const victim = living[below(random, living.length)];
      if (victim === undefined) return;
      fleet.kill(victim.index, 'silently');
      sim.after(5000, () => fleet.start(victim.index, [0, 1, 2]));
    });
}

export type Going = 'silently' | 'reset' | 'goodbye';

/** Hosts go for ever, one after the other: until their backends are out of the map of each that is left. */
export function departures(
  seed: number,
  options: MeasureOptions & { readonly how: Going },
): Spread {
  const fleet = ready(seed, options);
  const { sim } = fleet;
  const random = sfc32(seed, 53);
  const services = servicesOf(options.hosts);
  const awaited = new Awaited(fleet);
  fleet.onKilled = (place) => awaited.killed(place);
  let victim: Place | undefined;
  for (const place of fleet.places)
    place.map.onWrite = (service, text) => {
      if (victim === undefined || service !== `svc-${victim.index % services}`) return;
      if (!text.includes(endpointHex(victim.address, 8080))) awaited.has(victim.id, place);
    };
  for (let i = 0; i < options.count; i++) {
    const candidates = fleet.living().filter(({ index }) => index >= 3 && hasOthers(fleet, index));
    victim = candidates[below(random, Math.max(1, candidates.length))];
    if (victim === undefined) break;
    awaited.begin(victim.id, victim.index);
    if (options.how === 'goodbye') fleet.leave(victim.index);
    else fleet.kill(victim.index, options.how);
    sim.runUntil(sim.now + 4000 + 2000 * unit(random));
  }
  return awaited.result();
}

/** Otherwise its service would keep all it has: fail open. */
function hasOthers(fleet: Fleet, index: number): boolean {
  const services = servicesOf(fleet.places.length);
  return fleet
    .living()
    .some((other) => other.index !== index && other.index % services === index % services);
}
