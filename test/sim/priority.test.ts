import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sizeOf } from './measure.ts';
import { quantile, ready } from './torture.ts';

const NODES = 16;
/** 10 Mbit/s out of every host. */
const UPLINK_BYTES_PER_MS = 1250;
const BULK_BYTES = 200_000;

/** A crash while one node after another broadcasts bulk at the limit of the links: when do the others know? */
function crashUnderLoad(keepsPriorities: boolean): {
  medianMs: number;
  known: number;
  wrong: number;
} {
  const cluster = ready(1, NODES, { everyMs: 50 });
  const { sim } = cluster;
  sim.sizeOf = sizeOf;
  sim.uplinkBytesPerMs = UPLINK_BYTES_PER_MS;
  sim.keepsPriorities = keepsPriorities;
  for (let i = 0; i < 24; i++) {
    sim.after(i * 250, () => {
      const sender = i % 8;
      if (cluster.runs(sender)) cluster.broadcast(sender, BULK_BYTES, 'bulk');
    });
  }
  const victim = cluster.host(NODES - 1).peer.id;
  const known: number[] = [];
  let wrong = 0;
  sim.runUntil(sim.now + 2000);
  const diedAt = sim.now;
  cluster.onEvent = (_, event) => {
    if (event.type !== 'member-dead') return;
    if (event.id === victim) known.push(sim.now - diedAt);
    else wrong += 1;
  };
  cluster.crash(NODES - 1);
  sim.runUntil(diedAt + 60_000);
  known.sort((a, b) => a - b);
  return { medianMs: quantile(known, 0.5), known: known.length, wrong };
}

test('failure news overtakes bulk: known sooner than when all messages wait in one line', () => {
  const first = crashUnderLoad(true);
  const inLine = crashUnderLoad(false);
  assert.deepEqual([first.known, first.wrong], [NODES - 1, 0]);
  assert.ok(
    first.medianMs < inLine.medianMs || inLine.wrong > 0,
    `${first.medianMs} ms with priorities, ${inLine.medianMs} ms (${inLine.wrong} wrong) without`,
  );
});
