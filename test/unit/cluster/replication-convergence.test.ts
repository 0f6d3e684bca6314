/** Whatever happens on the way, in the end all hosts say the same, and nothing acknowledged is lost. */
import { test } from 'node:test';
import fc from 'fast-check';
import { Network } from './replication-world.ts';

type Step =
  | { readonly do: 'write'; readonly host: number; readonly big: boolean }
  | { readonly do: 'contend'; readonly host: number; readonly value: string | undefined }
  | { readonly do: 'compact'; readonly host: number; readonly document: 'shared' | 'own' }
  | { readonly do: 'crash'; readonly host: number; readonly after: number }
  | { readonly do: 'part'; readonly sides: number }
  | { readonly do: 'lose'; readonly percent: number }
  | { readonly do: 'wait'; readonly ms: number };

const host = fc.nat(7);
const isDo = <T extends string>(name: T): fc.Arbitrary<T> => fc.constant(name);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: isDo('write'),
      host,
      big: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, fc.constant(true)),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: isDo('contend'),
      host,
      value: fc.option(fc.nat(9).map(String), { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: isDo('compact'),
      host,
      document: fc.constantFrom('shared' as const, 'shared' as const, 'own' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: isDo('crash'), host, after: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ do: isDo('part'), sides: fc.nat(255) }) },
  { weight: 1, arbitrary: fc.record({ do: isDo('lose'), percent: fc.constantFrom(0, 10, 60) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: isDo('wait'),
      ms: fc.oneof(fc.nat(30), fc.nat(300), fc.nat(20_000)),
    }),
  },
);

function take(network: Network, one: Step, nth: number): void {
  switch (one.do) {
    case 'write': {
      const value = JSON.stringify(one.big ? 'x'.repeat(3000) : nth);
      return network.write(
        one.host,
        [
          { document: 'shared', key: `of/${nth}`, value },
          { document: 'own', key: `of/${nth}`, value },
        ],
        true,
      );
    }
    case 'contend':
      return network.write(one.host, [{ document: 'shared', key: 'k', value: one.value }], false);
    case 'compact':
      return network.compact(one.host, one.document);
    case 'crash':
      network.host(one.host).crashAfter = one.after;
      return;
    case 'part':
      return network.part(one.sides);
    case 'lose':
      network.loss = one.percent / 100;
      return;
    case 'wait':
      return network.run(one.ms);
  }
}

test('hosts that lose messages, part, die and begin epochs at any time end up equal, and lose nothing', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 8 }),
      fc.nat(),
      fc.array(step, { minLength: 5, maxLength: 40, size: 'max' }),
      (count, seed, steps) => {
        const config = { batchBytesMax: 2000, partBytes: 1000, windowBytes: 2500 };
        const network = new Network(count, seed, config);
        for (const [nth, one] of steps.entries()) take(network, one, nth);
        network.part(0);
        network.loss = 0;
        for (const each of network.hosts) each.crashAfter = undefined;
        network.run(120_000);
        network.check();
      },
    ),
    { numRuns: Number(process.env['ZEROHOP_RUNS'] ?? 200) },
  );
});

test('after a partition both sides are equal without waiting for a comparison by chance', () => {
  const network = new Network(8, 1, { compareMs: 1e9 });
  network.run(200);
  network.part(0b1111);
  for (let i = 0; i < 8; i++)
    network.write(i, [{ document: 'own', key: 'a', value: String(i) }], true);
  network.run(500);
  network.part(0);
  network.run(1500);
  network.check();
});

test('a broadcast that reached nobody is made good by a comparison', () => {
  const network = new Network(3, 1);
  network.run(1000);
  network.loss = 1;
  network.write(0, [{ document: 'shared', key: 'a', value: '1' }], true);
  network.run(100);
  network.loss = 0;
  network.run(31_000);
  network.check();
});

test('what is too large for a broadcast reaches all within hops, not comparisons', () => {
  const network = new Network(8, 1, { compareMs: 1e9 });
  network.run(1000);
  const writes = Array.from({ length: 1000 }, (_, i) => ({
    document: 'shared' as const,
    key: `k${i}`,
    value: JSON.stringify('x'.repeat(1000)),
  }));
  network.write(0, writes, true);
  network.run(3000);
  network.check();
});
