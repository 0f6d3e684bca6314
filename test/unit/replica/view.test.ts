import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type {
  AclRecord,
  Change,
  DnsRecord,
  ServiceRecord,
  StateSnapshot,
} from '../../../src/state/records.ts';
import { documentOf, Replica, SHARED } from '../../../src/state/replica/replica.ts';
import { StateView } from '../../../src/state/replica/view.ts';
import { change } from '../state/generators.ts';
import { backend, owner, putWeb, web } from '../../harness/web.ts';

interface Host {
  readonly replica: Replica;
  readonly view: StateView;
}

function host(n: number): Host {
  const replica = Replica.open({ node: `n${n}`, writer: n });
  return { replica, view: StateView.open(replica) };
}

/** Writes what this host may write, to its own documents and view; what is for others comes back. */
function commit({ replica, view }: Host, changes: readonly Change[], nowMs = 1): readonly Change[] {
  const { writes, elsewhere } = view.writes(changes);
  view.follow(replica.transact(writes, nowMs).changed);
  return elsewhere.map((one) => one.change);
}

function meet(a: Host, b: Host): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    for (const id of new Set([...from.replica.documents(), ...to.replica.documents()])) {
      const update = from.replica.diff(to.replica.vector(id));
      if (update !== undefined) to.view.follow(to.replica.receive(update, 1).changed);
    }
  }
}

