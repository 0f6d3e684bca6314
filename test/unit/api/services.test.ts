/** What GET /v1/services and /v1/backends answer, beside what is recorded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROUTES } from '../../../src/api/routes.ts';
import type {
  BackendListAnswer,
  ServiceAnswer,
  ServiceListAnswer,
} from '../../../src/api/schemas.ts';
import { FakeEngine } from './fake-engine.ts';
import { shareWeb } from './shared-web.ts';

/** Checked against its schema, which must know every field. */
async function get(
  engine: FakeEngine,
  path: string,
  params: Record<string, string> = {},
  query: Record<string, string> = {},
): Promise<unknown> {
  const found = ROUTES.find((one) => one.method === 'GET' && one.path === path);
  assert.ok(found !== undefined, path);
  const answer = await found.run(engine, { params, query, body: undefined });
  assert.deepEqual(found.answer.parse(answer), answer);
  return answer;
}

function shared(): FakeEngine {
  const engine = new FakeEngine();
  shareWeb(engine);
  return engine;
}

test('a list of services has the VIPs that they have here, and counts who is given connections', async () => {
  const engine = shared();
  const { services } = (await get(engine, '/v1/services')) as ServiceListAnswer;
  const [web, web2] = services;
  assert.deepEqual(web?.vips, ['252.0.0.1']);
  assert.deepEqual(web.backends, { total: 6, usable: 2, draining: 1 });
  const { vips = [] } = web2 ?? {};
  assert.deepEqual(vips, engine.catalog().services.get('web2')?.vips);
  assert.notDeepEqual(vips, ['252.0.0.1']);
  assert.equal(vips.length, 1);
});

test('a backend without a VIP of its family, of weight 0 or of a VIP that another service has is not usable', async () => {
  const engine = new FakeEngine();
  const http = { name: 'http', port: 80, protocol: 'tcp' } as const;
  const at = (service: string, address: string, weight: number) =>
    ({
      kind: 'put-backend',
      backend: { service, portName: 'http', address, port: 80, weight, state: 'active' },
    }) as const;
  const vips = ['198.51.100.1']; // of no pool: the smaller name has the port
  engine.receive(
    { kind: 'put-service', service: { name: 'a', vips, ports: [http] } },
    { kind: 'put-service', service: { name: 'b', vips, ports: [http] } },
    at('a', '10.0.0.1', 1),
    at('a', '10.0.0.2', 0),
    at('a', 'fd00::1', 1),
    at('b', '10.0.0.1', 1),
  );
  const { services } = (await get(engine, '/v1/services')) as ServiceListAnswer;
  assert.deepEqual(
    services.map(({ backends }) => [backends.usable, backends.total]),
    [
      [1, 3],
      [0, 1],
    ],
  );
});

test('a service says of each backend whether it is down and why, and whose it is', async () => {
  const engine = shared();
  const answer = (await get(engine, '/v1/services/{name}', { name: 'web' })) as ServiceAnswer;
  const { backends, ports } = answer.service;
  assert.deepEqual(
    backends.map(({ address, port, down, elsewhere, node, nodeName }) => [
      `${address}:${port}`,
      down ?? (elsewhere === true ? 'elsewhere' : 'there'),
      node,
      nodeName,
    ]),
    [
      ['10.0.0.2:5353', 'there', 'n2', 'east2'],
      ['10.0.0.1:8080', 'there', undefined, undefined],
      ['10.0.0.2:8080', 'unreachable', 'n2', 'east2'],
      ['10.0.0.2:8081', 'unreachable', 'n2', 'east2'],
      ['10.0.0.3:8080', 'unhealthy', undefined, undefined],
      ['127.0.0.1:8080', 'elsewhere', 'n2', 'east2'],
    ],
  );
  assert.deepEqual(
    ports.map(({ name, failOpen }) => [name, failOpen]),
    [
      ['http', undefined],
      ['dns', true],
    ],
  );
  const listed = (await get(engine, '/v1/backends', {}, { service: 'web' })) as BackendListAnswer;
  assert.deepEqual(listed.backends, backends);
  assert.deepEqual(((await get(engine, '/v1/backends')) as BackendListAnswer).backends, backends);
});

test('a service that the catalog does not have yet is shown as it is recorded, and without anybody who serves', async () => {
  const engine = shared();
  const empty = new FakeEngine().catalog();
  engine.catalog = () => empty;
  const { services } = (await get(engine, '/v1/services')) as ServiceListAnswer;
  assert.deepEqual(
    services.map(({ vips, backends }) => [vips, backends.usable]),
    [
      [['252.0.0.1'], 0],
      [['252.0.0.1'], 0],
    ],
  );
});
