/**
 * Whom an unconnected UDP socket talks to while what is known of its backend
 * changes. No agent: the programs, and the tables that catalogs ask for.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCatalog, type Catalog } from '../../src/catalog/catalog.ts';
import { ALONE, endpointText } from '../../src/catalog/context.ts';
import type { Child } from '../harness/child.ts';
import { plain, type Step } from '../harness/clients.ts';
import { attachDirectly, type Direct } from '../harness/direct.ts';
import { eventually } from '../harness/eventually.ts';
import { TestHost } from '../harness/host.ts';
import { stepsClient } from '../harness/programs.ts';
import { type Echo, echoes } from '../harness/servers.ts';
import { VIP4, VIP6 } from '../harness/services.ts';

const ADDRESS = { 4: '127.0.0.1', 6: '::1' } as const;
const VIP = { 4: VIP4, 6: VIP6 } as const;

type Standing = 'active' | 'draining' | 'down';

let revision = 0;

/** The service with these servers; who is not named is not in it. */
function catalogOf(list: readonly Echo[], standing: Readonly<Record<string, Standing>>): Catalog {
  const backends = list.flatMap(({ name, address, port }) => {
    const state = standing[name] === 'draining' ? ('draining' as const) : ('active' as const);
    return name in standing
      ? [{ service: 'dns', portName: 'dns', address, port, weight: 1, state }]
      : [];
  });
  const down = list.filter(({ name }) => standing[name] === 'down');
  const unhealthy = new Set(down.map(({ address, port }) => endpointText(address, port, 'udp')));
  const ports = [{ name: 'dns', port: 53, protocol: 'udp' as const }];
  const snapshot = {
    revision: ++revision,
    services: new Map([['dns', { name: 'dns', vips: [VIP4, VIP6], ports }]]),
    backends: new Map([['dns', backends]]),
    acls: new Map(),
    records: new Map(),
  };
  return buildCatalog(snapshot, { ...ALONE, unhealthy });
}

/** One socket that asks the VIP when it is told to. */
class Asker {
  readonly #child: Child;
  #asked = 0;

  private constructor(child: Child) {
    this.#child = child;
  }

  static async start(host: TestHost, family: 4 | 6, times: number): Promise<Asker> {
    const round = ['line', `sendto=${VIP[family]},53`, 'recvfrom'];
    const list = Array.from({ length: times }, () => round).flat();
    return new Asker(host.spawn([await stepsClient(), String(family), 'udp', ...list, 'line']));
  }

  /** The name of the server that answered; the answer comes from the VIP. */
  async ask(): Promise<string> {
    this.#child.say('\n');
    this.#asked += 1;
    const rounds = await eventually('an answer', () => {
      // What is printed is flushed where the socket waits for the next line.
      const text = this.#child.stdout.replace(/,\{"step":"line"$/, ']');
      if (text === this.#child.stdout) return undefined;
      const heard = (JSON.parse(text) as Step[]).filter(({ step }) => step === 'recvfrom');
      return heard.length === this.#asked ? heard : undefined;
    });
    const last = rounds.at(-1);
    assert.match(plain(last?.from) ?? '', /^(?:240\.0\.0\.1|\[fd7a:6572:6f68:6f70::1\]):53$/);
    return last?.reply?.split(' ')[0] ?? `${last?.error}`;
  }
}

for (const family of [4, 6] as const) {
  test(`an unconnected UDP socket leaves a backend that is down, and no other (IPv${family})`, async () => {
    await using host = await TestHost.create();
    const address = ADDRESS[family];
    const spec = ['a', 'b'].map((name) => ({ name, protocol: 'udp' as const, address }));
    const { echoes: servers } = await echoes(host, ...spec);
    const of = (standing: Record<string, Standing>): Catalog => catalogOf(servers, standing);
    using direct: Direct = attachDirectly(host, of({ a: 'active' }));
    const asker = await Asker.start(host, family, 40);
    const asked = async (): Promise<string[]> => {
      const names: string[] = [];
      for (let i = 0; i < 6; i++) names.push(await asker.ask());
      return [...new Set(names)];
    };

    assert.deepEqual(await asked(), ['a']);
    direct.apply(of({ a: 'active', b: 'active' }));
    assert.deepEqual(await asked(), ['a'], 'with another one beside it');
    direct.apply(of({ a: 'draining', b: 'active' }));
    assert.deepEqual(await asked(), ['a'], 'a draining backend keeps its flows');
    direct.apply(of({ a: 'down', b: 'active' }));
    assert.deepEqual(await asked(), ['b'], 'a backend that is down loses them');
    direct.apply(of({ a: 'active', b: 'active' }));
    assert.deepEqual(await asked(), ['b'], 'nobody goes back');
    direct.apply(of({ a: 'down', b: 'down' }));
    assert.deepEqual(await asked(), ['b'], 'all of them down: none is');
  });
}
