import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadConfig, loadServicesDir, readDocuments } from '../../../src/config/io/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { parseServices, parseYaml, splitPath } from '../../../src/config/yaml.ts';
import { formatCidr } from '../../../src/net/cidr.ts';
import { ProblemError } from '../../../src/state/problem.ts';

const directory = mkdtempSync(join(tmpdir(), 'zerohop-config-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'zerohop.yaml');

function load(
  text: string | undefined,
  overrides: Parameters<typeof loadConfig>[0]['overrides'] = {},
): Config {
  rmSync(path, { force: true });
  if (text !== undefined) writeFileSync(path, text);
  return loadConfig({ path, required: false, overrides });
}

function complaints(work: () => unknown): string[] {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    return error.problems.map(
      (p) => `${p.path ?? '-'}: ${p.message}${p.hint === undefined ? '' : ` | ${p.hint}`}`,
    );
  }
  return assert.fail('accepted');
}

test('a host without a configuration has every default', () => {
  const config = load(undefined);
  assert.equal(config.socketPath, '/run/zerohop/agent.sock');
  assert.deepEqual(config.maps, {
    services: 65_536,
    backends: 131_072,
    slots: 524_288,
    sockets: 65_536,
    socketsSpilled: 16_384,
    aclRules: 16_384,
    aclEntries: 262_144,
    aclCgroups: 8192,
    aclGlobs: 32_768,
    dnsNames: 16_384,
  });
  assert.deepEqual(config.acl, { enforcement: 'auto', defaultAction: 'allow' });
  assert.deepEqual(config.cluster, {
    listen: { host: '::', port: 7946 },
    advertise: undefined,
    zone: '',
  });
  const { allow, forward, ...dns } = config.dns;
  assert.deepEqual(dns, {
    enabled: true,
    listen: [{ host: '127.0.0.55', port: 53 }],
    domain: 'zerohop.internal',
    ttl: 5,
    negativeTtl: 1,
    udpSizeMax: 1232,
    timeoutMs: 2000,
    maxConcurrent: 1000,
    cacheBytes: 16_777_216,
    staleSeconds: 86_400,
    kernel: true,
    order: 'fastest',
  });
  assert.deepEqual(allow.map(formatCidr), ['127.0.0.0/8', '::1/128']);
  assert.equal(forward.size, 0);
  assert.equal(config.vipCidr4.prefixLength, 4);
  assert.equal(config.servicesDir, join(directory, 'services.d'));
  assert.deepEqual(load(''), config);
  assert.deepEqual(load('# nothing\n'), config);
});

test('a file changes some knobs, options win over it', () => {
  const config = load('dataDir: /data\nlogLevel: debug\nmaps:\n  services: 100\n', {
    logLevel: 'warn',
    socketPath: undefined,
  });
  assert.equal(config.dataDir, '/data');
  assert.equal(config.logLevel, 'warn');
  assert.equal(config.maps.services, 100);
  assert.equal(config.maps.backends, 131_072);
});

test('an option for one knob of the cluster leaves the others of the file as they are', () => {
  const text = 'cluster: {listen: 10.0.0.7, zone: east, name: web1}\n';
  const config = load(text, { cluster: { zone: 'west', name: undefined, listen: undefined } });
  const listen = { host: '10.0.0.7', port: 7946 };
  assert.deepEqual(config.cluster, { listen, advertise: undefined, zone: 'west', name: 'web1' });
  assert.equal(load(undefined, { cluster: { zone: 'west' } }).cluster.zone, 'west');
  assert.deepEqual(
    complaints(() => load(text, { cluster: { zone: 'far away' } })),
    ['cluster.zone: cluster.zone "far away" is not 0–32 of letters, digits, ".", "_" and "-"'],
  );
  assert.deepEqual(
    complaints(() => load('cluster: east\n', { cluster: { zone: 'west' } })),
    [`${path}:1:1 (cluster): "east" is not an object with fields`],
  );
});

test('where the cluster listens, and what others dial, is an IP with or without a port', () => {
  const addresses = (text: string): unknown => {
    const { listen, advertise } = load(`cluster: {${text}}`).cluster;
    return [listen.host, listen.port, advertise];
  };
  for (const [text, expected] of [
    ["listen: '10.0.0.7:7000'", ['10.0.0.7', 7000, undefined]],
    ["listen: '[FD00::7]:7000', advertise: 192.0.2.1", ['fd00::7', 7000, '192.0.2.1:7000']],
    ["advertise: 'fd00::7'", ['::', 7946, '[fd00::7]:7946']],
    ["advertise: '[fd00::7]'", ['::', 7946, '[fd00::7]:7946']],
    ["listen: '0.0.0.0:7000', advertise: '[fd00::7]:80'", ['0.0.0.0', 7000, '[fd00::7]:80']],
  ] as const) {
    assert.deepEqual(addresses(text), expected, text);
  }
});

test('metrics are served over TCP only where the file says so', () => {
  assert.deepEqual(load('').metrics, {});
  assert.deepEqual(load('metrics: {}').metrics, {});
  for (const [text, host, port] of [
    ["'127.0.0.1:9100'", '127.0.0.1', 9100],
    ['127.0.0.1', '127.0.0.1', 9477],
    ["'[::]:9100'", '::', 9100],
  ] as const)
    assert.deepEqual(load(`metrics: {listen: ${text}}`).metrics, { listen: { host, port } });
});

test('the resolver listens, forwards and is open where the file says', () => {
  const { dns } = load(`
dns:
  listen: [127.0.0.1, '[::1]:5353']
  domain: Corp.Example.
  upstreams: [192.0.2.1, '[2001:db8::53]:5300']
  forward:
    Lab.Example.: [10.0.0.2]
    __proto__: ['10.0.0.3:54']
    corp.example: {servers: [10.0.0.4], order: strict}
    b.example: {servers: [10.0.0.5]}
  order: strict
  allow: [10.0.0.0/8]
  kernel: false
`);
  assert.deepEqual(dns.listen, [
    { host: '127.0.0.1', port: 53 },
    { host: '::1', port: 5353 },
  ]);
  assert.equal(dns.domain, 'corp.example');
  assert.deepEqual(dns.upstreams, [
    { host: '192.0.2.1', port: 53 },
    { host: '2001:db8::53', port: 5300 },
  ]);
  assert.deepEqual(
    [...dns.forward],
    [
      ['lab.example', { servers: [{ host: '10.0.0.2', port: 53 }] }],
      ['__proto__', { servers: [{ host: '10.0.0.3', port: 54 }] }],
      ['corp.example', { servers: [{ host: '10.0.0.4', port: 53 }], order: 'strict' }],
      ['b.example', { servers: [{ host: '10.0.0.5', port: 53 }] }],
    ],
  );
  assert.equal(dns.order, 'strict');
  assert.deepEqual([dns.allow.map(formatCidr), dns.kernel], [['10.0.0.0/8'], false]);
  const merged = load('dns: {kernel: false}', { dns: { enabled: false } }).dns;
  assert.deepEqual([merged.enabled, merged.kernel], [false, false]);
});

test('what the resolver cannot do with is told by its knob', () => {
  for (const [text, complaint] of [
    ['listen: 127.0.0.1', 'dns.listen): dns.listen is not a list'],
    ['listen: []', 'dns.listen is empty: `enabled: false` turns the resolver off'],
    ['listen: [localhost]', 'dns.listen "localhost" is not an IP address with or without a port'],
    ['domain: a..b', 'dns.domain "a..b" is no domain name: a label is empty'],
    [`domain: ${'a.'.repeat(60)}b`, 'it is longer than 100 bytes'],
    ['upstreams: [dns.example]', 'dns.upstreams "dns.example" is not an IP address'],
    ['forward: [a]', 'dns.forward is not a map of zones'],
    ['forward: {corp.example: 10.0.0.1}', 'dns.forward of corp.example is not a list'],
    ['forward: {a.b: {servers: 1}}', 'dns.forward of a.b: servers is not a list'],
    [
      'forward: {a.b: {servers: [10.0.0.1], order: first}}',
      'dns.forward of a.b: order "first" is neither fastest nor strict',
    ],
    ['forward: {a.b: {servers: [10.0.0.1], strict: 1}}', 'unknown field "strict"'],
    ['order: 1', 'dns.order 1 is neither fastest nor strict'],
    ['forward: {a.b: [10.0.0.1], A.b.: [10.0.0.2]}', 'zone a.b is there twice'],
    ['forward: {a b: [10.0.0.1]}', 'zone "a b" is no domain name'],
    ['allow: [10.0.0.1/8]', 'dns.allow "10.0.0.1/8" has bits after its prefix'],
    ['timeoutMs: 50', 'dns.timeoutMs 50 is not a whole number in 100–10000'],
    ['udpSizeMax: 511', 'dns.udpSizeMax 511 is not a whole number in 512–4096'],
    ["kernel: 'no'", 'dns.kernel "no" is neither true nor false'],
    ['listens: []', 'unknown field "listens" | did you mean "listen"?'],
  ] as const) {
    const told = complaints(() => load(`dns: {${text}}\n`)).join('\n');
    assert.ok(told.includes(complaint), `${text}: ${told}`);
    assert.ok(told.startsWith(`${path}:1:`), told);
  }
});

test('a configuration file that was named must exist', () => {
  const missing = join(directory, 'none.yaml');
  assert.match(
    complaints(() => loadConfig({ path: missing, required: true, overrides: {} })).join(),
    /none\.yaml cannot be read/,
  );
});

test('an unknown knob is told with file, line and column, and guessed', () => {
  assert.deepEqual(
    complaints(() => load('logLevel: info\nmaps:\n  servces: 5\n')),
    [`${path}:3:3 (maps.servces): unknown field "servces" | did you mean "services"?`],
  );
});

test('malformed values are told with what they should be', () => {
  for (const [text, expected] of [
    ['logLevel: loud', /1:1 \(logLevel\): logLevel "loud" is none of trace, debug/],
    ['maps: {sockets: 1000}', /1:8 \(maps\.sockets\): maps\.sockets is not a power of two/],
    ['maps: {services: 0}', /maps\.services 0 is not a whole number in 16–16777216/],
    [
      'vipCidr4: 10.0.0.1/8',
      /vipCidr4 "10\.0\.0\.1\/8" has bits after its prefix: write 10\.0\.0\.0\/8/,
    ],
    ['vipCidr4: fd00::/64', /is not an IPv4 block/],
    ['vipPrefix6: fd00::/48', /is not an IPv6 \/64/],
    ['dataDir: data', /dataDir "data" is not an absolute path/],
    [`socketPath: /${'a'.repeat(107)}`, /longer than the 107 bytes/],
    ['fullCheckIntervalMs: 1s', /fullCheckIntervalMs "1s" is not a whole number/],
    ['cluster: {listen: web1:7946}', /cluster\.listen "web1:7946" is not an IP address with or w/],
    ["cluster: {listen: '10.0.0.7:70000'}", /cluster\.listen "10\.0\.0\.7:70000" is not an IP/],
    ['cluster: {listen: 7946}', /cluster\.listen 7946 is not text/],
    ["cluster: {advertise: '[::]:80'}", /cluster\.advertise ::: it is the unspecified address/],
    ['cluster: {advertise: 224.0.0.1}', /cluster\.advertise 224\.0\.0\.1: it is a multicast/],
    ['cluster: {zone: a b}', /cluster\.zone "a b" is not 0–32 of letters/],
    [`cluster: {zone: ${'z'.repeat(33)}}`, /cluster\.zone .* is not 0–32/],
    ["cluster: {name: ''}", /cluster\.name "" is not 1–64 of letters/],
    ['cluster: {port: 1}', /1:11 \(cluster\.port\): unknown field "port"/],
    ["metrics: {listen: ':9477'}", /metrics\.listen ":9477" is not an IP address/],
    ['metrics: 9477', /metrics\): 9477 is not an object with fields/],
    ['- a', /a configuration is a map of knobs/],
    ['a: 1\n---\nb: 1', /one YAML document/],
    ['dataDir: /a\ndataDir: /b', /2:1.*unique/],
    ['dataDir: [', /YAML/],
  ] as const) {
    assert.match(complaints(() => load(text)).join('\n'), expected, text);
  }
});

