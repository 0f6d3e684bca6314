/** Zones said in few words, and their answers as dns-packet, which is not ours, reads them. */
import assert from 'node:assert/strict';
import * as packet from 'dns-packet';
import { buildCatalog } from '../../../src/catalog/catalog.ts';
import { ALONE, type CatalogContext } from '../../../src/catalog/context.ts';
import { readQuery, type Query } from '../../../src/dns/query.ts';
import { resolve, type ResolveOptions, type Resolved } from '../../../src/dns/resolver.ts';
import { buildZone, type NodeFacts, type Zone, type ZoneSources } from '../../../src/dns/zone.ts';
import { applyChanges, EMPTY_SNAPSHOT } from '../../../src/state/changes.ts';
import type { Change, DnsType, Protocol } from '../../../src/state/records.ts';

export const DOMAIN = 'zerohop.internal';

interface ServiceWords {
  readonly vips?: readonly string[];
  /** `http=80/tcp` */
  readonly ports?: readonly string[];
  /** `http 10.0.0.1:8080`, with ` weight=5`, ` draining`. */
  readonly backends?: readonly string[];
}

export interface Words {
  readonly services?: Readonly<Record<string, ServiceWords>>;
  /** `NAME TYPE DATA`; several of one name and type become one record. */
  readonly records?: readonly string[];
  readonly nodes?: Readonly<Record<string, Partial<NodeFacts>>>;
  readonly unreachable?: readonly string[];
  readonly unhealthy?: readonly string[];
  readonly self?: Partial<NodeFacts>;
  readonly isReady?: boolean;
  readonly elsewhere?: readonly string[];
  readonly ttl?: number;
  readonly domain?: string;
}

const FACTS: NodeFacts = { name: 'box', zone: '', version: '0.1.0', addresses: [] };

function changesOf(name: string, { vips, ports = [], backends = [] }: ServiceWords): Change[] {
  const service = {
    name,
    vips: vips ?? ['240.0.0.1'],
    ports: ports.map((text) => {
      const [, portName = '', port, protocol] = /^(.+)=(\d+)\/(.+)$/.exec(text) ?? [];
      return { name: portName, port: Number(port), protocol: protocol as Protocol };
    }),
  };
  const backendChanges = backends.map((text): Change => {
    const [portName = '', endpoint = '', ...rest] = text.split(' ');
    const colon = endpoint.lastIndexOf(':');
    const weight = rest.find((word) => word.startsWith('weight='))?.slice('weight='.length);
    const backend = {
      service: name,
      portName,
      address: endpoint.slice(0, colon).replace(/^\[|\]$/g, ''),
      port: Number(endpoint.slice(colon + 1)),
      weight: Number(weight ?? 1),
      state: rest.includes('draining') ? ('draining' as const) : ('active' as const),
    };
    return { kind: 'put-backend', backend };
  });
  return [{ kind: 'put-service', service }, ...backendChanges];
}

function recordsOf(words: readonly string[]): ZoneSources['records'] {
  const records = new Map<string, { name: string; type: DnsType; ttl?: number; data: string[] }>();
  for (const text of words) {
    const [name = '', type = '', ...rest] = text.split(' ');
    const [, ttl] = /^ttl=(\d+)$/.exec(rest[0] ?? '') ?? [];
    const data = rest.slice(ttl === undefined ? 0 : 1).join(' ');
    const key = `${name} ${type}`;
    const record = records.get(key) ?? { name, type: type as DnsType, data: [] };
    if (ttl !== undefined) record.ttl = Number(ttl);
    record.data.push(data);
    records.set(key, record);
  }
  return records;
}

export function sourcesOf(words: Words): ZoneSources {
  const changes = Object.entries(words.services ?? {}).flatMap(([name, it]) => changesOf(name, it));
  const { snapshot } = applyChanges(EMPTY_SNAPSHOT, changes);
  const nodes = new Map(
    Object.entries(words.nodes ?? {}).map(([id, facts]) => [id, { ...FACTS, name: id, ...facts }]),
  );
  const context: CatalogContext = {
    ...ALONE,
    self: 'me',
    nodes,
    unreachable: new Set(words.unreachable),
    unhealthy: new Set(words.unhealthy),
  };
  return {
    domain: words.domain ?? DOMAIN,
    ttl: words.ttl ?? 5,
    negativeTtl: 1,
    catalog: buildCatalog(snapshot, context),
    self: { ...FACTS, id: 'me', ...words.self },
    nodes,
    unreachable: context.unreachable,
    records: recordsOf(words.records ?? []),
    pools: context.pools,
    elsewhere: words.elsewhere ?? [],
    isReady: words.isReady ?? true,
  };
}

export const zoneOf = (words: Words): Zone => buildZone(sourcesOf(words));

