/**
 * What people may write (documents, request bodies), checked and made
 * canonical: names in lower case, addresses as net/ip.ts prints them, defaults
 * filled in. Every problem is reported at once, each with its field path.
 *
 * Only the form is judged here; what a record means beside the others is
 * decided in commands.ts. Strict: a field that nobody knows is an error.
 */
import * as z from 'zod';
import { whyNoBackend, whyNoVip } from '../net/classes.ts';
import { canonicalIp, parseEndpoint, parseIp } from '../net/ip.ts';
import type { Problem } from './problem.ts';
import type { BackendOwner, BackendState, ServicePort } from './records.ts';
import { didYouMean } from './suggest.ts';

/** Bounds what one service costs; far above what anyone was seen to need. */
export const VIPS_PER_SERVICE_MAX = 16;
export const PORTS_PER_SERVICE_MAX = 64;
/** The kernel keeps names in 128 bytes with a NUL (bpf/abi.h). */
export const SERVICE_NAME_BYTES_MAX = 127;

/** A value as it is shown in a message: short, quoted if it is text. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) return typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** A strict object; its error carries the known fields to problemsOf(). */
export function strict<const Shape extends z.core.$ZodShape>(
  shape: Shape,
): z.ZodObject<Shape, z.core.$strict> {
  const known = Object.keys(shape).join(', ');
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? known
        : `${show(issue.input)} is not an object with fields`,
  });
}