/** As plain values, without what only says how a snapshot came to be. */
function plain({ services, backends, acls, records }: StateSnapshot): unknown {
  const sorted = <T>(map: ReadonlyMap<string, T>): [string, T][] =>
    [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return {
    services: sorted(services),
    backends: sorted(backends),
    acls: sorted(acls),
    records: sorted(records),
  };
}

function isNoLoopback(value: unknown): boolean {
  return (value as { address?: unknown } | null)?.address !== '127.0.0.1';
}

const putBackend: Change = { kind: 'put-backend', backend };

suite('view', () => {
  test('changes written and read back are the snapshot that applyChanges() makes', () => {
    const changes = fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 12 });
    fc.assert(
      fc.property(changes, (lists) => {
        const one = host(1);
        let expected = EMPTY_SNAPSHOT;
        for (const list of lists) {
          // As decide() makes them: of backends only those whose service and port are there.
          for (const each of list) {
            if (each.kind === 'put-backend') {
              const { service, portName } = each.backend;
              const there = expected.services.get(service);
              if (there?.ports.some(({ name }) => name === portName) !== true) continue;
            }
            if (each.kind === 'put-service') {
              const ports = new Set(each.service.ports.map(({ name }) => name));
              const lost = expected.backends.get(each.service.name) ?? [];
              if (lost.some(({ portName }) => !ports.has(portName))) continue;
            }
            commit(one, [each]);
            expected = applyChanges(expected, [each]).snapshot;
          }
        }
        const nodes = (key: string, value: unknown): unknown =>
          key === 'node' ? undefined : value;
        const read = JSON.parse(JSON.stringify(plain(one.view.snapshot()), nodes)) as unknown;
        assert.deepEqual(read, JSON.parse(JSON.stringify(plain(expected))));
        assert.equal(one.view.unseenCount, 0);
      }),
    );
  });

  test('a view that followed is one made afresh, whatever three hosts do at once', () => {
    const step = fc.oneof(
      fc.record({ at: fc.nat(2), change, ms: fc.nat(5) }),
      fc.record({ a: fc.nat(2), b: fc.nat(2) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const hosts = [host(1), host(2), host(3)] as const;
        const at = (i: number): Host => hosts[i] ?? hosts[0];
        for (const one of steps) {
          if ('change' in one) commit(at(one.at), [one.change], one.ms);
          else if (one.a !== one.b) meet(at(one.a), at(one.b));
          for (const { replica, view } of hosts) {
            const fresh = StateView.open(replica);
            assert.deepEqual(plain(view.snapshot()), plain(fresh.snapshot()));
            assert.equal(view.unseenCount, fresh.unseenCount);
          }
        }
        for (let i = 0; i < 2; i++)
          for (const [a, b] of [
            [0, 1],
            [1, 2],
            [2, 0],
          ] as const)
            meet(at(a), at(b));
        // Of loopback addresses each host sees its own.
        const common = ({ view }: Host): unknown =>
          JSON.parse(
            JSON.stringify(plain(view.snapshot()), (_, value: unknown) =>
              Array.isArray(value) ? value.filter(isNoLoopback) : value,
            ),
          );
        for (const one of hosts) assert.deepEqual(common(one), common(hosts[0]));
      }),
    );
  });

  test('a replica that takes the place of another is seen as it is, and what differs is told', () => {
    const changes = fc.array(change, { maxLength: 12 });
    fc.assert(
      fc.property(changes, changes, (before, after) => {
        const [one, other] = [host(1), host(2)];
        for (const each of before) commit(one, [each]);
        for (const each of after) commit(other, [each]);
        const was = one.view.snapshot();
        const { view, viewed } = one.view.replaced(other.replica);
        assert.deepEqual(plain(view.snapshot()), plain(other.view.snapshot()));
        assert.deepEqual(plain(applyChanges(was, viewed.changes).snapshot), plain(view.snapshot()));
        const names = viewed.changes.flatMap((each) =>
          each.kind === 'put-record'
            ? each.record.name
            : each.kind === 'remove-record'
              ? each.name
              : [],
        );
        assert.deepEqual([...viewed.touchedRecords].toSorted(), [...new Set(names)].toSorted());
      }),
    );
  });

  test('two hosts that create one service at once end with one of the two, whole', () => {
    const [a, b] = [host(1), host(2)];
    const other: ServiceRecord = {
      ...web,
      vips: ['240.0.0.81'],
      ports: [{ name: 'x', port: 1, protocol: 'tcp' }],
    };
    commit(a, [putWeb], 1);
    commit(b, [{ kind: 'put-service', service: other }], 2);
    meet(a, b);
    assert.deepEqual(a.view.snapshot().services.get('web'), other);
    assert.deepEqual(b.view.snapshot().services.get('web'), other);
  });

  test('a backend added while its service is removed waits unseen, and comes with the service', () => {
    const [a, b] = [host(1), host(2)];
    commit(a, [putWeb]);
    meet(a, b);
    commit(a, [{ kind: 'remove-service', name: 'web' }]);
    commit(b, [{ kind: 'put-backend', backend: { ...backend, owner } }]);
    meet(a, b);
    assert.equal(a.view.snapshot().backends.size, 0);
    assert.equal(a.view.unseenCount, 1);
    assert.deepEqual([a.view.orphans().length, b.view.orphans().length], [0, 1]);
    commit(a, [putWeb]);
    assert.deepEqual(a.view.snapshot().backends.get('web'), [{ ...backend, owner, node: 'n2' }]);
    assert.equal(a.view.unseenCount, 0);
  });

  test('a backend whose port is gone waits unseen', () => {
    const one = host(1);
    commit(one, [putWeb, putBackend]);
    const service = { ...web, ports: web.ports.slice(1) };
    const { changes } = one.view.follow(
      one.replica.transact(one.view.writes([{ kind: 'put-service', service }]).writes, 2).changed,
    );
    assert.deepEqual(
      changes.map(({ kind }) => kind),
      ['put-service', 'remove-backend'],
    );
    assert.equal(one.view.unseenCount, 1);
  });

  test('backends that live with a process are in the document of their node, others in the shared one', () => {
    const one = host(1);
    commit(one, [
      putWeb,
      putBackend,
      { kind: 'put-backend', backend: { ...backend, port: 1, owner } },
    ]);
    const keysOf = (id: string): string[] =>
      [...one.replica.winners(id)].map(({ key }) => key).toSorted();
    assert.deepEqual(keysOf(SHARED), ['backend/web/http/10.0.0.1/8080', 'service/web']);
    assert.deepEqual(keysOf(documentOf('n1')), ['backend/web/http/10.0.0.1/1']);
  });

  test("a change to another node's backend is for that node to do", () => {
    const [a, b] = [host(1), host(2)];
    commit(a, [putWeb, { kind: 'put-backend', backend: { ...backend, owner } }]);
    meet(a, b);
    const [seen] = b.view.snapshot().backends.get('web') ?? [];
    assert.ok(seen !== undefined);
    const drain: Change = { kind: 'put-backend', backend: { ...seen, state: 'draining' } };
    assert.deepEqual(b.view.writes([drain]), {
      writes: [],
      elsewhere: [{ node: 'n1', change: drain }],
    });
    assert.deepEqual(commit(a, [drain]), []);
    meet(a, b);
    assert.equal(b.view.snapshot().backends.get('web')?.[0]?.state, 'draining');
  });

  test('when a node is forgotten its backends go, and one that an operator added is seen again', () => {
    const [a, b] = [host(1), host(2)];
    commit(b, [putWeb, putBackend], 1);
    const id = { ...backend, owner, weight: 5 };
    const other = { ...id, port: 1 };
    commit(
      a,
      [putWeb, { kind: 'put-backend', backend: id }, { kind: 'put-backend', backend: other }],
      2,
    );
    meet(a, b);
    const seen = (): unknown => b.view.snapshot().backends.get('web');
    assert.deepEqual(seen(), [
      { ...other, node: 'n1' },
      { ...id, node: 'n1' },
    ]);
    b.view.follow(b.replica.forgetDocument(documentOf('n1')));
    assert.deepEqual(seen(), [backend]);
  });

  test('fields that this version does not know stay when it writes', () => {
    const one = host(1);
    const value = JSON.stringify({ vips: web.vips, ports: web.ports, affinity: 'source' });
    one.view.follow(
      one.replica.transact([{ document: 'shared', key: 'service/web', value }], 1).changed,
    );
    assert.deepEqual(one.view.snapshot().services.get('web'), web);
    commit(one, [{ kind: 'put-service', service: { ...web, vips: ['240.0.0.9'] } }]);
    const written: unknown = JSON.parse(one.replica.get(SHARED, 'service/web') ?? '');
    assert.deepEqual(written, { vips: ['240.0.0.9'], ports: web.ports, affinity: 'source' });
  });

  test('a DNS record is an entry of its own, and names that others wrote are told of', () => {
    const [a, b] = [host(1), host(2)];
    const record: DnsRecord = { name: 'a.example', type: 'A', data: ['10.0.0.1'] };
    const meets = (): unknown => {
      const update = a.replica.diff(b.replica.vector(SHARED));
      assert.ok(update !== undefined);
      const { changes, touched, touchedRecords } = b.view.follow(
        b.replica.receive(update, 1).changed,
      );
      return { changes, touched: [...touched], touchedRecords: [...touchedRecords] };
    };
    commit(a, [{ kind: 'put-record', record }]);
    assert.equal(a.replica.get(SHARED, 'dns/a.example/A'), '{"data":["10.0.0.1"]}');
    assert.deepEqual(meets(), {
      changes: [{ kind: 'put-record', record }],
      touched: [],
      touchedRecords: ['a.example'],
    });
    commit(a, [{ kind: 'remove-record', name: 'a.example', type: 'A' }, putWeb]);
    assert.deepEqual(meets(), {
      changes: [
        { kind: 'remove-record', name: 'a.example', type: 'A' },
        { kind: 'put-service', service: web },
      ],
      touched: ['web'],
      touchedRecords: ['a.example'],
    });
    assert.equal(b.view.snapshot().records.size, 0);
  });

  test('records that no version here would write are left out and told of', () => {
    const acl: AclRecord = {
      name: 'r',
      to: { kind: 'service', service: 'web' },
      from: [],
      action: 'deny',
    };
    const good = JSON.stringify({ to: acl.to, from: [], action: 'deny' });
    const entries: [key: string, value: string][] = [
      ['service/web', 'no JSON'],
      ['service/a', JSON.stringify({ vips: [], ports: web.ports })],
      ['service/b', JSON.stringify({ vips: ['240.0.0.080'], ports: web.ports })],
      [
        'service/c',
        JSON.stringify({ vips: web.vips, ports: [{ name: 'http', port: 0, protocol: 'tcp' }] }),
      ],
      ['service/d', JSON.stringify({ vips: ['127.0.0.1'], ports: web.ports })],
      ['service/e', JSON.stringify({ vips: ['240.0.0.80', 'ff02::1'], ports: web.ports })],
      ['service/Not A Name', JSON.stringify({ vips: web.vips, ports: web.ports })],
      ['backend/web/http/10.0.0.1/080', '{}'],
      ['backend/web/http/010.0.0.1/80', '{}'],
      ['backend/web/http/240.0.0.1/80', '{}'],
      ['backend/web/http/10.0.0.1/80/more', '{}'],
      ['backend/web/http/10.0.0.1/81', '{"weight":-1}'],
      ['backend/web/http/10.0.0.1/82', '{"owner":{}}'],
      [
        'acl/a',
        JSON.stringify({ to: { ...acl.to, onlyOnMondays: true }, from: [], action: 'allow' }),
      ],
      [
        'acl/b',
        JSON.stringify({ to: acl.to, from: [{ kind: 'unit', value: 'a b' }], action: 'allow' }),
      ],
      ['acl/c', '[]'],
      ['dns/a.example/A', '{"data":["10.0.0.01"]}'],
      ['dns/a.example/AAAA', '{"data":["10.0.0.1"]}'],
      ['dns/A.example/A', '{"data":["10.0.0.1"]}'],
      ['dns/b.example/CAA', '{"data":["0 issue ca.example"]}'],
      ['dns/b.example/TXT', '{"data":"x"}'],
      ['dns/b.example/A/more', '{"data":["10.0.0.1"]}'],
      ['dns/b.example', '{"data":["10.0.0.1"]}'],
      ['dns/*.example/A', '{"data":["10.0.0.1"]}'],
    ];
    const mx: DnsRecord = { name: 'a.example', type: 'MX', ttl: 9, data: ['10 b.example'] };
    const readable = [
      ['acl/r', good],
      ['dns/a.example/MX', '{"data":["10 b.example"],"ttl":9,"comment":"hi"}'],
    ] as const;
    const one = host(1);
    const writes = [...entries, ...readable].map(
      ([key, value]) => ({ document: 'shared', key, value }) as const,
    );
    one.view.follow(one.replica.transact(writes, 1).changed);
    const { services, backends, acls, records } = one.view.snapshot();
    assert.deepEqual([services.size, backends.size, [...acls.values()]], [0, 0, [acl]]);
    assert.deepEqual([...records.values()], [mx]);
    const keys = entries.map(([key]) => `${SHARED} ${key}`).toSorted();
    assert.deepEqual([...one.view.unreadable()].toSorted(), keys);
    one.view.follow(
      one.replica.transact(
        entries.map(([key]) => ({ document: 'shared', key, value: undefined })),
        2,
      ).changed,
    );
    assert.equal(one.view.unreadable().size, 0);
  });
});
