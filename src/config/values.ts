/** Kinds of values that knobs have, each with an error that names the knob. */
import * as z from 'zod';
import { parseAddress } from '../cluster/address.ts';
import { parseCidr, type Cidr } from '../net/cidr.ts';
import { formatIp, parseIp } from '../net/ip.ts';
import { ProblemError } from '../state/problem.ts';
import { show } from '../state/validate.ts';

export function absolutePath(what: string): z.ZodString {
  const error = (issue: { input?: unknown }): string =>
    `${what} ${show(issue.input)} is not an absolute path`;
  return z.string({ error }).regex(/^\/[^\0]*$/, { error });
}

export function count(what: string, min: number, max: number): z.ZodNumber {
  const error = (issue: { input?: unknown }): string =>
    `${what} ${show(issue.input)} is not a whole number in ${min}–${max}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

export function cidr(
  what: string,
  wrong: (cidr: Cidr) => string | undefined,
): z.ZodType<Cidr, string> {
  return z
    .string({ error: (issue) => `${what} ${show(issue.input)} is not text` })
    .transform((text, ctx): Cidr => {
      const result = parseCidr(text);
      const reason = result.ok ? wrong(result.cidr) : result.reason;
      if (result.ok && reason === undefined) return result.cidr;
      ctx.addIssue({ code: 'custom', message: `${what} ${show(text)} ${reason ?? ''}` });
      return z.NEVER;
    });
}

/** `IP`, `IP:PORT` or `[IP]:PORT`; undefined as port: there was none. */
function hostPort(text: string): { host: string; port: number | undefined } | undefined {
  const alone = parseIp(text);
  if (alone !== undefined) return { host: formatIp(alone), port: undefined };
  try {
    const { host, port } = parseAddress(text);
    const ip = parseIp(host);
    if (ip === undefined) return undefined;
    return { host: formatIp(ip), port: text.endsWith(']') ? undefined : port };
  } catch (error) {
    if (error instanceof ProblemError) return undefined;
    throw error;
  }
}

export function ipPort(
  what: string,
): z.ZodType<{ host: string; port: number | undefined }, string> {
  return z
    .string({ error: (issue) => `${what} ${show(issue.input)} is not text` })
    .transform((text, ctx) => {
      const parsed = hostPort(text);
      if (parsed !== undefined) return parsed;
      const message = `${what} ${show(text)} is not an IP address with or without a port, like 10.0.0.7, 10.0.0.7:7946 or [fd00::7]:7946`;
      ctx.addIssue({ code: 'custom', message });
      return z.NEVER;
    });
}

/** What others read, in tables and logs. */
export function label(what: string, min: number, max: number): z.ZodString {
  const error = (issue: { input?: unknown }): string =>
    `${what} ${show(issue.input)} is not ${min}–${max} of letters, digits, ".", "_" and "-"`;
  return z.string({ error }).regex(new RegExp(`^[A-Za-z0-9._-]{${min},${max}}$`), { error });
}

export function yesOrNo(what: string): z.ZodBoolean {
  return z.boolean({ error: (issue) => `${what} ${show(issue.input)} is neither true nor false` });
}

export function parsedCidr(text: string): Cidr {
  const result = parseCidr(text);
  if (!result.ok) throw new Error(`default block ${text} ${result.reason}`);
  return result.cidr;
}
