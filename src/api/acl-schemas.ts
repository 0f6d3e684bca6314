/** What the API answers and takes about access control; as schemas.ts. */
import * as z from 'zod';
import { parseEndpoint, parseIp } from '../net/ip.ts';
import { aclName } from '../state/acl-validate.ts';
import { protocol, serviceName, show, strict, text } from '../state/validate.ts';
import { count, flag, textList } from './values.ts';

export const aclAnswer = z.object({
  name: z.string(),
  /** As in a document. */
  to: z.object({
    service: z.string().optional(),
    port: z.string().optional(),
    cidr: z.string().optional(),
    ports: textList.optional(),
  }),
  /** As in a document; empty: everyone. */
  from: z.array(z.record(z.string(), z.union([z.string(), z.int()]))),
  action: z.enum(['allow', 'deny', 'audit']),
  /** Of the programs, since the rule was made. */
  counters: z.object({ denied: count, allowed: count, audited: count }),
  /** Parts that select nobody now: a user that does not exist. */
  warnings: textList,
});

export const aclListAnswer = z.object({
  revision: count,
  defaultAction: z.enum(['allow', 'deny']),
  /** Denied because no rule names the destination. */
  deniedByDefault: count,
  acls: z.array(aclAnswer),
});
export type AclListAnswer = z.output<typeof aclListAnswer>;

export const aclShowAnswer = z.object({ revision: count, acl: aclAnswer });
export type AclShowAnswer = z.output<typeof aclShowAnswer>;

export const aclStatusAnswer = z.object({
  /** Which of the kernel's doors judge. */
  enforcement: z.enum(['lsm', 'cgroup', 'none']),
  enforcementText: z.string(),
  /** Why not more. */
  why: z.string(),
  notCovered: textList,
  /** active: judging; idle: there are no rules; unenforced: there are, and nothing judges. */
  state: z.enum(['active', 'idle', 'degraded', 'unenforced']),
  problem: z.string().optional(),
  defaultAction: z.enum(['allow', 'deny']),
  rules: count,
  generation: count,
  counters: z.object({
    /** Events lost as the buffer was full. */
    eventsDropped: count,
    /** Judged without knowing the caller's cgroup. */
    unknownCgroups: count,
    /** New cgroups that found the map full. */
    unclassifiedCgroups: count,
  }),
});
export type AclStatusAnswer = z.output<typeof aclStatusAnswer>;

const logEntry = z.object({
  time: z.string(),
  verdict: z.enum(['deny', 'audit']),
  /** `defaultAction` when no rule names the destination. */
  rule: z.string(),
  workload: z.object({
    cgroup: z.string().optional(),
    unit: z.string().optional(),
    pid: z.int().optional(),
    command: z.string().optional(),
    user: z.string().optional(),
    uid: z.int().optional(),
    gid: z.int().optional(),
  }),
  source: z.string().optional(),
  destination: z.object({
    address: z.string().optional(),
    port: z.int(),
    protocol: z.string(),
    service: z.string().optional(),
    portName: z.string().optional(),
  }),
  via: z.string().optional(),
  hook: z.string(),
});

export const aclLogAnswer = z.object({
  entries: z.array(logEntry),
  /** Seen by this agent since it started. */
  seen: count,
  /** Lost in the kernel, since the maps were made. */
  dropped: count,
});
export type AclLogAnswer = z.output<typeof aclLogAnswer>;

const ruleVerdict = z.object({
  rule: z.string(),
  action: z.enum(['allow', 'deny', 'audit']),
  /** Whether it selects who asks. */
  applies: z.boolean(),
  why: z.string(),
});

export const aclTestAnswer = z.object({
  /** Whether every target may be reached. */
  allowed: z.boolean(),
  /** Who asks, as far as it is known. */
  subject: z.record(z.string(), z.union([z.string(), z.int(), z.array(z.int())])),
  targets: z.array(
    z.object({
      /** `10.0.0.1:6379`; of a port of this host as seen from outside: `port 6379`. */
      address: z.string(),
      protocol: z.string(),
      service: z.string().optional(),
      portName: z.string().optional(),
      via: z.string().optional(),
      verdict: z.enum(['allow', 'deny']),
      /** That decided; `defaultAction` when none did. */
      rule: z.string(),
      /** Rules that report it. */
      audit: textList,
      why: z.string(),
      rules: z.array(ruleVerdict),
      /** What the kernel's maps say: the same, or what instead. */
      kernel: z.object({ same: z.boolean(), verdict: z.string(), rule: z.string() }).optional(),
    }),
  ),
  notes: textList,
});
export type AclTestAnswer = z.output<typeof aclTestAnswer>;

export const aclParams = strict({ name: aclName });

/** Entries in one answer; a guess: as many as are kept. */
const LOG_ENTRIES_MAX = 4096;

export const aclLogQuery = strict({
  rule: z.union([aclName, z.literal('defaultAction')]).optional(),
  follow: flag.default(false),
  limit: z
    .string()
    .regex(/^[0-9]{1,4}$/, { error: (issue) => `limit ${show(issue.input)} is no whole number` })
    .transform((value) => Math.min(Number(value), LOG_ENTRIES_MAX))
    .optional(),
});

const endpoint = text('endpoint').transform((value, ctx) => {
  const parsed = parseEndpoint(value);
  const ip = parsed === undefined ? undefined : parseIp(parsed.address);
  if (parsed !== undefined && ip !== undefined) return { ...parsed, ip };
  const message = `endpoint ${show(value)} is not like 10.0.0.1:6379 or [fd00::1]:53`;
  ctx.addIssue({ code: 'custom', message });
  return z.NEVER;
});

export const aclTestBody = strict({
  /** Who asks: a program of this host, or with `cidr` an address outside. */
  from: strict({
    unit: text('unit').max(256).optional(),
    cgroup: text('cgroup').max(4096).optional(),
    user: z.union([text('user').max(256), z.int().min(0)]).optional(),
    group: z.union([text('group').max(256), z.int().min(0)]).optional(),
    pid: z
      .int()
      .min(1)
      .max(2 ** 22)
      .optional(),
    cidr: text('cidr').max(64).optional(),
  }),
  to: strict({
    service: serviceName.optional(),
    /** A port's name or number. */
    port: z.union([z.string().max(15), z.int().min(1).max(65_535)]).optional(),
    endpoint: endpoint.optional(),
    protocol: protocol.optional(),
  }),
});
export type AclTestBody = z.output<typeof aclTestBody>;
