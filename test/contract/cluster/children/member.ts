/** A member in a process of its own, to be killed: takes its identity and seeds as one message, tells its events. */
import { systemClock } from '../../../../src/cluster/io/clock.ts';
import type { Identity } from '../../../../src/cluster/io/identity.ts';
import { Overlay } from '../../../../src/cluster/io/overlay.ts';
import { systemRandom } from '../../../../src/cluster/io/random.ts';
import type { Peer } from '../../../../src/hyparview-ts/index.ts';

export interface Order {
  readonly identity: Identity;
  readonly seeds: readonly Peer[];
}

process.once('message', ({ identity, seeds }: Order) => {
  void Overlay.start(
    {
      transport: { identity, software: 'test', clock: systemClock },
      random: systemRandom(),
      incarnation: Date.now(),
      listen: { host: '127.0.0.1', port: 0 },
      zone: '',
      handlers: {
        event: (event) => {
          if (event.type === 'delivered') process.send?.(Buffer.from(event.payload).toString());
          if (event.type === 'joined') process.send?.('joined');
        },
        message: () => undefined,
        up: () => undefined,
        down: () => undefined,
      },
    },
    [],
    seeds,
  );
});
