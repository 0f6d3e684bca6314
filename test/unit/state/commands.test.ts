import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import { decide, type Command, type Decision } from '../../../src/state/commands.ts';
import { exportDocuments } from '../../../src/state/export.ts';
import type { StateSnapshot } from '../../../src/state/records.ts';
import { parseDocuments } from '../../../src/state/documents.ts';
import { parse, serviceSpec } from '../../../src/state/validate.ts';
import { cidr, command, pools } from './generators.ts';

function after(commands: readonly Command[], start: StateSnapshot = EMPTY_SNAPSHOT): StateSnapshot {
  let snapshot = start;
  for (const one of commands)
    snapshot = applyChanges(snapshot, decide(snapshot, one, pools).changes).snapshot;
  return snapshot;
}

function apply(snapshot: StateSnapshot, documents: readonly unknown[]): Decision {
  const parsed = parseDocuments(documents);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return decide(snapshot, { kind: 'apply', documents: parsed.value }, pools);
}

function add(spec: unknown): Command {
  const parsed = parse(serviceSpec, spec);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return { kind: 'add-service', service: parsed.value };
}

const web = add({ name: 'web', ports: [{ name: 'http', port: 80 }] });
const shop = add({
  name: 'shop',
  ports: [
    { name: 'http', port: 80 },
    { name: 'https', port: 443 },
  ],
});
const at = (address: string, portName?: string): Command => ({
  kind: 'put-backend',
  service: 'web',
  backend: { portName, address, port: 8080, weight: 1, state: 'active' },
});

function complaints(decision: Decision): string[] {
  assert.deepEqual(decision.changes, []);
  assert.deepEqual(decision.actions, []);
  return decision.problems.map(
    (p) => `${p.code} ${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`,
  );
}

test('decide() never changes anything when it reports a problem, and never refuses without a reason', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 12 }), command, (history, last) => {
      const decision = decide(after(history), last, pools);
      if (decision.problems.length > 0) {
        assert.deepEqual(decision.changes, []);
        assert.deepEqual(decision.actions, []);
      }
      assert.equal(decision.changes.length === 0, decision.actions.length === 0);
    }),
    { numRuns: 500 },
  );
});

test('whatever commands say: one VIP has one service, one port one meaning, each backend a port', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 20 }), (history) => {
      const { services, backends } = after(history);
      const vips = [...services.values()].flatMap((service) => service.vips);
      assert.equal(new Set(vips).size, vips.length);
      for (const service of services.values()) {
        assert.ok(service.vips.length > 0);
        assert.equal(
          new Set(service.ports.map((p) => `${p.port}/${p.protocol}`)).size,
          service.ports.length,
        );
        assert.equal(new Set(service.ports.map((p) => p.name)).size, service.ports.length);
      }
      for (const [name, list] of backends) {
        assert.ok(list.length > 0);
        for (const one of list)
          assert.ok(services.get(name)?.ports.some((p) => p.name === one.portName));
      }
    }),
    { numRuns: 500 },
  );
});

test('whatever commands say: a CNAME stands alone, and where a service is only the service says', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 30 }), (history) => {
      const { services, records } = after(history);
      for (const [key, { name, type, data }] of records) {
        assert.equal(key, `${name} ${type}`);
        assert.ok(data.length > 0 && new Set(data).size === data.length);
        const others = [...records.values()].filter((one) => one.name === name).length;
        if (type === 'CNAME') assert.deepEqual([data.length, others], [1, 1]);
        const service = services.get(name.replace(/\.zerohop\.internal$/, ''));
        if (service !== undefined) assert.ok(!['A', 'AAAA', 'CNAME'].includes(type), key);
      }
    }),
    { numRuns: 500 },
  );
});

test('giving a command again changes nothing', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 12 }), command, (history, last) => {
      const before = after(history);
      const once = decide(before, last, pools);
      const again = decide(applyChanges(before, once.changes).snapshot, last, pools);
      assert.deepEqual(again.changes, []);
    }),
    { numRuns: 500 },
  );
});

test('applying what was exported changes nothing, and brings all of it back from nothing', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 16 }), (history) => {
      const snapshot = after(history);
      const documents = JSON.parse(JSON.stringify(exportDocuments(snapshot))) as unknown[];
      assert.deepEqual(apply(snapshot, documents).changes, []);
      const copy = applyChanges(EMPTY_SNAPSHOT, apply(EMPTY_SNAPSHOT, documents).changes).snapshot;
      assert.deepEqual(new Map(copy.services), new Map(snapshot.services));
      assert.deepEqual(new Map(copy.records), new Map(snapshot.records));
      assert.deepEqual(exportDocuments(copy), exportDocuments(snapshot));
    }),
    { numRuns: 500 },
  );
});

