/** The paths of access control; as routes.ts. */
import { unknownAcl } from '../state/acl-commands.ts';
import { aclBody } from '../state/acl-validate.ts';
import { aclDocument } from '../state/export.ts';
import { ProblemError } from '../state/problem.ts';
import type { AclRecord } from '../state/records.ts';
import * as a from './acl-schemas.ts';
import type { Engine } from './engine.ts';
import { route, submit, type Route } from './route.ts';
import * as s from './schemas.ts';

/** As many as a screen shows. */
const LOG_LIMIT = 100;

function aclOf(engine: Engine, record: AclRecord): a.AclShowAnswer['acl'] {
  const { name, to, from = [], action } = aclDocument(record);
  return {
    name,
    to,
    from: from.map((item) => ({ ...item })),
    action,
    counters: engine.acls.counters(name),
    warnings: [...engine.acls.warnings(name)],
  };
}

export const ACLS: readonly Route[] = [
  route('GET', '/v1/acls', {
    summary: 'All rules, with what each did',
    params: s.noParams,
    query: s.noQuery,
    answer: a.aclListAnswer,
    handle: (engine): a.AclListAnswer => {
      const { revision, acls } = engine.snapshot();
      const records = [...acls.values()].toSorted((x, y) => (x.name < y.name ? -1 : 1));
      return {
        revision,
        defaultAction: engine.acls.status().defaultAction,
        deniedByDefault: engine.acls.deniedByDefault(),
        acls: records.map((record) => aclOf(engine, record)),
      };
    },
  }),
  route('GET', '/v1/acls/{name}', {
    summary: 'One rule',
    params: a.aclParams,
    query: s.noQuery,
    answer: a.aclShowAnswer,
    handle: (engine, { params }): a.AclShowAnswer => {
      const { revision, acls } = engine.snapshot();
      const record = acls.get(params.name);
      if (record === undefined) throw new ProblemError([unknownAcl(acls.keys(), params.name)]);
      return { revision, acl: aclOf(engine, record) };
    },
  }),
  route('PUT', '/v1/acls/{name}', {
    summary: 'Make the rule exactly this; it is in force when the answer comes',
    params: a.aclParams,
    query: s.dryRunQuery,
    body: aclBody,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query, body }) =>
      submit(engine, { kind: 'put-acl', acl: { ...body, name: params.name } }, query.dryRun),
  }),
  route('DELETE', '/v1/acls/{name}', {
    summary: 'Remove the rule',
    params: a.aclParams,
    query: s.dryRunQuery,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query }) =>
      submit(engine, { kind: 'remove-acl', name: params.name }, query.dryRun),
  }),
  route('POST', '/v1/acl-test', {
    summary: 'Who may talk to whom, rule by rule, without sending anything',
    params: s.noParams,
    query: s.noQuery,
    body: a.aclTestBody,
    answer: a.aclTestAnswer,
    handle: (engine, { body }) => engine.acls.test(body),
  }),
  route('GET', '/v1/acl-log', {
    summary:
      'The last verdicts that denied or audited; with follow=true a stream of JSON lines (application/x-ndjson) that goes on',
    params: s.noParams,
    query: a.aclLogQuery,
    answer: a.aclLogAnswer,
    handle: (engine, { query }) => engine.acls.log(query.limit ?? LOG_LIMIT, query.rule),
    stream: (engine, { query }, sink) => {
      if (!query.follow) return undefined;
      const { rule } = query;
      for (const entry of engine.acls.log(query.limit ?? 0, rule).entries) sink(entry);
      return engine.acls.follow({
        entry: (entry) => {
          if (rule === undefined || entry.rule === rule) sink(entry);
        },
        dropped: (dropped) => sink({ dropped }),
      });
    },
  }),
];
