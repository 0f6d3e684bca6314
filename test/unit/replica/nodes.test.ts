import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { BackendOwner, BackendRecord, Change } from '../../../src/state/records.ts';
import { documentOf, Replica, SHARED } from '../../../src/state/replica/replica.ts';
import {
  NODE_KEY,
  readNode,
  writeBackend,
  writeNode,
  type NodeRecord,
} from '../../../src/state/replica/schema.ts';
import { StateView } from '../../../src/state/replica/view.ts';

const alpha: NodeRecord = {
  name: 'alpha',
  zone: '',
  version: '0.1.0',
  address: '[fd00::7]:7946',
  addresses: ['10.0.0.7', 'fd00::7'],
  signer: true,
};
const owner: BackendOwner = { pid: 7, startTicks: 1, bootId: 'b', command: 'c' };
const local: BackendRecord = {
  service: 'web',
  portName: 'http',
  address: '127.0.0.1',
  port: 8080,
  weight: 1,
  state: 'active',
};
const putWeb: Change = {
  kind: 'put-service',
  service: {
    name: 'web',
    vips: ['240.0.0.80'],
    ports: [{ name: 'http', port: 80, protocol: 'tcp' }],
  },
};
const key = 'backend/web/http/127.0.0.1/8080';

suite('node records', () => {
  test('what was written is read, and fields of newer versions stay', () => {
    const text = writeNode(alpha, JSON.stringify({ name: 'old', gpu: 2 }));
    assert.deepEqual(JSON.parse(text), { ...alpha, gpu: 2 });
    assert.deepEqual(readNode(text), alpha);
  });

  test('of versions that did not tell their VIP blocks nothing is known of them', () => {
    const told = { ...alpha, vips: ['240.0.0.0/4', 'fd7a::/64'] };
    const text = writeNode(told, undefined);
    assert.deepEqual(readNode(text), told);
    assert.deepEqual(JSON.parse(writeNode(alpha, text)), alpha);
  });

  test('a record that says something impossible is no record', () => {
    const many = Array.from({ length: 257 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
    const wrong: [field: keyof NodeRecord, value: unknown][] = [
      ['name', ''],
      ['name', 'x'.repeat(254)],
      ['name', 'a\u001B[2Jb'],
      ['name', 7],
      ['zone', 'a\nb'],
      ['zone', undefined],
      ['version', 'x'.repeat(254)],
      ['address', '10.0.0.7'],
      ['address', '10.0.0.7:0'],
      ['address', '010.0.0.7:7946'],
      ['address', 'fd00::7:7946'],
      ['address', 'alpha:7946'],
      ['addresses', ['10.0.0.07']],
      ['addresses', ['fd00:0::7']],
      ['addresses', ['10.0.0.7', '10.0.0.7']],
      ['addresses', ['127.0.0.1']],
      ['addresses', ['10.0.0.7', 'fe80::7']],
      ['addresses', ['240.0.0.7']],
      ['addresses', [7]],
      ['addresses', '10.0.0.7'],
      ['addresses', many],
      ['signer', 'yes'],
      ['vips', '240.0.0.0/4'],
      ['vips', []],
      ['vips', ['240.0.0.1/4']],
      ['vips', ['240.0.0.0/33', 'fd7a::/64']],
      ['vips', ['FD7A::/64']],
      ['vips', Array.from({ length: 17 }, (_, i) => `10.${i}.0.0/16`)],
    ];
    for (const [field, value] of wrong)
      assert.equal(readNode(JSON.stringify({ ...alpha, [field]: value })), undefined, field);
    assert.ok(readNode(JSON.stringify({ ...alpha, addresses: many.slice(1) })) !== undefined);
    for (const text of ['', 'null', '[]', '{}']) assert.equal(readNode(text), undefined);
  });

  test('a view has those of all nodes, tells whose is another, and leaves out what it cannot read', () => {
    const [a, b] = [Replica.open({ node: 'a', writer: 1 }), Replica.open({ node: 'b', writer: 2 })];
    const view = StateView.open(a);
    const say = (value: string | undefined): StateView => {
      const [update] = b.transact([{ document: 'own', key: NODE_KEY, value }], 1).updates;
      assert.ok(update !== undefined);
      const before = view.nodes();
      const then = [...before];
      touched = [...view.follow(a.receive(update, 1).changed).touchedNodes];
      assert.deepEqual([...before], then, 'a map that was given out has changed');
      assert.deepEqual(StateView.open(a).nodes(), view.nodes());
      return view;
    };
    let touched: string[] = [];
    assert.deepEqual([...say(writeNode(alpha, undefined)).nodes()], [['b', alpha]]);
    assert.deepEqual(touched, ['b']);
    say(writeNode(alpha, '{"gpu":1}'));
    assert.deepEqual(touched, []);
    const beta = { ...alpha, name: 'beta' };
    assert.deepEqual([...say(writeNode(beta, undefined)).nodes()], [['b', beta]]);
    assert.deepEqual(touched, ['b']);
    assert.equal(say('{}').nodes().size, 0);
    assert.deepEqual([touched, [...view.unreadable()]], [['b'], [`node:b ${NODE_KEY}`]]);
    say(writeNode(beta, undefined));
    view.follow(a.forgetDocument(documentOf('b')));
    assert.deepEqual([view.nodes().size, view.unreadable().size], [0, 0]);
    // In the shared document anybody could say it of anybody.
    view.follow(a.transact([{ document: 'shared', key: NODE_KEY, value: '{}' }], 2).changed);
    assert.equal(view.nodes().size, 0);
    assert.equal(view.snapshot().revision, 0);
  });
});

suite('backends of loopback addresses', () => {
  test('each host sees its own, then the shared one, whichever is newer', () => {
    const hosts = ['a', 'b', 'c'].map((node, i) => Replica.open({ node, writer: i + 1 }));
    const [a, b, c] = hosts;
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    const views = hosts.map((replica) => StateView.open(replica));
    const meet = (): void => {
      for (const from of hosts)
        for (const [i, to] of hosts.entries())
          for (const id of from.documents()) {
            const update = from.diff(to.vector(id));
            if (update !== undefined) views[i]?.follow(to.receive(update, 9).changed);
          }
    };
    const seen = (): unknown[] =>
      views.map((view, i) => {
        const replica = hosts[i];
        assert.ok(replica !== undefined);
        assert.deepEqual(view.snapshot().backends, StateView.open(replica).snapshot().backends);
        return (view.snapshot().backends.get('web') ?? []).map(
          ({ node = 'all', weight }) => `${node} ${weight}`,
        );
      });
    const value = (weight: number): string => writeBackend({ ...local, owner, weight }, undefined);
    const write = (
      replica: Replica,
      document: 'own' | 'shared',
      text: string | undefined,
    ): void => {
      const { changed } = replica.transact([{ document, key, value: text }], 5);
      views[hosts.indexOf(replica)]?.follow(changed);
    };
    const { writes } = StateView.open(a).writes([putWeb]);
    views[0]?.follow(a.transact(writes, 1).changed);
    write(a, 'own', value(1));
    meet();
    write(b, 'own', value(2));
    meet();
    assert.deepEqual(seen(), [['a 1'], ['b 2'], ['b 2']]);
    write(c, 'shared', writeBackend({ ...local, weight: 3 }, undefined));
    meet();
    assert.deepEqual(seen(), [['a 1'], ['b 2'], ['all 3']]);
    write(b, 'own', value(4));
    meet();
    assert.deepEqual(seen(), [['a 1'], ['b 4'], ['all 3']]);
    write(c, 'shared', undefined);
    write(a, 'own', undefined);
    meet();
    assert.deepEqual(seen(), [['b 4'], ['b 4'], ['b 4']]);
    assert.equal(a.get(SHARED, key), undefined);
  });
});

suite('writes of changes', () => {
  const host = (): { replica: Replica; view: StateView } => {
    const replica = Replica.open({ node: 'a', writer: 1 });
    return { replica, view: StateView.open(replica) };
  };

  test('a service that is removed takes backends along that were written just before', () => {
    const { replica, view } = host();
    const changes: Change[] = [
      putWeb,
      { kind: 'put-backend', backend: local },
      { kind: 'put-backend', backend: { ...local, port: 1, owner } },
      { kind: 'remove-service', name: 'web' },
    ];
    view.follow(replica.transact(view.writes(changes).writes, 1).changed);
    assert.deepEqual([...replica.winners(SHARED), ...replica.winners(replica.own)], []);
    view.follow(replica.transact(view.writes([...changes, putWeb]).writes, 1).changed);
    assert.equal(view.snapshot().services.size, 1);
    assert.equal(view.snapshot().backends.size, 0);
  });

  test('a backend that is put twice, by hand and with a process, is what it was last', () => {
    const put = (backend: BackendRecord): Change => ({ kind: 'put-backend', backend });
    const [byHand, process] = [put(local), put({ ...local, owner })];
    for (const [changes, ofAll, own] of [
      [[putWeb, byHand, process], 1, 1],
      [[putWeb, process, byHand], 2, 0],
    ] as const) {
      const { replica, view } = host();
      view.follow(replica.transact(view.writes(changes).writes, 1).changed);
      const counts = [SHARED, replica.own].map((id) => [...replica.winners(id)].length);
      assert.deepEqual(counts, [ofAll, own]);
    }
  });

  test('a backend with a process is of this node unless it says another, or has one already', () => {
    const { replica, view } = host();
    const other = Replica.open({ node: 'b', writer: 2 });
    view.follow(replica.transact(view.writes([putWeb]).writes, 1).changed);
    const value = writeBackend({ ...local, owner }, undefined);
    const far = 'backend/web/http/10.0.0.9/80';
    for (const update of other.transact([{ document: 'own', key: far, value }], 1).updates)
      view.follow(replica.receive(update, 1).changed);
    const nodesOf = (backend: BackendRecord): unknown => {
      const { writes, elsewhere } = view.writes([{ kind: 'put-backend', backend }]);
      return elsewhere[0]?.node ?? writes.find((one) => one.value !== undefined)?.document;
    };
    const theirs = { ...local, address: '10.0.0.9', port: 80 };
    assert.equal(nodesOf({ ...local, owner }), 'own');
    assert.equal(nodesOf({ ...local, owner, node: 'a' }), 'own');
    assert.equal(nodesOf({ ...local, owner, node: 'b' }), 'b');
    assert.equal(nodesOf(local), 'shared');
    assert.equal(nodesOf(theirs), 'b');
    assert.equal(nodesOf({ ...theirs, owner }), 'b');
    assert.equal(nodesOf({ ...theirs, owner, node: 'a' }), 'b');
    assert.equal(nodesOf({ ...theirs, owner: { ...owner, pid: 8 } }), 'own');
  });
});
