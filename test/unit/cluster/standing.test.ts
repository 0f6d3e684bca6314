/** What an operator sees of a cluster, and what is said to be wrong with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newMetrics } from '../../../src/cluster/io/metrics.ts';
import { Liveness } from '../../../src/cluster/liveness.ts';
import { explain } from '../../../src/cluster/notices.ts';
import {
  membersOf,
  routesOf,
  statusOf,
  type Sources,
  type Standing,
} from '../../../src/cluster/standing.ts';
import { Node, sfc32 } from '../../../src/hyparview-ts/index.ts';
import type { NodeRecord } from '../../../src/state/replica/schema.ts';

const DAY_MS = 86_400_000;
const POOLS = ['240.0.0.0/4', 'fd7a:6572:6f68:6f70::/64'];

function sources(): Sources {
  const liveness = new Liveness({
    self: 'me',
    remembered: [
      { id: 'x', standing: 'dead', sinceMs: 1000 },
      { id: 'gone', standing: 'left', sinceMs: 1000 },
      { id: 'b', standing: 'left', sinceMs: 2000 },
    ],
  });
  liveness.known('silent', 0);
  const records = new Map<string, NodeRecord>(
    ['me', 'b'].map((id) => {
      const address = `10.0.0.1:${id.length}`;
      const others = { zone: 'z', version: '1', addresses: ['10.0.0.1'], signer: id === 'b' };
      return [id, { name: `name of ${id}`, address, ...others }];
    }),
  );
  const self = { id: 'me', address: '10.0.0.9:7946', zone: 'here' };
  return {
    node: new Node({ self, random: sfc32(1), incarnation: 1 }),
    liveness,
    record: (id) => records.get(id),
    isGone: (id) => id === 'gone',
    startedAtMs: 0,
    iso: (wallMs) => `at ${wallMs}`,
  };
}

test('members are this node first and then by name; of who is gone for good nothing is shown', () => {
  const views = membersOf(sources());
  assert.deepEqual(
    views.map(({ id, name, state, since }) => [id, name, state, since]),
    [
      ['me', 'name of me', 'alive', 'at 0'],
      ['b', 'name of b', 'left', 'at 2000'],
      ['silent', 'silent', 'unknown', undefined],
      ['x', 'x', 'dead', 'at 1000'],
    ],
  );
  const [me, b, silent] = views;
  assert.deepEqual([me?.address, me?.zone, me?.self], ['10.0.0.9:7946', 'here', true]);
  assert.deepEqual([b?.address, b?.zone, b?.signer, b?.self], ['10.0.0.1:1', 'z', true, false]);
  assert.deepEqual([silent?.address, silent?.addresses, silent?.version], ['', [], undefined]);
  assert.deepEqual(routesOf(sources()), []);
});

function problems(standing: Partial<Standing>, of = sources()): readonly string[] {
  return statusOf(of, {
    clusterId: 'c',
    name: 'n',
    signer: false,
    keyProblem: undefined,
    vips: POOLS,
    incarnation: 1,
    certificate: { notAfterMs: 30 * DAY_MS, dueAtMs: 20 * DAY_MS },
    nowMs: 0,
    whyGone: undefined,
    reachedAt: [],
    turnedAwaySinceMs: undefined,
    wasSetBack: false,
    aloneSinceMs: undefined,
    documents: 1,
    revocations: 0,
    lag: new Map(),
    queuedBytes: () => 0,
    metrics: newMetrics(),
    ...standing,
  }).problems;
}

test('what is wrong is said, and nothing else', () => {
  assert.deepEqual(problems({}), []);
  const alone = { aloneSinceMs: 1000, nowMs: 30_999 };
  assert.deepEqual(problems(alone), []);
  const [isAlone, ...none] = problems({ ...alone, nowMs: 31_000 });
  assert.match(isAlone ?? '', /^no other member can be reached since at 1000/);
  assert.deepEqual(none, []);
  const [isOut, ...nothingElse] = problems({ ...alone, nowMs: 31_000, whyGone: 'revoked' });
  assert.match(isOut ?? '', /^this host is out of the cluster \(revoked\)/);
  assert.deepEqual(nothingElse, []);
  const [isTurnedAway, ...nor] = problems({ ...alone, nowMs: 31_000, turnedAwaySinceMs: 2000 });
  assert.match(
    isTurnedAway ?? '',
    /hang up on this host.*leave the cluster and join.*since at 2000/,
  );
  assert.deepEqual(nor, []);
  assert.match(problems({ wasSetBack: true }).join(), /was set back/);
  assert.deepEqual(problems({ nowMs: 23 * DAY_MS }), []);
  const [isEnding] = problems({ nowMs: 23 * DAY_MS + 1 });
  assert.match(isEnding ?? '', /^the certificate ends at at 2592000000 and could not be renewed/);
  assert.match(problems({ nowMs: 30 * DAY_MS }).join(), /^the certificate has ended at at 2592/);
});

test('who is there and takes VIPs from other blocks is told of', () => {
  const base = sources();
  const others = ['10.240.0.0/16', POOLS[1] ?? ''];
  const record = (id: string): NodeRecord | undefined => {
    const found = base.record(id);
    return found && { ...found, vips: others };
  };
  assert.deepEqual(problems({}, { ...base, record }), [], 'it said goodbye');
  base.liveness.heard('b', 'alive', 0);
  assert.deepEqual(problems({}, base), [], 'its version does not tell');
  assert.deepEqual(problems({ vips: others }, { ...base, record }), []);
  assert.deepEqual(problems({}, { ...base, record }), [
    'name of b takes VIPs from 10.240.0.0/16 and fd7a:6572:6f68:6f70::/64, this host from ' +
      '240.0.0.0/4 and fd7a:6572:6f68:6f70::/64: they disagree on who has which VIP; make ' +
      'vipCidr4 and vipPrefix6 equal in every zerohop.yaml, and restart the agents',
  ]);
});

test('what needs nobody to do anything is not a warning', () => {
  const levels = [
    explain({ type: 'no-answer', document: 'shared' }, 'b'),
    explain({ type: 'gap', document: 'shared' }, 'b'),
    explain({ type: 'own-history', document: 'shared', writes: 3 }, 'b'),
    explain({ type: 'clock-ahead', writer: 3, aheadMs: 90_400 }, 'b'),
  ].map(({ level, fields }) => [level, fields]);
  assert.deepEqual(levels, [
    ['debug', { peer: 'b', document: 'shared' }],
    ['info', { peer: 'b', document: 'shared' }],
    ['warn', { peer: 'b', document: 'shared', writes: 3 }],
    ['warn', { peer: 'b', writer: 3, aheadSeconds: 90 }],
  ]);
});
