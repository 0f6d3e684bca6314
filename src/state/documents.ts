/**
 * Documents: what `apply` takes and `export` prints, one kind each of service,
 * backend, acl and record. Their fields are those of validate.ts and its like.
 */
import * as z from 'zod';
import { aclFields, aclName, aclRule } from './acl-validate.ts';
import { dnsFields, dnsRecord } from './dns-validate.ts';
import type { AclRecord, DnsRecord } from './records.ts';
import {
  backendFields,
  parse,
  serviceFields,
  serviceName,
  show,
  strict,
  targetOf,
  withVips,
  type BackendSpec,
  type Parsed,
  type ServiceSpec,
} from './validate.ts';

const serviceDocument = strict({
  kind: z.literal('service'),
  name: serviceName,
  ...serviceFields,
}).transform(withVips);
const backendDocument = strict({
  kind: z.literal('backend'),
  service: serviceName,
  ...backendFields,
}).transform((raw, ctx) => ({ ...raw, ...targetOf(raw, ctx) }));

const aclDocument = strict({
  kind: z.literal('acl'),
  name: aclName,
  ...aclFields,
}).transform(aclRule);

const recordDocument = strict({ kind: z.literal('record'), ...dnsFields }).transform(
  (raw, ctx) => ({
    kind: raw.kind,
    ...dnsRecord(raw, ctx),
  }),
);

export const document = z.discriminatedUnion(
  'kind',
  [serviceDocument, backendDocument, aclDocument, recordDocument],
  {
    error: (issue) => {
      const input: unknown = issue.input;
      const kind =
        typeof input === 'object' && input !== null && 'kind' in input ? input.kind : undefined;
      return kind === undefined
        ? 'kind is missing: service, backend, acl or record'
        : `kind ${show(kind)} is none of service, backend, acl, record`;
    },
  },
);
export type Document =
  | ({ readonly kind: 'service' } & ServiceSpec)
  | ({ readonly kind: 'backend'; readonly service: string } & BackendSpec)
  | ({ readonly kind: 'acl' } & AclRecord)
  | ({ readonly kind: 'record' } & DnsRecord);

/** Checks every document of a file or request body; `documents[i]` starts each path. */
export function parseDocuments(values: readonly unknown[]): Parsed<readonly Document[]> {
  const parsed = values.map((value, index) => parse(document, value, ['documents', index]));
  const problems = parsed.flatMap((result) => (result.ok ? [] : result.problems));
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, value: parsed.flatMap((result) => (result.ok ? [result.value] : [])) };
}
