/** The resolver and DNS records over HTTP. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  dnsQueryAnswer,
  dnsRecordListAnswer,
  dnsStatusAnswer,
  dnsZoneAnswer,
  type DnsRecordListAnswer,
  type DnsZoneAnswer,
} from '../../../src/api/dns-schemas.ts';
import { dnsOff } from '../../../src/dns/off.ts';
import { complaint, servedEngine } from './kit.ts';

const { engine, client } = servedEngine();

async function zone(query: Record<string, string> = {}): Promise<string[]> {
  const answer = await client.call<DnsZoneAnswer>('GET', '/v1/dns/zone', query);
  dnsZoneAnswer.parse(answer);
  return answer.entries.map(({ name, type, data }) => `${name} ${type} ${data}`);
}

async function records(): Promise<DnsRecordListAnswer['records']> {
  const answer = await client.call<DnsRecordListAnswer>('GET', '/v1/dns/records');
  dnsRecordListAnswer.parse(answer);
  return answer.records;
}

test('the zone is told whole, by type, or from a name downwards', async () => {
  const [v4, v6, host, hidden] = await zone();
  assert.deepEqual(await zone({ name: 'Web.zerohop.internal.' }), [v4, v6, hidden]);
  assert.deepEqual(await zone({ name: 'web.zerohop.internal', type: 'aaaa' }), [v6]);
  assert.deepEqual(await zone({ name: 'node.zerohop.internal' }), [host]);
  assert.deepEqual(await zone({ type: 'A' }), [v4, host, hidden]);
  assert.deepEqual(await zone({ type: 'ANY', name: '.' }), [v4, v6, host, hidden]);
  assert.deepEqual(await zone({ name: 'eb.zerohop.internal' }), []);
});

test('a question has a name and a type, A unless it is an address', async () => {
  for (const [body, name, type] of [
    [{ name: 'Web.zerohop.internal.' }, 'web.zerohop.internal', 'A'],
    [{ name: '.', type: 'ns' }, '', 'NS'],
    [{ name: 'a_b.example', type: 'Type64' }, 'a_b.example', 'TYPE64'],
    [{ name: '240.0.0.1' }, '1.0.0.240.in-addr.arpa', 'PTR'],
    [
      { name: 'fd00::12', type: 'PTR' },
      '2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa',
      'PTR',
    ],
    [{ name: '240.0.0.1', type: 'A' }, '240.0.0.1', 'A'],
  ] as const) {
    const answer = await client.call('POST', '/v1/dns/query', {}, body);
    assert.deepEqual(dnsQueryAnswer.parse(answer).question, { name, type });
    assert.deepEqual(engine.dns.questions.at(-1), { name, type });
  }
});

test('questions that make no sense are refused', async () => {
  const ask = (body: object): Promise<string> =>
    complaint(client.call('POST', '/v1/dns/query', {}, body));
  assert.equal(await ask({}), 'invalid name: name is missing');
  assert.match(await ask({ name: 'a..b' }), /name "a\.\.b" is malformed: a label is empty/);
  assert.match(await ask({ name: '' }), /a label is empty/);
  assert.match(await ask({ name: 'ä' }), /something else than visible ASCII, or a backslash/);
  assert.match(await ask({ name: 'a\\.b' }), /or a backslash/);
  assert.match(await ask({ name: `${'a'.repeat(64)}.b` }), /a label is longer than 63 bytes/);
  assert.match(await ask({ name: 'a.'.repeat(128) }), /it is longer than 253 bytes/);
  assert.match(
    await ask({ name: 'a', type: 'AXFR' }),
    /^invalid type: type "AXFR" is none of A, .*, nor a number like TYPE65$/,
  );
  assert.match(await ask({ name: 'a', type: 'TYPE65536' }), /nor a number/);
  assert.match(await ask({ name: 'a', class: 'CH' }), /unknown-field class: unknown field "class"/);
});

test('flushing forgets a name or everything', async () => {
  for (const [body, name] of [
    [{}, undefined],
    [{ name: 'Example.' }, 'example'],
    [{ name: '.' }, ''],
  ] as const) {
    const answer = await client.call('POST', '/v1/dns/flush', {}, body);
    assert.deepEqual([answer, engine.dns.flushed.at(-1)], [{ flushed: 2 }, name]);
  }
});

test('how the resolver stands is told by itself and with the agent', async () => {
  const answer = await client.call('GET', '/v1/dns/status');
  assert.deepEqual(dnsStatusAnswer.parse(answer), engine.dns.state);
  const status = await client.call<{ dns: unknown }>('GET', '/v1/status');
  assert.deepEqual(status.dns, engine.dns.state);
});

test('records are added, made so, listed and removed', async () => {
  const add = (body: object): Promise<unknown> => client.call('POST', '/v1/dns/records', {}, body);
  await add({ name: 'Mail.Example.', type: 'mx', data: '10 A.example' });
  await add({ name: 'mail.example', type: 'MX', data: ['20 b.example'], ttl: 60 });
  await client.call('PUT', '/v1/dns/records/MAIL.example/a', {}, { data: ['10.0.0.1'] });
  assert.deepEqual(await records(), [
    { name: 'mail.example', type: 'A', data: ['10.0.0.1'] },
    { name: 'mail.example', type: 'MX', ttl: 60, data: ['10 a.example', '20 b.example'] },
  ]);
  const dry = { dryRun: 'true' };
  const outcome = await client.call('DELETE', '/v1/dns/records/mail.example', dry);
  assert.deepEqual((outcome as { changes: unknown }).changes, [
    { action: 'remove', kind: 'record', name: 'mail.example A' },
    { action: 'remove', kind: 'record', name: 'mail.example MX' },
  ]);
  await client.call('DELETE', '/v1/dns/records/mail.example/MX');
  assert.deepEqual(
    (await records()).map(({ type }) => type),
    ['A'],
  );
  await client.call('DELETE', '/v1/dns/records/mail.example');
  assert.deepEqual(await records(), []);
  assert.equal(
    await complaint(client.call('DELETE', '/v1/dns/records/mail.example')),
    'not-found -: there is no record of "mail.example"',
  );
  assert.equal(
    await complaint(client.call('PUT', '/v1/dns/records/a.b/CNAME', {}, { data: ['a', 'b'] })),
    'invalid data: a name has one CNAME',
  );
});

test('a record that is hidden on this host says why', async () => {
  engine.receive({
    kind: 'put-record',
    record: { name: 'web.zerohop.internal', type: 'A', ttl: 60, data: ['192.0.2.1'] },
  });
  const [one] = await records();
  assert.equal(one?.hidden, 'the service web has this name');
});

test('a resolver that is off says so, and lists records all the same', async () => {
  const { dns } = engine;
  Object.assign(engine, { dns: dnsOff('zerohop.internal') });
  try {
    const off = 'unavailable -: the resolver is off';
    assert.equal(await complaint(client.call('GET', '/v1/dns/zone')), off);
    assert.equal(await complaint(client.call('POST', '/v1/dns/flush', {}, {})), off);
    assert.equal(await complaint(client.call('POST', '/v1/dns/query', {}, { name: 'a' })), off);
    const status = dnsStatusAnswer.parse(await client.call('GET', '/v1/dns/status'));
    assert.equal(status.enabled, false);
    const [one] = await records();
    assert.equal(one?.hidden, undefined);
  } finally {
    Object.assign(engine, { dns });
  }
});