export function wholeNumber(what: string, min: number, max: number): z.ZodNumber {
  const error = (issue: { input?: unknown }): string =>
    issue.input === undefined
      ? `${what} is missing`
      : `${what} ${show(issue.input)} is not a whole number in ${min}–${max}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

export function text(what: string): z.ZodString {
  return z.string({
    error: (issue) =>
      issue.input === undefined ? `${what} is missing` : `${what} ${show(issue.input)} is not text`,
  });
}

/** Why `name` is no service name, or undefined if it is one. */
export function whyNoServiceName(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > SERVICE_NAME_BYTES_MAX)
    return `it is longer than ${SERVICE_NAME_BYTES_MAX} bytes`;
  const labels = name.split('.');
  for (const label of labels) {
    if (label.length > 63) return 'a label is longer than 63 bytes';
    if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(label)) {
      return 'a label has 1–63 of a–z, 0–9 and "-", and no "-" at its ends';
    }
  }
  // As the last label of a host name it would be read as an IPv4 address (WHATWG URL, "ends in a number").
  if (/^[0-9]+$/.test(labels.at(-1) ?? ''))
    return 'its last label has digits only, like an IP address';
  return undefined;
}

/** Why `name` is no port name (RFC 6335, 5.1), or undefined if it is one. */
export function whyNoPortName(name: string): string | undefined {
  if (name.length < 1 || name.length > 15) return 'it has 1–15 characters';
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) {
    return 'it has a–z, 0–9 and single "-" between them';
  }
  return /[a-z]/.test(name) ? undefined : 'it needs at least one letter';
}

export function checked(
  schema: z.ZodString,
  what: string,
  why: (value: string) => string | undefined,
): z.ZodString {
  return schema.toLowerCase().superRefine((value, ctx) => {
    const reason = why(value);
    if (reason !== undefined) {
      ctx.addIssue({ code: 'custom', message: `${what} ${show(value)} is malformed: ${reason}` });
    }
  });
}

export const serviceName = checked(text('service name'), 'service name', whyNoServiceName);
export const portName = checked(text('port name'), 'port name', whyNoPortName);
export const portNumber = wholeNumber('port', 1, 65_535);
export const weight = wholeNumber('weight', 0, 65_535);
export const protocol = z.enum(['tcp', 'udp'], {
  error: (issue) => `protocol ${show(issue.input)} is neither tcp nor udp`,
});
export const backendState = z.enum(['active', 'draining'], {
  error: (issue) => `state ${show(issue.input)} is neither active nor draining`,
});

export const vipAddress = text('VIP').transform((value, ctx): string => {
  const ip = parseIp(value);
  const canonical = canonicalIp(value);
  if (ip === undefined || canonical === undefined) {
    ctx.addIssue({ code: 'custom', message: `VIP ${show(value)} is not an IP address` });
    return z.NEVER;
  }
  const reason = whyNoVip(ip);
  if (reason !== undefined) {
    ctx.addIssue({ code: 'custom', message: `${canonical} cannot be a VIP: ${reason}` });
  }
  return canonical;
});

/** The name of a port that was given none: `tcp-80`. */
export function defaultPortName(port: {
  readonly port: number;
  readonly protocol: string;
}): string {
  return `${port.protocol}-${port.port}`;
}

export const servicePort = strict({
  name: portName.optional(),
  port: portNumber,
  protocol: protocol.default('tcp'),
}).transform((raw) => ({
  name: raw.name ?? defaultPortName(raw),
  port: raw.port,
  protocol: raw.protocol,
}));

export const backendOwner = strict({
  pid: wholeNumber('pid', 1, 2 ** 22),
  startTicks: wholeNumber('startTicks', 0, Number.MAX_SAFE_INTEGER),
  bootId: text('bootId').max(64),
  command: text('command').max(4096),
});

interface RawTarget {
  readonly address: string;
  readonly port?: number | undefined;
}

/** `address: 10.0.0.1, port: 80` and `address: 10.0.0.1:80` say the same. */
export function targetOf(
  raw: RawTarget,
  ctx: z.core.$RefinementCtx,
): { address: string; port: number } {
  const complain = (message: string, path: string): never => {
    ctx.addIssue({ code: 'custom', message, path: [path] });
    return z.NEVER;
  };
  const bare = canonicalIp(raw.address);
  const endpoint = bare === undefined ? parseEndpoint(raw.address) : undefined;
  const address = bare ?? endpoint?.address;
  if (address === undefined) {
    return complain(
      `address ${show(raw.address)} is neither an IP address nor IP:PORT (IPv6: [IP]:PORT)`,
      'address',
    );
  }
  const reason = whyNoBackend(parseIp(address) ?? new Uint8Array(16));
  if (reason !== undefined) return complain(`${address} cannot be a backend: ${reason}`, 'address');
  if (endpoint !== undefined && raw.port !== undefined && raw.port !== endpoint.port) {
    return complain(`port ${raw.port} contradicts the address ${raw.address}`, 'port');
  }
  const port = raw.port ?? endpoint?.port;
  return port === undefined ? complain('port is missing', 'port') : { address, port };
}

export const backendFields = {
  portName: portName.optional(),
  address: text('address'),
  port: portNumber.optional(),
  weight: weight.default(1),
  state: backendState.default('active'),
};

export const backendSpec = strict(backendFields).transform((raw, ctx) => ({
  ...raw,
  ...targetOf(raw, ctx),
}));
export interface BackendSpec {
  /** May be left out where the service has one port. */
  readonly portName?: string | undefined;
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  readonly state: BackendState;
  readonly owner?: BackendOwner | undefined;
}

export const serviceFields = {
  vip: vipAddress.optional(),
  vips: z
    .array(vipAddress, { error: 'vips is not a list' })
    .min(1)
    .max(VIPS_PER_SERVICE_MAX)
    .optional(),
  ports: z
    .array(servicePort, {
      error: (issue) => (issue.input === undefined ? 'ports is missing' : 'ports is not a list'),
    })
    .min(1, { error: 'ports is empty: a service has at least one' })
    .max(PORTS_PER_SERVICE_MAX, { error: `more than ${PORTS_PER_SERVICE_MAX} ports` }),
  backends: z.array(backendSpec, { error: 'backends is not a list' }).optional(),
};

interface RawVips {
  readonly vip?: string | undefined;
  readonly vips?: readonly string[] | undefined;
}

/** IPv4 first, otherwise in the order written. */
function orderVips(vips: readonly string[]): readonly string[] {
  return [...vips.filter((vip) => !vip.includes(':')), ...vips.filter((vip) => vip.includes(':'))];
}

export function withVips<Raw extends RawVips>(
  raw: Raw,
  ctx: z.core.$RefinementCtx,
): Omit<Raw, 'vip' | 'vips'> & { vips: readonly string[] | undefined } {
  const { vip, vips, ...rest } = raw;
  if (vip !== undefined && vips !== undefined) {
    ctx.addIssue({
      code: 'custom',
      message: 'vip and vips are both given: use one',
      path: ['vip'],
    });
  }
  const all = vips ?? (vip === undefined ? undefined : [vip]);
  return { ...rest, vips: all === undefined ? undefined : orderVips(all) };
}

/** The body of PUT /v1/services/NAME, which has its name in the path. */
export const serviceBody = strict(serviceFields).transform(withVips);
export const serviceSpec = strict({ name: serviceName, ...serviceFields }).transform(withVips);
export interface ServiceSpec {
  readonly name: string;
  /** Absent: those it has, or allocated ones. */
  readonly vips?: readonly string[] | undefined;
  readonly ports: readonly ServicePort[];
  /** Absent: left alone. */
  readonly backends?: readonly BackendSpec[] | undefined;
}

/** `ports[0].port`; the empty path is the whole thing. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else text += text === '' ? String(step) : `.${String(step)}`;
  }
  return text;
}

function withPath(problem: Problem, path: readonly PropertyKey[]): Problem {
  return path.length === 0 ? problem : { ...problem, path: formatPath(path) };
}

function problemsOfIssue(issue: z.core.$ZodIssue, prefix: readonly PropertyKey[]): Problem[] {
  const path = [...prefix, ...issue.path];
  if (issue.code !== 'unrecognized_keys')
    return [withPath({ code: 'invalid', message: issue.message }, path)];
  const known = issue.message === '' ? [] : issue.message.split(', ');
  return issue.keys.map((key) =>
    withPath(
      {
        code: 'unknown-field',
        message: `unknown field ${show(key)}`,
        hint: didYouMean(
          key,
          known,
          known.length === 0 ? 'none is known here' : `known here: ${issue.message}`,
        ),
      },
      [...path, key],
    ),
  );
}

export function problemsOf(error: z.ZodError, prefix: readonly PropertyKey[] = []): Problem[] {
  return error.issues.flatMap((issue) => problemsOfIssue(issue, prefix));
}

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** The value as `schema` makes it, or everything that is wrong with it. */
export function parse<T>(
  schema: z.ZodType<T>,
  value: unknown,
  prefix: readonly PropertyKey[] = [],
): Parsed<T> {
  const result = schema.safeParse(value);
  if (result.success) return { ok: true, value: result.data };
  return { ok: false, problems: problemsOf(result.error, prefix) };
}