export const OPTIONS: ResolveOptions = {
  transport: 'udp',
  udpSizeMax: 1232,
  // Leaves what is shuffled in its order.
  random: () => 0,
  server: '127.0.0.55',
  isRecursionAllowed: true,
};

export interface Asking {
  /** The client's size; without it no EDNS. */
  readonly edns?: number;
  readonly isDnssecOk?: boolean;
  readonly flags?: number;
  readonly class?: packet.RecordClass;
}

/** The bytes that a client would send. */
export function question(name: string, type: string, asking: Asking = {}): Uint8Array {
  const { edns, isDnssecOk = false, flags = packet.RECURSION_DESIRED } = asking;
  const opt = {
    type: 'OPT' as const,
    name: '.',
    udpPayloadSize: edns,
    flags: isDnssecOk ? packet.DNSSEC_OK : 0,
    options: [],
  };
  return packet.encode({
    type: 'query',
    id: 0x1234,
    flags,
    questions: [{ name, type: type as packet.RecordType, class: asking.class ?? 'IN' }],
    additionals: edns === undefined ? [] : [opt as unknown as packet.OptAnswer],
  });
}

export function queryOf(bytes: Uint8Array): Query {
  const read = readQuery(bytes);
  assert.ok(read.ok, 'is a query');
  return read.query;
}

export interface Told {
  readonly rcode: string;
  readonly flags: string;
  /** `NAME TTL TYPE DATA` */
  readonly answers: readonly string[];
  readonly authorities: readonly string[];
  /** Without OPT. */
  readonly additionals: readonly string[];
  readonly opt: { readonly size: number; readonly isDnssecOk: boolean } | undefined;
  readonly bytes: number;
}

/** What is said in a record, as text. */
function dataText(record: packet.Answer): string {
  const data: unknown = 'data' in record ? record.data : undefined;
  if (typeof data === 'string') return data;
  if (Array.isArray(data)) return data.map(String).join('|');
  return Object.values(data as object).join(' ');
}

const FLAGS = {
  aa: packet.AUTHORITATIVE_ANSWER,
  tc: packet.TRUNCATED_RESPONSE,
  rd: packet.RECURSION_DESIRED,
  ra: packet.RECURSION_AVAILABLE,
  ad: packet.AUTHENTIC_DATA,
  cd: packet.CHECKING_DISABLED,
};

export function tell(bytes: Uint8Array): Told {
  const decoded = packet.decode(Buffer.from(bytes));
  const { answers = [], authorities = [], additionals = [], flags = 0 } = decoded;
  const text = (record: packet.Answer): string => {
    const ttl = 'ttl' in record ? record.ttl : undefined;
    return `${record.name} ${ttl} ${record.type} ${dataText(record)}`;
  };
  const opt = additionals.find((record) => record.type === 'OPT');
  assert.equal(decoded.type, 'response');
  return {
    rcode: (decoded as unknown as { rcode: string }).rcode,
    flags: Object.entries(FLAGS)
      .filter(([, bit]) => (flags & bit) !== 0)
      .map(([name]) => name)
      .join(' '),
    answers: answers.map(text),
    authorities: authorities.map(text),
    additionals: additionals.filter((record) => record.type !== 'OPT').map(text),
    opt: opt && { size: opt.udpPayloadSize, isDnssecOk: (opt.flags & packet.DNSSEC_OK) !== 0 },
    bytes: bytes.length,
  };
}

export function resolved(
  zone: Zone,
  name: string,
  type: string,
  asking: Asking & Partial<ResolveOptions> = {},
): Resolved {
  return resolve(zone, queryOf(question(name, type, asking)), { ...OPTIONS, ...asking });
}

/** What the zone says; it must be its own to say. */
export function ask(
  zone: Zone,
  name: string,
  type: string,
  asking: Asking & Partial<ResolveOptions> = {},
): Told {
  const answer = resolved(zone, name, type, asking);
  assert.equal(answer.kind, 'answer', `${name} ${type} is not forwarded`);
  return tell(answer.kind === 'answer' ? answer.bytes : new Uint8Array());
}

/** `NOERROR`, or the code, and what is said: for tables. */
export function brief(zone: Zone, name: string, type: string): string {
  const answer = resolved(zone, name, type);
  if (answer.kind === 'forward') return 'forwarded';
  const { rcode, answers, authorities } = tell(answer.bytes);
  const said = answers.map((text) => text.split(' ').slice(2).join(' ')).join(', ');
  if (answers.length > 0) return rcode === 'NOERROR' ? said : `${rcode} ${said}`;
  const soa = authorities.map((text) => text.split(' ')[0]).join(' ');
  return rcode === 'NOERROR' ? `nothing (${soa})` : `${rcode}${soa === '' ? '' : ` (${soa})`}`;
}
