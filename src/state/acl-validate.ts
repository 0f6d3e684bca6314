/**
 * Access rules as people write them, checked and made canonical. What a rule
 * means is in src/acl/README.md; the form is judged here as in validate.ts.
 */
import * as z from 'zod';
import { formatCidr, parseCidr } from '../net/cidr.ts';
import { canonicalIp } from '../net/ip.ts';
import { formatAclPort } from './export.ts';
import type { AclPort, AclRecord, AclSelector, AclTarget, Protocol } from './records.ts';
import { checked, portName, serviceName, show, strict, text } from './validate.ts';

/** The kernel keeps a rule's name in 64 bytes with a NUL (bpf/acl_abi.h). */
export const ACL_NAME_BYTES_MAX = 63;
/** Lists of blocks that providers publish have some hundreds; a guess. */
export const SELECTORS_PER_RULE_MAX = 1024;
export const PORTS_PER_RULE_MAX = 256;
/** A path of the kernel's names of at most 255 bytes, some levels deep. A guess. */
const PATTERN_LENGTH_MAX = 1024;
/** 2^32 - 1 is "no id" (setreuid(2)). */
const ID_MAX = 2 ** 32 - 2;

/** Kinds of units that have a cgroup (systemd.unit(5)). */
const UNIT_SUFFIXES = ['service', 'scope', 'slice', 'socket', 'mount', 'swap'];

export function whyNoAclName(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > ACL_NAME_BYTES_MAX) return `it is longer than ${ACL_NAME_BYTES_MAX} bytes`;
  return /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name) && !name.includes('..')
    ? undefined
    : 'it has a–z, 0–9, "-" and single ".", and begins and ends with a letter or digit';
}

export const aclName = checked(text('rule name'), 'rule name', whyNoAclName);

const action = z.enum(['allow', 'deny', 'audit'], {
  error: (issue) =>
    issue.input === undefined
      ? 'action is missing: allow, deny or audit'
      : `action ${show(issue.input)} is none of allow, deny, audit`,
});

/** What is wrong with the characters of any pattern. */
function whyNoGlob(pattern: string): string | undefined {
  if (pattern.length > PATTERN_LENGTH_MAX) return `is longer than ${PATTERN_LENGTH_MAX} characters`;
  if (/\p{Cc}/u.test(pattern)) return 'has a control character';
  if (/[[\]{}]/.test(pattern)) return 'has brackets: patterns know only *, ? and **';
  return undefined;
}

/** Why `unit` is no unit's name or pattern, as the end of a sentence. */
export function whyNoUnit(unit: string): string | undefined {
  const wrong = whyNoGlob(unit);
  if (wrong !== undefined) return wrong;
  if (unit.includes('/')) return 'has a "/": `cgroup` takes paths';
  if (unit.includes('**')) return 'has "**": one * stands for everything in a name';
  if (unit === '-.slice') return 'is the root of all units: without `from` a rule is for everyone';
  if (/\s/.test(unit)) return 'has a space';
  const dot = unit.lastIndexOf('.');
  if (dot < 0) return `has no suffix: did you mean ${unit}.service?`;
  if (dot === 0) return 'has a suffix only';
  return UNIT_SUFFIXES.includes(unit.slice(dot + 1))
    ? undefined
    : `ends in none of .${UNIT_SUFFIXES.join(', .')}: did you mean ${unit}.service?`;
}

/** Why `path` is no pattern of cgroup paths, as the end of a sentence. */
export function whyNoCgroup(path: string): string | undefined {
  const wrong = whyNoGlob(path);
  if (wrong !== undefined) return wrong;
  if (path.startsWith('/sys/fs/cgroup'))
    return `is a path of the file system: write ${path.slice('/sys/fs/cgroup'.length) || '/'}`;
  if (!path.startsWith('/')) return `does not begin with "/": did you mean /${path}?`;
  if (path === '/') return undefined;
  const parts = path.slice(1).split('/');
  if (parts.includes('')) return 'has an empty component: no "//", no "/" at its end';
  if (parts.some((part) => part === '.' || part === '..')) return 'has "." or ".." in it';
  if (parts.some((part) => part !== '**' && part.includes('**')))
    return 'has "**" beside other characters: it stands alone between slashes';
  return undefined;
}

