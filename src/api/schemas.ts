/**
 * What the API answers and takes beside documents, as zod schemas: the OpenAPI
 * description and the types of the client are made from them.
 */
import * as z from 'zod';
import { whyNoBackend } from '../net/classes.ts';
import { parseEndpoint, parseIp } from '../net/ip.ts';
import { aclStatusAnswer } from './acl-schemas.ts';
import { clusterAnswer } from './cluster-schemas.ts';
import { dnsStatusAnswer } from './dns-schemas.ts';
import {
  backendOwner,
  backendState,
  portName,
  protocol,
  serviceName,
  show,
  strict,
  weight,
} from '../state/validate.ts';
import { count, flag, textList } from './values.ts';

export const problemAnswer = z.object({
  code: z.string(),
  message: z.string(),
  path: z.string().optional(),
  hint: z.string().optional(),
});

export const errorAnswer = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    problems: z.array(problemAnswer),
  }),
});
export type ErrorAnswer = z.output<typeof errorAnswer>;

export const outcomeAnswer = z.object({
  revision: count,
  dryRun: z.boolean(),
  changes: z.array(
    z.object({
      action: z.enum(['create', 'update', 'remove']),
      kind: z.enum(['service', 'backend', 'acl', 'record']),
      name: z.string(),
    }),
  ),
  mapWrites: count,
  warnings: z.array(problemAnswer),
});
export type OutcomeAnswer = z.output<typeof outcomeAnswer>;

const servicePortAnswer = z.object({ name: z.string(), port: z.int(), protocol });

export const backendAnswer = z.object({
  service: z.string(),
  portName: z.string(),
  address: z.string(),
  port: z.int(),
  weight: z.int(),
  state: backendState,
  /** Whose process it is, if it is one's: a node id, `local` on a host that is in no cluster. */
  node: z.string().optional(),
  /** As that node calls itself. */
  nodeName: z.string().optional(),
  /** Why it takes no new connections, whatever its weight and state. */
  down: z.enum(['unreachable', 'unhealthy']).optional(),
  /** At a loopback address of another host: used there alone. */
  elsewhere: z.boolean().optional(),
  owner: z
    .object({ pid: z.int(), startTicks: z.int(), bootId: z.string(), command: z.string() })
    .optional(),
});
export type BackendAnswer = z.output<typeof backendAnswer>;

export const serviceListAnswer = z.object({
  revision: count,
  services: z.array(
    z.object({
      name: z.string(),
      /** Those that it has on this host, not those that are recorded, should another service have one of these. */
      vips: textList,
      ports: z.array(servicePortAnswer),
      /** usable: given connections to its VIPs by this host now. */
      backends: z.object({ total: count, usable: count, draining: count }),
    }),
  ),
});
export type ServiceListAnswer = z.output<typeof serviceListAnswer>;

export const serviceAnswer = z.object({
  revision: count,
  service: z.object({
    name: z.string(),
    vips: textList,
    ports: z.array(
      servicePortAnswer.extend({
        /** All backends of a VIP that would take connections are down: they get them all the same. */
        failOpen: z.boolean().optional(),
      }),
    ),
    backends: z.array(backendAnswer),
  }),
});
export type ServiceAnswer = z.output<typeof serviceAnswer>;

export const backendListAnswer = z.object({ revision: count, backends: z.array(backendAnswer) });
export type BackendListAnswer = z.output<typeof backendListAnswer>;

export const exportAnswer = z.object({
  revision: count,
  /** What POST /v1/apply takes. */
  documents: z.array(z.record(z.string(), z.unknown())),
});
export type ExportAnswer = z.output<typeof exportAnswer>;

export const statusAnswer = z.object({
  version: z.string(),
  pid: z.int(),
  startedAt: z.string(),
  revision: count,
  services: count,
  backends: count,
  node: z.string(),
  dataDir: z.string(),
  pinDir: z.string(),
  socketPath: z.string(),
  cgroupPath: z.string(),
  datapath: z.object({
    state: z.enum(['in-sync', 'degraded']),
    problem: z.string().optional(),
    appliedRevision: count,
    adoptedPins: z.boolean(),
    lastFullCheckAt: z.string().optional(),
    repairedEntries: count,
    counters: z.object({
      spilled: count,
      untracked: count,
      flowsEvicted: count,
      noSuchPort: count,
    }),
    attachments: z.array(
      z.object({ hook: z.string(), programId: z.int(), effective: z.boolean() }),
    ),
    maps: z.array(z.object({ name: z.string(), used: count, max: count, limit: z.string() })),
    degradedFeatures: textList,
  }),
  acl: aclStatusAnswer,
  cluster: clusterAnswer,
  dns: dnsStatusAnswer,
  store: z.object({ documents: z.number(), updates: z.number(), bytes: z.number() }),
  memory: z.object({ rssBytes: z.number(), heapUsedBytes: z.number() }),
});
export type StatusAnswer = z.output<typeof statusAnswer>;

export const noQuery = strict({});
export const dryRunQuery = strict({ dryRun: flag.default(false) });
export const backendListQuery = strict({ service: serviceName.optional() });
export const backendQuery = strict({ dryRun: flag.default(false), portName: portName.optional() });
export const backendRemovalQuery = strict({
  dryRun: flag.default(false),
  portName: portName.optional(),
  ownerPid: z
    .string()
    .regex(/^[0-9]{1,7}$/)
    .transform(Number)
    .optional(),
  ownerStartTicks: z
    .string()
    .regex(/^[0-9]{1,15}$/)
    .transform(Number)
    .optional(),
  ownerBootId: z.string().max(64).optional(),
});

export const noParams = strict({});
export const serviceParams = strict({ name: serviceName });
export const backendParams = strict({
  name: serviceName,
  endpoint: z.string().transform((text, ctx) => {
    const endpoint = parseEndpoint(text);
    const ip = endpoint === undefined ? undefined : parseIp(endpoint.address);
    const reason = ip === undefined ? undefined : whyNoBackend(ip);
    if (endpoint !== undefined && reason === undefined) return endpoint;
    const message =
      reason === undefined
        ? `${show(text)} is no backend: write ADDR:PORT, or [ADDR]:PORT for IPv6`
        : `${show(text)} cannot be a backend: ${reason}`;
    ctx.addIssue({ code: 'custom', message });
    return z.NEVER;
  }),
});

export const backendPutBody = strict({
  weight: weight.default(1),
  state: backendState.default('active'),
  owner: backendOwner.optional(),
});
export const backendPatchBody = strict({
  weight: weight.optional(),
  state: backendState.optional(),
}).refine((body) => body.weight !== undefined || body.state !== undefined, {
  error: 'nothing to change: give weight, state or both',
});

/** Documents as in a YAML file; each is checked by parseDocuments(), which knows their places. */
export const applyBody = strict({
  documents: z.array(z.unknown(), { error: 'documents is not a list' }),
});
