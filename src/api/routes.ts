/**
 * Every path of the API: what it takes, what it answers, what it does. Pure:
 * the server (io/server.ts) brings requests in and answers out.
 */
import * as z from 'zod';
import { ProblemError } from '../state/problem.ts';
import { exportDocuments } from '../state/export.ts';
import type { BackendOwner } from '../state/records.ts';
import { parseDocuments } from '../state/documents.ts';
import { serviceBody, serviceSpec } from '../state/validate.ts';
import { ACLS } from './acl-routes.ts';
import { CLUSTER } from './cluster-routes.ts';
import { DNS } from './dns-routes.ts';
import type { Engine } from './engine.ts';
import { KV } from './kv-routes.ts';
import { route, submit, type Route } from './route.ts';
import { listBackends, listServices, showService, type Seen } from './service-answers.ts';
import { METRICS_TYPE } from '../telemetry/metrics.ts';
import * as s from './schemas.ts';

/** 10,000 services × 10 backends are 4 MB. */
const APPLY_BYTES_MAX = 16 * 1024 * 1024;

function seenBy(engine: Engine): Seen {
  return { snapshot: engine.snapshot(), catalog: engine.catalog(), nodes: engine.nodes() };
}

function ownerOf(query: z.output<typeof s.backendRemovalQuery>): BackendOwner | undefined {
  const { ownerPid: pid, ownerStartTicks: startTicks, ownerBootId: id } = query;
  const given = [pid, startTicks, id].filter((value) => value !== undefined).length;
  if (pid !== undefined && startTicks !== undefined && id !== undefined) {
    return { pid, startTicks, bootId: id, command: '' };
  }
  if (given === 0) return undefined;
  throw new ProblemError([
    {
      code: 'invalid',
      message: 'ownerPid, ownerStartTicks and ownerBootId come together',
      path: 'ownerPid',
    },
  ]);
}

const SERVICES: readonly Route[] = [
  route('GET', '/v1/services', {
    summary: 'All services, with counts of their backends',
    params: s.noParams,
    query: s.noQuery,
    answer: s.serviceListAnswer,
    handle: (engine) => listServices(seenBy(engine)),
  }),
  route('POST', '/v1/services', {
    summary:
      'Add a service; a name that exists is a conflict. Without vips it is given one of each family',
    status: 201,
    params: s.noParams,
    query: s.dryRunQuery,
    body: serviceSpec,
    answer: s.outcomeAnswer,
    handle: (engine, { query, body }) =>
      submit(engine, { kind: 'add-service', service: body }, query.dryRun),
  }),
  route('GET', '/v1/services/{name}', {
    summary: 'One service with its backends',
    params: s.serviceParams,
    query: s.noQuery,
    answer: s.serviceAnswer,
    handle: (engine, { params }) => showService(seenBy(engine), params.name),
  }),
  route('PUT', '/v1/services/{name}', {
    summary:
      'Make the service exactly this. Without vips it keeps those it has, without backends too',
    params: s.serviceParams,
    query: s.dryRunQuery,
    body: serviceBody,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query, body }) =>
      submit(
        engine,
        { kind: 'put-service', service: { ...body, name: params.name } },
        query.dryRun,
      ),
  }),
  route('DELETE', '/v1/services/{name}', {
    summary: 'Remove the service and its backends',
    params: s.serviceParams,
    query: s.dryRunQuery,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query }) =>
      submit(engine, { kind: 'remove-service', name: params.name }, query.dryRun),
  }),
];

const BACKENDS: readonly Route[] = [
  route('GET', '/v1/backends', {
    summary: 'All backends, or those of one service',
    params: s.noParams,
    query: s.backendListQuery,
    answer: s.backendListAnswer,
    handle: (engine, { query }) => listBackends(seenBy(engine), query.service),
  }),
  route('PUT', '/v1/services/{name}/backends/{endpoint}', {
    summary:
      'Add the backend ADDR:PORT or make it exactly this; portName is needed if the service has several ports',
    params: s.backendParams,
    query: s.backendQuery,
    body: s.backendPutBody,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query, body }) => {
      const backend = { ...params.endpoint, ...body, portName: query.portName };
      return submit(engine, { kind: 'put-backend', service: params.name, backend }, query.dryRun);
    },
  }),
  route('PATCH', '/v1/services/{name}/backends/{endpoint}', {
    summary:
      'Change weight or state; state draining takes no new connections. Without portName: on every port it serves',
    params: s.backendParams,
    query: s.backendQuery,
    body: s.backendPatchBody,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query, body }) => {
      const backend = { service: params.name, portName: query.portName, ...params.endpoint };
      return submit(engine, { kind: 'change-backend', backend, ...body }, query.dryRun);
    },
  }),
  route('DELETE', '/v1/services/{name}/backends/{endpoint}', {
    summary:
      'Remove the backend. With ownerPid, ownerStartTicks and ownerBootId only if it still belongs to that process',
    params: s.backendParams,
    query: s.backendRemovalQuery,
    answer: s.outcomeAnswer,
    handle: (engine, { params, query }) => {
      const backend = { service: params.name, portName: query.portName, ...params.endpoint };
      return submit(
        engine,
        { kind: 'remove-backend', backend, owner: ownerOf(query) },
        query.dryRun,
      );
    },
  }),
];

const REST: readonly Route[] = [
  route('GET', '/v1/status', {
    summary: 'The agent: versions, places, datapath, fill of the maps',
    params: s.noParams,
    query: s.noQuery,
    answer: s.statusAnswer,
    handle: (engine) => engine.status(),
  }),
  route('GET', '/metrics', {
    summary: 'What Prometheus is told, in its text format',
    params: s.noParams,
    query: s.noQuery,
    answer: z.string(),
    contentType: METRICS_TYPE,
    handle: (engine) => engine.metrics(),
  }),
  route('POST', '/v1/apply', {
    summary: 'Make every document so, all or none; what no document names stays as it is',
    params: s.noParams,
    query: s.dryRunQuery,
    body: s.applyBody,
    bodyBytesMax: APPLY_BYTES_MAX,
    answer: s.outcomeAnswer,
    handle: (engine, { query, body }) => {
      const documents = parseDocuments(body.documents);
      if (!documents.ok) throw new ProblemError(documents.problems);
      return submit(engine, { kind: 'apply', documents: documents.value }, query.dryRun);
    },
  }),
  route('GET', '/v1/export', {
    summary:
      'All services, rules and DNS records as documents that /v1/apply takes; without the backends that belong to a process',
    params: s.noParams,
    query: s.noQuery,
    answer: s.exportAnswer,
    handle: (engine) => {
      const snapshot = engine.snapshot();
      return { revision: snapshot.revision, documents: exportDocuments(snapshot) };
    },
  }),
];

export const ROUTES: readonly Route[] = [
  ...REST,
  ...SERVICES,
  ...BACKENDS,
  ...ACLS,
  ...CLUSTER,
  ...KV,
  ...DNS,
];
