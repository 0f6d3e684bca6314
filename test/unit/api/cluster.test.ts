/** The paths of the cluster, asked without a server, of an engine without a network. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { findMember, isLastSigner } from '../../../src/api/cluster-names.ts';
import type { MemberAnswer } from '../../../src/api/cluster-schemas.ts';
import type { Engine } from '../../../src/api/engine.ts';
import { ROUTES } from '../../../src/api/routes.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { member, nodeId, SELF, WORD } from './fake-cluster.ts';
import { FakeEngine } from './fake-engine.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = new FakeEngine();
});

interface Parts {
  readonly params?: object;
  readonly query?: object;
  readonly body?: unknown;
}

async function ask(what: string, parts: Parts = {}, of: Engine = engine): Promise<unknown> {
  const route = ROUTES.find(({ method, path }) => `${method} ${path}` === what);
  assert.ok(route, what);
  const { params = {}, query = {}, body } = parts;
  const answer = await route.run(of, { params, query, body });
  assert.deepEqual(route.answer.parse(answer), answer, 'not what the description promises');
  return answer;
}

async function refused(what: string, parts: Parts = {}, of: Engine = engine): Promise<string[]> {
  try {
    await ask(what, parts, of);
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    return error.problems.map(({ code, message, path = '-' }) => `${code} ${path}: ${message}`);
  }
  return assert.fail('accepted');
}

const join = { address: '10.0.0.2:7946', token: WORD };

test('a host in no cluster says so, and has no members, routes or tokens', async () => {
  assert.deepEqual(await ask('GET /v1/cluster'), { member: false });
  assert.deepEqual(await ask('GET /v1/members'), { members: [] });
  assert.deepEqual(await ask('GET /v1/routes'), { routes: [] });
  engine.cluster.issued = [{ id: 'x', expiresAt: 'y', signer: false }];
  assert.deepEqual(await ask('GET /v1/cluster/tokens'), { tokens: [] });
});

test('what only a member can do is refused outside a cluster, and nothing is asked of the agent', async () => {
  for (const [what, parts] of [
    ['DELETE /v1/cluster', {}],
    ['POST /v1/cluster/tokens', { body: {} }],
    ['DELETE /v1/cluster/tokens/{id}', { params: { id: '0011223344556677' } }],
    ['POST /v1/cluster/revocations', { body: { node: 'web2', reason: 'r' } }],
  ] as const) {
    assert.deepEqual(await refused(what, parts), ['conflict -: this host is in no cluster'], what);
  }
  assert.deepEqual(engine.cluster.calls, []);
});

test('a member neither founds nor joins another cluster', async () => {
  await ask('POST /v1/cluster');
  const message = `conflict -: this host is in the cluster ${'b'.repeat(16)} already`;
  assert.deepEqual(await refused('POST /v1/cluster'), [message]);
  assert.deepEqual(await refused('POST /v1/cluster/join', { body: join }), [message]);
  assert.deepEqual(engine.cluster.calls, [['init']]);
});

test('joining takes an address, a token, and what becomes of what the host has', async () => {
  await ask('POST /v1/cluster/join', { body: { ...join, state: 'merge' } });
  assert.deepEqual(engine.cluster.calls, [['join', { ...join, state: 'merge' }]]);
  engine.cluster.list = [];
  for (const [body, expected] of [
    [{}, ['invalid address: address is missing', 'invalid token: token is missing']],
    [
      { ...join, address: 'fd00::1' },
      [
        'invalid address: "fd00::1" is not an address: write HOST:PORT, with an IPv6 address in brackets: 10.0.0.7:7946, [fd00::7]:7946',
      ],
    ],
    [{ ...join, state: 'keep' }, ['invalid state: state "keep" is neither merge nor discard']],
    [{ ...join, token: 'x'.repeat(513) }, ['invalid token: token is too long']],
  ] as const) {
    assert.deepEqual(await refused('POST /v1/cluster/join', { body }), expected);
  }
  assert.equal(engine.cluster.calls.length, 1);
});

test('a token is good for an hour unless told otherwise, and for 30 days at most', async () => {
  await ask('POST /v1/cluster');
  await ask('POST /v1/cluster/tokens', { body: {} });
  await ask('POST /v1/cluster/tokens', { body: { validForS: 2_592_000, signer: true } });
  assert.deepEqual(engine.cluster.calls.slice(1), [
    ['token', 3600, false],
    ['token', 2_592_000, true],
  ]);
  for (const validForS of [0, 2_592_001, 1.5, '1h']) {
    assert.match(
      (await refused('POST /v1/cluster/tokens', { body: { validForS } })).join(),
      /^invalid validForS: validForS .* is not a whole number in 1–2592000$/,
    );
  }
});

test('an open token is withdrawn; one that was used, or that is not there, is not', async () => {
  await ask('POST /v1/cluster');
  const withdraw = (id: string): Promise<string[]> =>
    refused('DELETE /v1/cluster/tokens/{id}', { params: { id } });
  const [open, used] = ['00000000000000aa', '00000000000000bb'];
  engine.cluster.issued = [
    { id: open, expiresAt: 'x', signer: false },
    { id: used, expiresAt: 'x', signer: false, used: { at: 'y', node: nodeId('c') } },
  ];
  const gone = await ask('DELETE /v1/cluster/tokens/{id}', { params: { id: open.toUpperCase() } });
  assert.deepEqual(gone, { id: open });
  assert.deepEqual(await withdraw(open), [`not-found -: this host has made no token ${open}`]);
  assert.deepEqual(await withdraw(used), [
    `conflict -: the token ${used} was used by node ${nodeId('c')}: it cannot be withdrawn`,
  ]);
  assert.match((await withdraw(WORD)).join(), /^invalid id: .* is no token id: it has 16 digits/);
  assert.deepEqual(engine.cluster.calls.slice(1), [['withdraw', open]]);
});

test('a member is revoked by its name or its id, and the agent is told the id', async () => {
  engine.cluster.list = [SELF, member('b', 'web2', { signer: true })];
  const revoke = (node: string, reason = 'sold'): Promise<unknown> =>
    ask('POST /v1/cluster/revocations', { body: { node, reason } });
  const web2 = { id: nodeId('b'), name: 'web2', reason: 'sold', signer: true };
  assert.deepEqual(await revoke('web2', ' sold '), web2);
  assert.deepEqual(await revoke(nodeId('b')), web2);
  assert.deepEqual(await revoke(nodeId('z')), { id: nodeId('z'), name: '', reason: 'sold' });
  assert.deepEqual(
    engine.cluster.calls.map(([, node]) => node),
    [nodeId('b'), nodeId('b'), nodeId('z')],
  );
  for (const [body, expected] of [
    [{ node: 'web1', reason: 'r' }, 'conflict node: that is this host: it does not put itself out'],
    [{ node: 'web3', reason: 'r' }, 'not-found node: there is no member "web3"'],
    [
      { node: 'web2', reason: ' ' },
      'invalid reason: reason is empty: say why, for those who look later',
    ],
    [{ node: 'web2' }, 'invalid reason: reason is missing'],
  ] as const) {
    assert.deepEqual(await refused('POST /v1/cluster/revocations', { body }), [expected]);
  }
  assert.equal(engine.cluster.calls.length, 3);
});

test('the last member with the CA key leaves others behind only if forced', async () => {
  engine.cluster.list = [SELF, member('b', 'web2')];
  assert.deepEqual(await refused('DELETE /v1/cluster'), [
    'conflict -: this host is the last with the CA key: without it nobody can join any more',
  ]);
  assert.deepEqual(engine.cluster.calls, []);
  assert.deepEqual(await ask('DELETE /v1/cluster', { query: { force: 'true' } }), {
    member: false,
  });
  engine.cluster.list = [SELF, member('b', 'web2', { signer: true })];
  assert.deepEqual(await ask('DELETE /v1/cluster'), { member: false });
  assert.deepEqual(engine.cluster.calls, [['leave'], ['leave']]);
});

test('a signer is the last if all others are dead or gone, and only if somebody stays behind', () => {
  const other = (more: Partial<MemberAnswer>): MemberAnswer => member('b', 'web2', more);
  const cases: readonly (readonly [readonly MemberAnswer[], boolean])[] = [
    [[SELF], false],
    [[SELF, other({ state: 'left' })], false],
    [[SELF, other({})], true],
    [[SELF, other({ state: 'suspect', signer: true })], false],
    [[SELF, other({ state: 'unknown', signer: true })], false],
    [[SELF, other({ state: 'dead', signer: true })], true],
    [[{ ...SELF, signer: false }, other({})], false],
    [[], false],
  ];
  for (const [index, [members, expected]] of cases.entries())
    assert.equal(isLastSigner(members), expected, `case ${index}`);
});

test('a name that two members have names neither, unless one of them left', () => {
  const old = member('b', 'web2', { state: 'dead' });
  const young = member('c', 'web2');
  assert.throws(
    () => findMember([SELF, old, young], 'web2'),
    (error) =>
      error instanceof ProblemError &&
      error.problems[0]?.hint ===
        `say which by its id: ${nodeId('b')} (dead), ${nodeId('c')} (alive)`,
  );
  assert.equal(findMember([SELF, { ...old, state: 'left' }, young], 'web2'), young);
  const left = { ...old, state: 'left' as const };
  assert.equal(findMember([SELF, left], 'web2'), left);
  assert.throws(() => findMember([SELF, old], 'wbe2'), /there is no member "wbe2"/);
});