test('a new service gets one IPv4 and one IPv6 VIP; given ones are taken as they are, IPv4 first', () => {
  const { services } = after([
    web,
    add({ name: 'x', ports: [{ port: 1 }], vips: ['FD00:0::1', '240.0.0.9'] }),
  ]);
  assert.deepEqual(services.get('web')?.vips, [
    '252.189.37.169',
    'fd7a:6572:6f68:6f70:8b8f:9c35:7cbd:25a9',
  ]);
  assert.deepEqual(services.get('x')?.vips, ['240.0.0.9', 'fd00::1']);
  assert.deepEqual(services.get('x')?.ports, [{ name: 'tcp-1', port: 1, protocol: 'tcp' }]);
});

test('a service added twice is a conflict', () => {
  assert.match(
    complaints(decide(after([web]), web, pools)).join(),
    /^conflict name: there is a service "web" already/,
  );
});

test('duplicate ports, names and VIPs are all reported at once', () => {
  const spec = {
    name: 'bad',
    ports: [
      { name: 'a', port: 80 },
      { name: 'b', port: 80 },
      { name: 'a', port: 81 },
      { port: 80, protocol: 'udp' },
    ],
    vips: ['240.0.0.1', '240.0.0.1'],
  };
  assert.deepEqual(complaints(decide(EMPTY_SNAPSHOT, add(spec), pools)), [
    'conflict ports[1].port: port 80/tcp is there twice',
    'conflict ports[2].name: port name "a" is there twice',
    'conflict vips: VIP 240.0.0.1 is there twice',
  ]);
});

test('a VIP of another service is refused and its owner named', () => {
  const one = add({ name: 'one', ports: [{ port: 1 }], vip: '240.0.0.1' });
  const two = add({ name: 'two', ports: [{ port: 1 }], vip: '240.0.0.1' });
  assert.match(
    complaints(decide(after([one]), two, pools)).join(),
    /VIP 240\.0\.0\.1 of "two" belongs to service "one"/,
  );
  const both = [
    { kind: 'service', name: 'one', ports: [{ port: 1 }], vip: '240.0.0.1' },
    { kind: 'service', name: 'two', ports: [{ port: 1 }], vip: '240.0.0.1' },
  ];
  assert.equal(complaints(apply(EMPTY_SNAPSHOT, both)).length > 0, true);
});

test('two services can swap their VIPs in one apply', () => {
  const docs = (a: string, b: string): unknown[] => [
    { kind: 'service', name: 'one', ports: [{ port: 1 }], vip: a },
    { kind: 'service', name: 'two', ports: [{ port: 1 }], vip: b },
  ];
  const before = applyChanges(
    EMPTY_SNAPSHOT,
    apply(EMPTY_SNAPSHOT, docs('240.0.0.1', '240.0.0.2')).changes,
  ).snapshot;
  assert.deepEqual(apply(before, docs('240.0.0.2', '240.0.0.1')).problems, []);
});

test('removing what is not there says so and guesses what was meant', () => {
  const state = after([web, at('10.0.0.1')]);
  assert.match(
    complaints(decide(state, { kind: 'remove-service', name: 'wbe' }, pools)).join(),
    /^not-found -: there is no service "wbe" \| did you mean "web"\?$/,
  );
  const selector = { service: 'web', address: '10.0.0.1', port: 8081 };
  assert.match(
    complaints(decide(state, { kind: 'remove-backend', backend: selector }, pools)).join(),
    /"web" has no backend 10\.0\.0\.1:8081 \| did you mean "10\.0\.0\.1:8080"\?/,
  );
});

test('a backend of a service with several ports must name one of them', () => {
  const state = after([shop]);
  const backend = (portName?: string): Command => ({
    kind: 'put-backend',
    service: 'shop',
    backend: { portName, address: '10.0.0.1', port: 8080, weight: 1, state: 'active' },
  });
  assert.match(
    complaints(decide(state, backend(), pools)).join(),
    /"shop" has 2 ports.*is one of http, https/,
  );
  assert.match(
    complaints(decide(state, backend('htps'), pools)).join(),
    /has no port "htps" \| did you mean "https"\?/,
  );
  assert.match(
    complaints(decide(state, backend('ssh'), pools)).join(),
    /has no port "ssh" \| it has http, https/,
  );
});

test('a backend in the block of the VIPs is refused', () => {
  const small = { ...pools, v6: { ...pools.v6 } };
  const decision = decide(after([web]), at('fd7a:6572:6f68:6f70::1'), small);
  assert.match(complaints(decision).join(), /cannot be a backend: VIPs come from that block/);
});

test('a backend of a family without a VIP is taken with a warning', () => {
  const v4only = add({ name: 'web', ports: [{ port: 80 }], vip: '240.0.0.1' });
  const { changes, warnings } = decide(after([v4only]), at('fd00::1'), pools);
  assert.equal(changes.length, 1);
  assert.match(warnings[0]?.message ?? '', /gets no connections: "web" has no IPv6 VIP/);
});

