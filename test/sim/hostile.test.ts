import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Message } from '../../src/hyparview-ts/index.ts';
import { messages } from '../unit/hyparview/arbitrary.ts';
import { settle, watchLimits } from './checks.ts';
import { Cluster } from './cluster.ts';
import type { Machine, MachineOutput, Named } from './simulator.ts';

const HONEST = 10;

/** A member gone bad: it links to everybody, and then says whatever it likes about nodes that exist and that do not. */
class Attacker implements Machine<Message> {
  readonly #victims: readonly Named[];
  readonly #lies: readonly Message[];
  #said = 0;

  constructor(victims: readonly Named[], lies: readonly Message[]) {
    this.#victims = victims;
    this.#lies = lies;
  }

  /** It never reads, and so never answers. */
  handle(input: { readonly type: string }, now: number): MachineOutput<Message>[] {
    if (input.type !== 'timer' && input.type !== 'start') return [];
    const outputs: MachineOutput<Message>[] = [];
    for (const to of this.#victims) {
      if (this.#said % 50 === 0) {
        outputs.push({ type: 'send', to, message: { type: 'neighbor', high: true } });
        outputs.push({ type: 'send', to, message: { type: 'join' } });
      }
      const message = this.#lies[(this.#said * 7 + to.id.charCodeAt(15)) % this.#lies.length];
      if (message !== undefined) outputs.push({ type: 'send', to, message });
    }
    this.#said += 1;
    return [...outputs, { type: 'schedule', key: 'lie', atMs: now + 5 }];
  }
}

for (const seed of [1, 2, 3]) {
  test(`a member that lies to all at 200 messages a second breaks no limit, and is forgotten (seed ${seed})`, () => {
    const cluster = new Cluster(seed, { statesMax: 64, passiveMax: 20 });
    cluster.addHosts(HONEST + 1);
    for (let i = 0; i < HONEST; i++) cluster.start(i, [0, 1, 2]);
    cluster.sim.runUntil(20_000);
    watchLimits(cluster);
    const { sim } = cluster;
    const ids = sim.hosts.map(({ peer }) => fc.constant(peer.id));
    const someId = fc.oneof(
      ...ids,
      fc.integer({ max: 50, min: 0 }).map((i) => `ghost-${i}`),
    );
    // below 2^40: a forged incarnation at the end of all numbers cannot be topped, which README.md leaves to signatures
    const lies = fc.sample(messages(someId, fc.integer({ min: 0, max: 2 ** 40 })), {
      seed,
      numRuns: 4000,
    });
    const attacker = cluster.host(HONEST);
    const machine = new Attacker(
      sim.hosts.slice(0, HONEST).map(({ peer }) => peer),
      lies,
    );
    sim.run(attacker, machine);
    sim.give(attacker, { type: 'start' });
    sim.runUntil(sim.now + 60_000);
    assert.ok(sim.messages > 100_000, 'it did say much');
    sim.crash(attacker, false);
    settle(cluster, 600_000);
    assert.equal(cluster.living().length, HONEST);
  });
}
