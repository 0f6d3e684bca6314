/**
 * What a command does to DNS records, and which of them may stand beside each
 * other and beside services. What comes from other hosts is not judged here: the
 * zone (src/dns/zone.ts) gives what goes first, and tells what is hidden.
 */
import { recordKey } from './changes.ts';
import { DNS_DATA_MAX } from './dns-validate.ts';
import type { Document } from './documents.ts';
import type { Draft } from './draft.ts';
import type { Problem } from './problem.ts';
import { DNS_TYPES, type DnsRecord, type DnsType, type ServiceRecord } from './records.ts';
import { didYouMean } from './suggest.ts';

/** Of all names and types; a guess: ten for each of 1,000 services. */
export const DNS_RECORDS_MAX = 10_000;

/** Types that say where a name is: at a service's name that is the service's to say. */
const WHERE: readonly DnsType[] = ['A', 'AAAA', 'CNAME'];
/** And what a service's ports are. */
const WHICH: readonly DnsType[] = ['SRV', 'CNAME'];

interface DnsWork {
  readonly draft: Draft;
  /** What names of services end in. */
  readonly domain: string;
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

/** What a service says by itself: its name and those below it, and the types that are not for others there. */
function namesOf(
  { name, ports }: Pick<ServiceRecord, 'name' | 'ports'>,
  domain: string,
): readonly (readonly [name: string, types: readonly DnsType[]])[] {
  const whole = `${name}.${domain}`;
  return [
    [whole, WHERE],
    [`backends.${whole}`, WHERE],
    ...ports.map((port) => [`_${port.name}._${port.protocol}.${whole}`, WHICH] as const),
  ];
}

/** Services that may say something about a name: two at most. */
function servicesNear(name: string, domain: string): readonly string[] {
  if (!name.endsWith(`.${domain}`)) return [];
  const inside = name.slice(0, -(domain.length + 1));
  const below = /^(?:backends|_[^.]+\._(?:tcp|udp))\.(.+)$/.exec(inside)?.[1];
  return below === undefined ? [inside] : [inside, below];
}

/** Why nobody may give a name a record, as the end of a sentence. */
function whyReserved(name: string, type: DnsType, domain: string): string | undefined {
  if (name === domain && type === 'CNAME') return 'is the zone itself, which has other records';
  for (const own of [`ready.${domain}`, `ns.${domain}`])
    if (name === own) return 'is answered by zerohop itself';
  for (const own of [`node.${domain}`, `addr.${domain}`])
    if (name === own || name.endsWith(`.${own}`)) return `is below ${own}, where hosts have theirs`;
  return undefined;
}

function unknownRecord(records: Iterable<DnsRecord>, name: string, type?: DnsType): Problem {
  const known = [...records];
  const there = known.filter((record) => record.name === name).map((record) => record.type);
  const hint =
    there.length > 0
      ? `it has ${there.join(', ')}`
      : didYouMean(
          name,
          known.map((record) => record.name),
          known.length === 0
            ? 'there is none yet: `zerohop dns record add` adds one'
            : '`zerohop dns record ls` shows them',
        );
  const what = type === undefined ? 'no record' : `no ${type} record`;
  return { code: 'not-found', message: `there is ${what} of "${name}"`, hint };
}

function same(a: DnsRecord | undefined, b: DnsRecord): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}

export class DnsCommands {
  readonly #work: DnsWork;
  /** Records written by this command, by key, and where they were. */
  readonly #put = new Map<string, string>();

  constructor(work: DnsWork) {
    this.#work = work;
  }

  put(record: DnsRecord, path: string): void {
    this.#put.set(recordKey(record), path);
    this.#work.draft.putRecord(record);
  }

  /** Beside what is there of this name and type. */
  add(record: DnsRecord): void {
    const before = this.#work.draft.record(record);
    if (before === undefined) return this.put(record, '');
    const { name, type } = record;
    const data = [...new Set([...before.data, ...record.data])];
    const ttl = record.ttl ?? before.ttl;
    const hint = '`zerohop dns record add --replace` puts others in the place of those it has';
    if (type === 'CNAME' && data.length > 1) {
      const message = `"${name}" has a CNAME already, to ${before.data.join()}: a name has one`;
      this.#refuse('conflict', '', message, hint);
    } else if (data.length > DNS_DATA_MAX) {
      const message = `"${name}" would have ${data.length} ${type} records of at most ${DNS_DATA_MAX}`;
      this.#refuse('limit', 'data', message, hint);
    } else {
      this.put({ name, type, ...(ttl === undefined ? {} : { ttl }), data }, '');
    }
  }