test('taking the last usable backend away warns that connects are refused', () => {
  const backend = { service: 'web', address: '10.0.0.1', port: 8080 };
  const { warnings } = decide(
    after([web, at('10.0.0.1')]),
    { kind: 'change-backend', backend, state: 'draining' },
    pools,
  );
  assert.match(warnings[0]?.message ?? '', /port "http" of "web" has no usable backend left/);
});

test('a list of backends in a service replaces its own ones, not those of running processes', () => {
  const owner = { pid: 1, startTicks: 2, bootId: 'b', command: 'c' };
  const owned: Command = {
    kind: 'put-backend',
    service: 'web',
    backend: {
      portName: undefined,
      address: '127.0.0.1',
      port: 9,
      weight: 1,
      state: 'active',
      owner,
    },
  };
  const state = after([web, at('10.0.0.1'), at('10.0.0.2'), owned]);
  const service = {
    kind: 'service',
    name: 'web',
    ports: [{ name: 'http', port: 80 }],
    backends: [{ address: '10.0.0.2:8080' }],
  };
  assert.deepEqual(apply(state, [service]).actions, [
    { action: 'remove', kind: 'backend', name: 'web:http 10.0.0.1:8080' },
  ]);
});

test('only the owner removes a backend that has passed to another process', () => {
  const owner = (
    pid: number,
  ): { pid: number; startTicks: number; bootId: string; command: string } => ({
    pid,
    startTicks: 2,
    bootId: 'b',
    command: 'c',
  });
  const put = (pid: number): Command => ({
    kind: 'put-backend',
    service: 'web',
    backend: {
      portName: undefined,
      address: '127.0.0.1',
      port: 9,
      weight: 1,
      state: 'active',
      owner: owner(pid),
    },
  });
  const state = after([web, put(1), put(2)]);
  const removal = (pid: number): Command => ({
    kind: 'remove-backend',
    backend: { service: 'web', address: '127.0.0.1', port: 9 },
    owner: owner(pid),
  });
  assert.deepEqual(decide(state, removal(1), pools).changes, []);
  assert.equal(decide(state, removal(2), pools).changes.length, 1);
});

test('documents described twice are refused, by their places', () => {
  const service = { kind: 'service', name: 'web', ports: [{ port: 80 }] };
  const backend = { kind: 'backend', service: 'web', address: '10.0.0.1:1' };
  assert.deepEqual(complaints(apply(EMPTY_SNAPSHOT, [service, backend, service, backend])), [
    'conflict documents[2].name: service "web" is described twice | first in documents[0]',
    'conflict documents[3]: backend web:tcp-80 10.0.0.1:1 is described twice | first in documents[1]',
  ]);
});

test('a port that goes takes its backends along, and says so', () => {
  const state = after([
    shop,
    {
      kind: 'put-backend',
      service: 'shop',
      backend: { portName: 'https', address: '10.0.0.1', port: 1, weight: 1, state: 'active' },
    },
  ]);
  const { changes, actions } = apply(state, [
    { kind: 'service', name: 'shop', ports: [{ name: 'http', port: 80 }] },
  ]);
  assert.deepEqual(actions, [
    { action: 'update', kind: 'service', name: 'shop' },
    { action: 'remove', kind: 'backend', name: 'shop:https 10.0.0.1:1' },
  ]);
  assert.equal(applyChanges(state, changes).snapshot.backends.get('shop'), undefined);
});

test('services made by one apply get different VIPs, and the one for which none is left is named', () => {
  const tiny = { ...pools, v4: cidr('10.1.2.0/30') };
  const service = (name: string): unknown => ({ kind: 'service', name, ports: [{ port: 80 }] });
  const decided = (names: string[]): Decision => {
    const parsed = parseDocuments(names.map(service));
    assert.ok(parsed.ok);
    return decide(EMPTY_SNAPSHOT, { kind: 'apply', documents: parsed.value }, tiny);
  };
  // Few enough to scan for owners, and enough for an index.
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, decided(['a', 'b', 'c']).changes);
  assert.equal(new Set([...snapshot.services.values()].map((one) => one.vips[0])).size, 3);
  assert.match(
    complaints(decided(['a', 'b', 'c', 'd', 'e'])).join('\n'),
    /^limit documents\[3\]\.vips: no IPv4 VIP is left in 10\.1\.2\.0\/30 \| widen vipCidr4/,
  );
});

test('backends that belong to a process are not exported', () => {
  const owner = { pid: 1, startTicks: 2, bootId: 'b', command: 'c' };
  const backend = {
    portName: undefined,
    address: '127.0.0.1',
    port: 9,
    weight: 1,
    state: 'active' as const,
    owner,
  };
  const state = after([web, at('10.0.0.1'), { kind: 'put-backend', service: 'web', backend }]);
  const [document] = exportDocuments(state);
  assert.ok(document?.kind === 'service');
  assert.deepEqual(document.backends, [{ address: '10.0.0.1:8080' }]);
});
