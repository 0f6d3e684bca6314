/**
 * Random commands, as operators and `zerohop run` give them: most over names of their own, so that it
 * is known what must come of them, and some over names that everybody writes to at once.
 */
import type { VipPools } from '../../../src/catalog/vips.ts';
import { below } from '../../../src/hyparview-ts/random.ts';
import type { Random } from '../../../src/hyparview-ts/random.ts';
import { decide, type Command } from '../../../src/state/commands.ts';
import type { BackendRecord } from '../../../src/state/records.ts';
import { Kv, type KvOperation } from '../../../src/state/replica/kv.ts';
import type { Write } from '../../../src/state/replica/replica.ts';
import type { Agent } from './agent.ts';
import type { Place } from './fleet.ts';

export interface Made {
  readonly what: string;
  readonly writes: readonly Write[];
}

const NOTHING: Made = { what: 'nothing to do', writes: [] };
const HTTP = { name: 'http', port: 80, protocol: 'tcp' } as const;

export function randomWrites(
  agent: Agent,
  place: Place,
  nth: number,
  random: Random,
  pools: VipPools,
): Made {
  const make = (command: Command): Made => writesOf(agent, command, pools);
  const die = below(random, 100);
  if (die < 30) return make(newService(`s-${nth}`, place, random));
  if (die < 50) return own(agent, place, nth, random, make);
  if (die < 62) return changed(agent, random, make);
  if (die < 72) return removed(agent, random, make);
  if (die < 76) return make({ kind: 'remove-service', name: some(services(agent), random) ?? '' });
  if (die < 86) return kv(agent, nth, random);
  return contended(place, random, make);
}

function writesOf({ view }: Agent, command: Command, pools: VipPools): Made {
  const { changes } = decide(view.snapshot(), command, pools);
  if (changes.length === 0) return NOTHING;
  const { writes } = view.writes(changes);
  return { what: describe(command), writes };
}

function describe(command: Command): string {
  switch (command.kind) {
    case 'put-service':
    case 'add-service':
      return `${command.kind} ${command.service.name}`;
    case 'put-backend':
      return `put-backend ${command.service} ${command.backend.address}:${command.backend.port}`;
    case 'change-backend':
    case 'remove-backend':
      return `${command.kind} ${command.backend.service} ${command.backend.address}:${command.backend.port}`;
    case 'remove-service':
      return `remove-service ${command.name}`;
    case 'put-acl':
    case 'remove-acl':
    case 'put-record':
    case 'add-record':
    case 'remove-record':
    case 'apply':
      return command.kind;
  }
}

function newService(name: string, { address }: Place, random: Random): Command {
  const port = 1000 + below(random, 60_000);
  const backends = [{ address, port, weight: 1, state: 'active' as const }];
  return { kind: 'add-service', service: { name, ports: [HTTP], backends } };
}

/** A process of this host, as `zerohop run` registers it. */
function own(
  agent: Agent,
  { address }: Place,
  nth: number,
  random: Random,
  make: (command: Command) => Made,
): Made {
  const service = some(services(agent), random);
  if (service === undefined) return NOTHING;
  const owner = { pid: nth, startTicks: nth, bootId: BOOT_ID, command: 'server' };
  const port = 1000 + below(random, 60_000);
  const backend = {
    portName: HTTP.name,
    address,
    port,
    weight: 1,
    state: 'active',
    owner,
  } as const;
  return make({ kind: 'put-backend', service, backend });
}

const BOOT_ID = '00000000-0000-4000-8000-000000000000';

function changed(agent: Agent, random: Random, make: (command: Command) => Made): Made {
  const backend = someBackend(agent, random);
  if (backend === undefined) return NOTHING;
  const weight = below(random, 10);
  const state = below(random, 4) === 0 ? 'draining' : 'active';
  return make({ kind: 'change-backend', backend, weight, state });
}

function removed(agent: Agent, random: Random, make: (command: Command) => Made): Made {
  const backend = someBackend(agent, random);
  return backend === undefined ? NOTHING : make({ kind: 'remove-backend', backend });
}

function kv({ replica }: Agent, nth: number, random: Random): Made {
  const all: readonly KvOperation[] = [
    { do: 'increment', path: ['hits'], by: 1 + below(random, 3) },
    { do: 'set', path: ['config', `of-${nth}`], value: nth },
    { do: 'set', path: ['config', 'all'], value: nth },
    { do: 'add', path: ['users'], element: `u-${nth}` },
    { do: 'enable', path: ['features', 'new'] },
    { do: 'disable', path: ['features', 'new'] },
  ];
  const operation = all[below(random, all.length)] as KvOperation;
  const what = `kv ${operation.do} ${operation.path.join(' ')}`;
  return { what, writes: new Kv(replica).writes([operation]) };
}

/** Names that everybody writes to. */
function contended({ address }: Place, random: Random, make: (command: Command) => Made): Made {
  const name = `hot-${below(random, 3)}`;
  const address2 = below(random, 2) === 0 ? address : '10.77.9.9';
  const backend = { portName: HTTP.name, address: address2, port: 80 };
  switch (below(random, 5)) {
    case 0:
      return make({ kind: 'remove-service', name });
    case 1:
      return make({ kind: 'remove-backend', backend: { service: name, ...backend } });
    case 2:
      return make({
        kind: 'put-backend',
        service: name,
        backend: { ...backend, weight: below(random, 5), state: 'active' },
      });
    case 3:
      return make({
        kind: 'put-service',
        service: { name, vips: ['10.99.0.1'], ports: [HTTP] },
      });
    default:
      return make({ kind: 'put-service', service: { name, ports: [HTTP] } });
  }
}

function services({ view }: Agent): readonly string[] {
  return [...view.snapshot().services.keys()].filter((name) => name.startsWith('s-')).toSorted();
}

function someBackend(agent: Agent, random: Random): BackendRecord | undefined {
  const service = some(services(agent), random);
  const backends = agent.view.snapshot().backends.get(service ?? '') ?? [];
  // another node's are for it to change
  return some(
    backends.filter(({ node }) => node === undefined || node === agent.id),
    random,
  );
}

function some<T>(items: readonly T[], random: Random): T | undefined {
  return items[below(random, Math.max(1, items.length))];
}
