import { test } from 'node:test';
import fc from 'fast-check';
import type { Write } from '../../../src/state/replica/replica.ts';
import { World } from './world.ts';

type Step =
  | { readonly do: 'write'; readonly host: number; readonly writes: readonly Write[] }
  | { readonly do: 'deliver' | 'double' | 'lose'; readonly message: number }
  | { readonly do: 'part'; readonly sides: number }
  | { readonly do: 'sync'; readonly a: number; readonly b: number }
  | { readonly do: 'compact'; readonly host: number; readonly document: 'shared' | 'own' }
  | { readonly do: 'restart'; readonly host: number; readonly whole: boolean }
  | { readonly do: 'time'; readonly host: number; readonly ms: number };

const host = fc.nat(2);
const message = fc.nat(40);
const document = fc.oneof(
  { weight: 6, arbitrary: fc.constant('shared' as const) },
  { weight: 1, arbitrary: fc.constant('own' as const) },
);

const write: fc.Arbitrary<Write> = fc.record({
  document,
  key: fc.constantFrom('a', 'b'),
  value: fc.oneof(
    { weight: 2, arbitrary: fc.nat(9).map(String) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  ),
  always: fc.boolean(),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      host,
      writes: fc.array(write, { minLength: 1, maxLength: 3 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'deliver' as const,
        'deliver' as const,
        'double' as const,
        'lose' as const,
      ),
      message,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('part' as const), sides: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('sync' as const), a: host, b: host }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('compact' as const), host, document }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('restart' as const), host, whole: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('time' as const),
      host,
      ms: fc.integer({ min: -300_000, max: 300_000 }),
    }),
  },
);

function perform(world: World, one: Step): void {
  switch (one.do) {
    case 'write':
      return world.write(one.host, one.writes);
    case 'deliver':
    case 'double':
      return world.deliver(one.message, one.do === 'double');
    case 'lose':
      return world.lose(one.message);
    case 'part':
      world.parted = one.sides;
      return;
    case 'sync':
      return world.sync(one.a, one.b);
    case 'compact':
      return world.compact(one.host, one.document);
    case 'restart':
      return world.restart(one.host, one.whole);
    case 'time':
      world.host(one.host).wallMs += one.ms;
  }
}

/** More with ZEROHOP_RUNS: 20,000 take some minutes. */
const numRuns = Number(process.env['ZEROHOP_RUNS'] ?? 500);

test('three replicas end with what everybody wrote, whatever is lost, doubled, reordered, parted, restarted or written afresh', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 60, size: 'max' }), (steps) => {
      const world = new World(3);
      for (const one of steps) perform(world, one);
      world.heal();
    }),
    { numRuns },
  );
});