function whyNoAccount(value: string): string | undefined {
  if (/^[0-9]+$/.test(value)) return Number(value) <= ID_MAX ? undefined : `is outside 0–${ID_MAX}`;
  if (value.length > 256) return 'is longer than 256 characters';
  // What useradd(8) takes, and names of directories as well: DOMAIN\name, name@domain.
  return /^[^\s:/,*?\p{Cc}]+$/u.test(value) && !value.startsWith('-')
    ? undefined
    : 'is no name of an account';
}

/** Canonical text of a block, or why it is none. */
function block(value: string): { cidr: string } | { reason: string } {
  const address = canonicalIp(value);
  if (address !== undefined)
    return { reason: `is an address: write ${address}/${address.includes(':') ? 128 : 32}` };
  const result = parseCidr(value);
  return result.ok ? { cidr: formatCidr(result.cidr) } : { reason: result.reason };
}

function cidrField(what: string): z.ZodType<string, string> {
  return text(what).transform((value, ctx): string => {
    const result = block(value);
    if ('cidr' in result) return result.cidr;
    ctx.addIssue({ code: 'custom', message: `${what} ${show(value)} ${result.reason}` });
    return z.NEVER;
  });
}

function pattern(what: string, why: (value: string) => string | undefined): z.ZodString {
  return text(what)
    .min(1, { error: `${what} is empty` })
    .superRefine((value, ctx) => {
      const reason = value === '' ? undefined : why(value);
      if (reason !== undefined)
        ctx.addIssue({ code: 'custom', message: `${what} ${show(value)} ${reason}` });
    });
}

function account(what: string): z.ZodType<string, string | number> {
  return z
    .union([z.string(), z.number()], {
      error: (issue) => `${what} ${show(issue.input)} is neither a name nor a number`,
    })
    .transform((value, ctx): string => {
      const reason =
        typeof value === 'string'
          ? whyNoAccount(value)
          : Number.isInteger(value) && value >= 0 && value <= ID_MAX
            ? undefined
            : `is no whole number in 0–${ID_MAX}`;
      if (reason !== undefined)
        ctx.addIssue({ code: 'custom', message: `${what} ${show(value)} ${reason}` });
      // 007 and 7 are one id.
      return /^[0-9]+$/.test(String(value)) ? String(Number(value)) : String(value);
    });
}

const selectorFields = {
  unit: pattern('unit', whyNoUnit).optional(),
  cgroup: pattern('cgroup', whyNoCgroup).optional(),
  user: account('user').optional(),
  group: account('group').optional(),
  cidr: cidrField('cidr').optional(),
};

const selector = strict(selectorFields).transform((raw, ctx): AclSelector => {
  const given = (['unit', 'cgroup', 'user', 'group', 'cidr'] as const).flatMap((kind) => {
    const value = raw[kind];
    return value === undefined ? [] : [{ kind, value }];
  });
  const [only] = given;
  if (only !== undefined && given.length === 1) return only;
  // An unknown field was reported already.
  if (only === undefined && ctx.issues.length > 0) return z.NEVER;
  const message =
    only === undefined
      ? 'a selector names one of unit, cgroup, user, group, cidr'
      : `a selector names one thing, this one ${given.map(({ kind }) => kind).join(' and ')}: items of their own are alternatives`;
  ctx.addIssue({ code: 'custom', message });
  return z.NEVER;
});

