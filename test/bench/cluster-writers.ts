/** Writes on every host at once, and whether each that was acknowledged is there in the end. */
import { setTimeout as pause } from 'node:timers/promises';
import type { TestCluster } from '../harness/cluster.ts';
import { kvEntries, kvWrite } from '../harness/kv.ts';
import type { Dice } from '../harness/random.ts';
import { putBackend, putService, removeService } from '../harness/services.ts';
import type { Place } from '../harness/wires.ts';

/** Services that a host has at a time, besides those that all write to. */
const OWN_SERVICES = 3;
/** Written to by all. */
const COMMON = 'common';

/** What one host was told is done; what it was not told of may be done or not. */
class Written {
  readonly keys = new Set<string>();
  readonly services = new Set<string>();
  readonly removed = new Set<string>();
  readonly unknown = new Set<string>();
  added = 0;
  unsure = 0;
}

export class Writers {
  readonly #cluster: TestCluster;
  readonly #dice: Dice;
  readonly #stop = new AbortController();
  readonly #written: readonly Written[];
  #ends: Promise<void>[] = [];
  acknowledged = 0;

  constructor(cluster: TestCluster, dice: Dice) {
    this.#cluster = cluster;
    this.#dice = dice;
    this.#written = cluster.places.map(() => new Written());
  }

  async start(everyMs: number): Promise<void> {
    await putService(this.#cluster.host(0), COMMON, { ports: [{ port: 80 }] });
    await this.#cluster.backendsBecome(COMMON, []);
    await this.#cluster.settled('to know it', (_, at) =>
      this.#cluster.mapsOf(at).some(({ service }) => service === COMMON),
    );
    this.#ends = this.#cluster.places.map((at) => this.#write(at, everyMs));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#ends);
  }

  async #write(at: Place, everyMs: number): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      await pause(everyMs / 2 + this.#dice.below(everyMs));
      if (this.#cluster.living.includes(at)) await this.#one(at, n);
    }
  }

  async #one(at: Place, n: number): Promise<void> {
    const written = this.#written[at] ?? new Written();
    const host = this.#cluster.host(at);
    const name = `${this.#cluster.nameOf(at)}-${n}`;
    const steps: readonly (readonly [string, () => Promise<void>, () => void])[] = [
      [
        `key ${name}`,
        () =>
          kvWrite(
            host,
            { do: 'set', path: ['own', name], value: n },
            { do: 'set', path: ['turn'], value: name },
            { do: 'increment', path: ['count'], by: 1 },
          ),
        () => {
          written.keys.add(name);
          written.added++;
        },
      ],
      [
        name,
        () =>
          putService(host, name, {
            ports: [{ port: 80 }],
            backends: [{ address: this.#cluster.addressOf(at), port: 8080 }],
          }),
        () => written.services.add(name),
      ],
      [
        COMMON,
        () =>
          putBackend(host, COMMON, {
            address: this.#cluster.addressOf(this.#dice.pick(this.#cluster.places)),
            port: 8080,
            weight: 1 + this.#dice.below(100),
          }),
        () => {},
      ],
    ];
    const old = [...written.services].slice(0, -OWN_SERVICES);
    const removals = old.map((service): (typeof steps)[number] => [
      service,
      () => removeService(host, service),
      () => {
        written.services.delete(service);
        written.removed.add(service);
      },
    ]);
    for (const [what, act, done] of [...steps, ...removals]) {
      try {
        await act();
        done();
        this.acknowledged++;
      } catch {
        // The agent is dead, or died over it.
        written.unknown.add(what);
        if (what.startsWith('key ')) written.unsure++;
        return;
      }
    }
  }

  /** In words, what was acknowledged and is not so on this host. */
  async lostOn(at: Place): Promise<string[]> {
    const host = this.#cluster.host(at);
    const entries = await kvEntries(host);
    const keys = new Set(entries.map(({ path }) => path.join('/')));
    const answer = await host.api('GET', '/v1/services');
    const { services } = answer.json() as { services: { name: string }[] };
    const names = new Set(services.map(({ name }) => name));
    const lost: string[] = [];
    let [least, unsure] = [0, 0];
    for (const written of this.#written) {
      for (const key of written.keys) if (!keys.has(`own/${key}`)) lost.push(`key ${key}`);
      const sure = (name: string): boolean => !written.unknown.has(name);
      for (const name of written.services)
        if (sure(name) && !names.has(name)) lost.push(`service ${name}`);
      for (const name of written.removed)
        if (sure(name) && names.has(name)) lost.push(`removal of ${name}`);
      least += written.added;
      unsure += written.unsure;
    }
    const count = entries.find(({ path }) => path.join() === 'count')?.value.value as number;
    if (!(count >= least && count <= least + unsure))
      lost.push(`count ${count}, but ${least} to ${least + unsure} were counted`);
    return lost;
  }
}
