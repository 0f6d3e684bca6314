/** The paths of the resolver: its zone, questions to it, records that people write; as routes.ts. */
import { dnsRecordBody, dnsRecordSpec } from '../state/dns-validate.ts';
import { recordsInOrder } from '../state/export.ts';
import { ProblemError } from '../state/problem.ts';
import type { DnsRecord } from '../state/records.ts';
import { parse } from '../state/validate.ts';
import * as d from './dns-schemas.ts';
import type { Engine } from './engine.ts';
import { route, submit, type Route } from './route.ts';
import * as s from './schemas.ts';

/** The zone, or what of it is at a name and below it, or of one type. */
function zoneOf(
  engine: Engine,
  name: string | undefined,
  type: string | undefined,
): d.DnsZoneAnswer {
  const { entries, ...zone } = engine.dns.zone();
  const isWanted = (entry: d.DnsZoneAnswer['entries'][number]): boolean =>
    (name === undefined || isWithin(entry.name, name)) &&
    (type === undefined || type === 'ANY' || entry.type === type);
  return { ...zone, entries: [...entries].filter(isWanted) };
}

function isWithin(name: string, above: string): boolean {
  return above === '' || name === above || name.endsWith(`.${above}`);
}

/** Records with why this host does not give them, where it does not. */
function recordsOf(engine: Engine): d.DnsRecordListAnswer {
  const snapshot = engine.snapshot();
  const reasons = new Map<string, string>();
  if (engine.dns.status().enabled)
    for (const { name, type, from, hidden } of engine.dns.zone().entries)
      if (from === 'record' && hidden !== undefined) reasons.set(`${name} ${type}`, hidden);
  const records = recordsInOrder(snapshot).map(({ data, ...record }) => {
    const hidden = reasons.get(`${record.name} ${record.type}`);
    return { ...record, data: [...data], ...(hidden === undefined ? {} : { hidden }) };
  });
  return { revision: snapshot.revision, records };
}

function recordIn(params: Pick<DnsRecord, 'name' | 'type'>, body: object): DnsRecord {
  const parsed = parse(dnsRecordSpec, { ...params, ...body });
  if (!parsed.ok) throw new ProblemError(parsed.problems);
  return parsed.value;
}

const RESOLVER: readonly Route[] = [
  route('GET', '/v1/dns/status', {
    summary: 'Where the resolver listens, whom it asks, what it keeps, what it counted',
    params: s.noParams,
    query: s.noQuery,
    answer: d.dnsStatusAnswer,
    handle: (engine) => engine.dns.status(),
  }),
  route('GET', '/v1/dns/zone', {
    summary:
      'All that this host answers by itself, and what is hidden by something else; with name that name and all below it',
    params: s.noParams,
    query: d.dnsZoneQuery,
    answer: d.dnsZoneAnswer,
    handle: (engine, { query }) => zoneOf(engine, query.name, query.type),
  }),
  route('POST', '/v1/dns/query', {
    summary:
      'What the resolver answers, where it has it from, and how long each upstream took; an address as name asks for its PTR',
    params: s.noParams,
    query: s.noQuery,
    body: d.dnsQueryBody,
    answer: d.dnsQueryAnswer,
    handle: (engine, { body }) => engine.dns.query(body),
  }),
  route('POST', '/v1/dns/flush', {
    summary: 'Forget what others answered: of a name and all below it, or everything',
    params: s.noParams,
    query: s.noQuery,
    body: d.dnsFlushBody,
    answer: d.dnsFlushAnswer,
    handle: (engine, { body }): d.DnsFlushAnswer => ({ flushed: engine.dns.flush(body.name) }),
  }),
];

const RECORDS: readonly Route[] = [
  route('GET', '/v1/dns/records', {
    summary: 'DNS records that people wrote',
    params: s.noParams,
    query: s.noQuery,
    answer: d.dnsRecordListAnswer,
    handle: recordsOf,
  }),
  route('POST', '/v1/dns/records', {
    summary: 'Add records of a type to those that a name has; answered by all hosts',
    status: 201,
    params: s.noParams,
    query: s.dryRunQuery,
    body: dnsRecordSpec,
    answer: s.outcomeAnswer,
    handle: (engine, { query, body }) =>
      submit(engine, { kind: 'add-record', record: body }, query.dryRun),
  }),
  route('PUT', '/v1/dns/records/{name}/{type}', {
    summary: 'Make the records of a name and type exactly these',
    params: d.dnsRecordParams,
    query: s.dryRunQuery,
    body: dnsRecordBody,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query, body }) =>
      submit(engine, { kind: 'put-record', record: recordIn(params, body) }, query.dryRun),
  }),
  route('DELETE', '/v1/dns/records/{name}', {
    summary: 'Remove all records of a name',
    params: d.dnsNameParams,
    query: s.dryRunQuery,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query }) =>
      submit(engine, { kind: 'remove-record', ...params }, query.dryRun),
  }),
  route('DELETE', '/v1/dns/records/{name}/{type}', {
    summary: 'Remove the records of a name and type',
    params: d.dnsRecordParams,
    query: s.dryRunQuery,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query }) =>
      submit(engine, { kind: 'remove-record', ...params }, query.dryRun),
  }),
];

export const DNS: readonly Route[] = [...RESOLVER, ...RECORDS];