/** `443/tcp`, `53/udp`, and 443 for 443/tcp. */
const aclPort = z
  .union([z.string(), z.number()], {
    error: (issue) => `port ${show(issue.input)} is not like 443/tcp`,
  })
  .transform((value, ctx): AclPort => {
    const match = /^([0-9]{1,5})(?:\/(tcp|udp))?$/i.exec(String(value));
    const port = Number(match?.[1]);
    if (match !== null && port >= 1 && port <= 65_535)
      return { port, protocol: (match[2]?.toLowerCase() ?? 'tcp') as Protocol };
    const message =
      match === null
        ? `port ${show(value)} is not like 443/tcp, 53/udp or 443`
        : `port ${show(value)} is outside 1–65535`;
    ctx.addIssue({ code: 'custom', message });
    return z.NEVER;
  });

function refuseRepeated(
  items: readonly string[],
  path: string,
  what: string,
  ctx: z.core.$RefinementCtx,
): void {
  for (const [index, item] of items.entries()) {
    if (items.indexOf(item) < index)
      ctx.addIssue({
        code: 'custom',
        message: `${what} ${item} is there twice`,
        path: [path, index],
      });
  }
}

const target = strict({
  service: serviceName.optional(),
  port: portName.optional(),
  cidr: cidrField('cidr').optional(),
  ports: z
    .array(aclPort, { error: 'ports is not a list' })
    .min(1, { error: 'ports is empty: leave it out for every port' })
    .max(PORTS_PER_RULE_MAX, { error: `more than ${PORTS_PER_RULE_MAX} ports` })
    .optional(),
}).transform(({ service, port, cidr, ports }, ctx): AclTarget => {
  const complain = (message: string, ...path: string[]): never => {
    ctx.addIssue({ code: 'custom', message, path });
    return z.NEVER;
  };
  if (ports !== undefined) refuseRepeated(ports.map(formatAclPort), 'ports', 'port', ctx);
  if (service !== undefined) {
    if (cidr !== undefined)
      return complain('service and cidr are both given: make two rules', 'cidr');
    if (ports !== undefined)
      return complain('a service has ports of its own: `port` names one of them', 'ports');
    return { kind: 'service', service, ...(port === undefined ? {} : { portName: port }) };
  }
  if (port !== undefined)
    return complain('port names a port of a service: which? (`ports` takes numbers)', 'port');
  if (cidr !== undefined) return { kind: 'cidr', cidr, ports: ports ?? [] };
  if (ports !== undefined) return { kind: 'ports', ports };
  if (ctx.issues.length > 0) return z.NEVER;
  return complain('to is empty: it names a service, a cidr or ports');
});

export const aclFields = {
  to: target,
  from: z
    .array(selector, { error: 'from is not a list' })
    .min(1, { error: 'from is empty: leave it out for everyone' })
    .max(SELECTORS_PER_RULE_MAX, { error: `more than ${SELECTORS_PER_RULE_MAX} in from` })
    .optional(),
  action,
};

interface RawRule {
  readonly to: AclTarget;
  readonly from?: readonly AclSelector[] | undefined;
}

/** What its fields mean together. */
export function aclRule<Raw extends RawRule>(
  raw: Raw,
  ctx: z.core.$RefinementCtx,
): Omit<Raw, 'from'> & { from: readonly AclSelector[] } {
  const { from = [], ...rest } = raw;
  const texts = from.map(({ kind, value }) => `${kind} ${value}`);
  refuseRepeated(texts, 'from', 'selector', ctx);
  for (const [index, { kind }] of from.entries()) {
    if (kind === 'cidr' && raw.to.kind === 'cidr')
      ctx.addIssue({
        code: 'custom',
        message:
          'a source (cidr) says who may reach a port of this host: `to` is then a service or ports, not a cidr',
        path: ['from', index, 'cidr'],
      });
  }
  return { ...rest, from };
}

/** The body of PUT /v1/acls/NAME, which has its name in the path. */
export const aclBody = strict(aclFields).transform(aclRule);
export const aclSpec: z.ZodType<AclRecord> = strict({ name: aclName, ...aclFields }).transform(
  aclRule,
);