test('paths of problems are split and found again in a file', () => {
  assert.deepEqual(splitPath('documents[1].ports[0].port'), ['documents', 1, 'ports', 0, 'port']);
  const file = parseYaml('kind: a\n---\nports:\n  - port: 5\n    name: x\n', 'f.yaml');
  assert.deepEqual(file.values, [{ kind: 'a' }, { ports: [{ port: 5, name: 'x' }] }]);
  assert.equal(file.locate(1, 'ports[0].name'), 'f.yaml:5:5');
  assert.equal(file.locate(1, 'ports[0].nothing'), 'f.yaml:4:5');
  assert.equal(file.locate(1, ''), 'f.yaml:3:1');
});

test('a file that multiplies itself by aliases is refused', () => {
  const lines = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 9; i++)
    lines.push(
      `b${i}: &b${i} [${Array.from({ length: 9 }, () => (i === 1 ? '*a' : `*b${i - 1}`)).join()}]`,
    );
  const { problems, values } = parseYaml(lines.join('\n'), 'bomb.yaml');
  assert.deepEqual(values, []);
  assert.match(problems[0]?.message ?? '', /[Aa]lias/);
});

test('services.d is read in order, and a bad file spoils no other', () => {
  const dir = join(directory, 'services.d');
  mkdirSync(dir);
  writeFileSync(join(dir, '20-b.yaml'), 'kind: service\nname: b\nports: [{port: 1}]\n');
  writeFileSync(join(dir, '10-a.yml'), 'kind: service\nname: a\nports:\n  - prot: 1\n');
  writeFileSync(join(dir, '.hidden.yaml'), 'x');
  writeFileSync(join(dir, 'notes.txt'), 'x');
  const { files, problems } = loadServicesDir(dir);
  assert.deepEqual(
    files.map((file) => [file.path, file.documents.length]),
    [[join(dir, '20-b.yaml'), 1]],
  );
  assert.deepEqual(
    problems.map((p) => p.path),
    [
      `${join(dir, '10-a.yml')}:4:5 (ports[0].port)`,
      `${join(dir, '10-a.yml')}:4:5 (ports[0].prot)`,
    ],
  );
  assert.deepEqual(loadServicesDir(join(directory, 'absent')), { files: [], problems: [] });
});

test('problems found later are told by the place in the file too', () => {
  const file = readDocuments('kind: backend\nservice: web\naddress: 10.0.0.1:1\n', 'b.yaml');
  const [problem] = file.locate([
    { code: 'not-found', message: 'x', path: 'documents[0].service' },
  ]);
  assert.equal(problem?.path, 'b.yaml:2:1 (service)');
});

test('what export --json prints is read as documents, and a mistake in it is found by its line', () => {
  const text =
    '{\n  "revision": 7,\n  "documents": [\n    {"kind": "a"},\n    {"kind": "b",\n     "ports": [{"port": 5}]}\n  ]\n}\n';
  const file = parseServices(text, 'x.json');
  assert.deepEqual(file.values, [{ kind: 'a' }, { kind: 'b', ports: [{ port: 5 }] }]);
  assert.match(file.locate(1, 'ports[0].port'), /^x\.json:6:/);
  assert.deepEqual(parseServices('{kind: a}', 'y.yaml').values, [{ kind: 'a' }]);
  assert.deepEqual(parseServices('{"kind": "a"}', 'z.json').values, [{ kind: 'a' }]);
});
