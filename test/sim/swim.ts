// memberlist in the simulator, put through what torture.ts puts hyparview-ts through.
import { below, sfc32, unit } from '../../src/hyparview-ts/random.ts';
import { Memberlist, isTcp } from './memberlist.ts';
import type { SwimMessage } from './memberlist.ts';
import { CALM, Simulator } from './simulator.ts';
import type { Host } from './simulator.ts';
import { overload } from './torture.ts';
import type { Detection } from './torture.ts';

export function readySwim(seed: number, nodes: number): Simulator<SwimMessage> {
  const sim = new Simulator<SwimMessage>(seed);
  sim.isReliable = isTcp;
  for (let i = 0; i < nodes; i++) {
    const host = sim.addHost(`node-${i.toString(16).padStart(11, '0')}`, 'zone-0');
    host.resets = false;
    sim.at(i * 5, () => startSwim(sim, host, seed));
  }
  sim.runUntil(nodes * 5 + 60_000);
  return sim;
}

function startSwim(sim: Simulator<SwimMessage>, host: Host<SwimMessage>, seed: number): void {
  const machine = new Memberlist(host.peer, sfc32(seed, 5000 + host.index));
  sim.run(host, machine);
  const first = sim.hosts[below(sim.random, Math.max(1, host.index))];
  const seeds = first === undefined || first === host ? [] : [first.peer];
  sim.perform(host, machine.start(seeds, sim.localTime(host)));
}

export function killsSwim(sim: Simulator<SwimMessage>, seed: number, count: number): Detection {
  const random = sfc32(seed, 12);
  const diedAt = new Map<string, number>();
  const knownAfterMs: number[] = [];
  let falseDeaths = 0;
  sim.onEvent = (_, event) => {
    if (event.type !== 'member-dead') return;
    const at = diedAt.get((event as { id?: string }).id ?? '');
    if (at === undefined) falseDeaths += 1;
    else knownAfterMs.push(sim.now - at);
  };
  for (let i = 0; i < count; i++) {
    const living = sim.hosts.filter(({ machine }) => machine !== undefined);
    const victim = living[below(random, living.length)];
    if (victim === undefined) break;
    diedAt.set(victim.peer.id, sim.now);
    sim.crash(victim, false);
    sim.runUntil(sim.now + 4000 + 2000 * unit(random));
  }
  sim.runUntil(sim.now + 120_000);
  return { knownAfterMs: knownAfterMs.sort((a, b) => a - b), falseDeaths };
}

export function badDaySwim(
  seed: number,
  nodes: number,
  forMs: number,
): { falseDeaths: number; suspicions: number } {
  const sim = readySwim(seed, nodes);
  let falseDeaths = 0;
  let suspicions = 0;
  sim.onEvent = (_, event) => {
    if (event.type === 'member-dead') falseDeaths += 1;
    if (event.type === 'suspected') suspicions += 1;
  };
  sim.network = { ...CALM, loss: 0.05 };
  for (const host of sim.hosts) {
    if (host.index % 10 === 5)
      overload(
        sim,
        () => sim.stall(host),
        () => sim.resume(host),
      );
  }
  sim.runUntil(sim.now + forMs);
  return { falseDeaths, suspicions };
}