  /** Of one type, or all that a name has. */
  remove(name: string, type: DnsType | undefined): void {
    const { draft, problems } = this.#work;
    const types = (type === undefined ? DNS_TYPES : [type]).filter(
      (one) => draft.record({ name, type: one }) !== undefined,
    );
    if (types.length === 0) problems.push(unknownRecord(draft.records(), name, type));
    for (const one of types) draft.removeRecord({ name, type: one });
  }

  apply(documents: readonly Document[]): void {
    const seen = new Map<string, number>();
    for (const [index, document] of documents.entries()) {
      if (document.kind !== 'record') continue;
      const { kind: _, ...record } = document;
      const key = recordKey(record);
      const first = seen.get(key);
      const path = `documents[${index}]`;
      if (first === undefined) {
        seen.set(key, index);
        this.put(record, path);
      } else {
        const message = `record "${key}" is described twice`;
        this.#refuse('conflict', `${path}.name`, message, `first in documents[${first}]`);
      }
    }
  }

  /** When all is written: what is new or different must fit to the rest, as far as it is new. */
  check(before: {
    readonly services: ReadonlyMap<string, ServiceRecord>;
    readonly records: ReadonlyMap<string, DnsRecord>;
  }): void {
    const { draft } = this.#work;
    let isMore = false;
    for (const [key, path] of this.#put) {
      const was = before.records.get(key);
      const record = draft.writtenRecord(key);
      if (record === undefined || same(was, record)) continue;
      isMore ||= was === undefined;
      this.#checkRecord(record, path);
    }
    if (isMore) this.#checkCount();
    for (const name of draft.writtenServices()) {
      const service = draft.service(name);
      if (service !== undefined) this.#checkService(service, before.services.get(name));
    }
  }

  #checkRecord(record: DnsRecord, path: string): void {
    const { draft, domain, warnings } = this.#work;
    const { name, type } = record;
    const field = path === '' ? 'name' : `${path}.name`;
    const reserved = whyReserved(name, type, domain);
    if (reserved !== undefined) {
      this.#refuse('conflict', field, `"${name}" ${reserved}`, 'give the record another name');
    }
    for (const service of servicesNear(name, domain)) {
      const there = draft.service(service);
      if (there !== undefined) this.#refuseBeside(there, record, field);
    }
    const others = DNS_TYPES.filter(
      (one) => one !== type && draft.record({ name, type: one }) !== undefined,
    );
    if (others.length > 0 && (type === 'CNAME' || others.includes('CNAME'))) {
      const [has, wanted] = type === 'CNAME' ? [others.join(', '), 'CNAME'] : ['CNAME', type];
      const message = `"${name}" cannot have ${wanted} beside ${has}: a CNAME stands alone`;
      const hint = `\`zerohop dns record rm ${name} ${others[0] ?? ''}\` removes what is there`;
      this.#refuse('conflict', field, message, hint);
    }
    if (!name.includes('.')) {
      warnings.push({
        code: 'invalid',
        message: `"${name}" is taken as the whole name of the record`,
        path: field,
        hint: `in the cluster's zone it would be ${name}.${domain}`,
      });
    }
  }

  #refuseBeside(service: ServiceRecord, { name, type }: DnsRecord, field: string): void {
    const own = namesOf(service, this.#work.domain).find(([one]) => one === name);
    if (own?.[1].includes(type) !== true) return;
    const message = `"${name}" cannot have ${type} of its own: service "${service.name}" answers for that name`;
    this.#refuse('conflict', field, message, 'give the record another name, or rename the service');
  }

  /** Names that a service did not have before, and that have such a record. */
  #checkService(service: ServiceRecord, before: ServiceRecord | undefined): void {
    const { draft, domain } = this.#work;
    const had = new Set(before && namesOf(before, domain).map(([name]) => name));
    for (const [name, types] of namesOf(service, domain)) {
      if (had.has(name)) continue;
      for (const type of types) {
        const record = draft.record({ name, type });
        // One that is written with the service was told of already.
        if (record === undefined || this.#put.has(recordKey(record))) continue;
        const message = `service "${service.name}" would answer for "${name}", which has a record ${type} ${record.data.join(', ')}`;
        const hint = `\`zerohop dns record rm ${name} ${type}\` removes it`;
        this.#refuse('conflict', '', message, hint);
      }
    }
  }

  #checkCount(): void {
    let count = 0;
    for (const _ of this.#work.draft.records()) count += 1;
    if (count <= DNS_RECORDS_MAX) return;
    const message = `${count} names and types have records: at most ${DNS_RECORDS_MAX} may`;
    const hint = 'a zone of that size is for a name server of its own: `dns.forward` asks it';
    this.#refuse('limit', '', message, hint);
  }

  #refuse(code: Problem['code'], path: string, message: string, hint: string): void {
    this.#work.problems.push({ code, message, ...(path === '' ? {} : { path }), hint });
  }
}
