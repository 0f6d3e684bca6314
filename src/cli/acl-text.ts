/** What `acl` takes on the command line, as the fields of a document; the agent checks the values. */
import { formatEndpoint, parseEndpoint, parseIp } from '../net/ip.ts';
import { UsageError } from './output.ts';

export interface TargetFields {
  readonly service?: string;
  readonly port?: string;
  readonly cidr?: string;
  readonly ports?: readonly string[];
}

const targetHint =
  'for example redis.prod, redis.prod:main, 10.0.0.0/8, 10.0.0.0/8:443/tcp,80/tcp, [fd00::/8]:443/tcp or :25/tcp';

function portsOf(text: string, whole: string): readonly string[] {
  const ports = text.split(',').map((part) => part.trim());
  if (ports.every((port) => /^[0-9]+(\/[A-Za-z]+)?$/.test(port))) return ports;
  throw new UsageError(`"${text}" in --to ${whole} is no list of ports`, targetHint);
}

/** An address stands for its block of one. */
function cidrOf(text: string): string | undefined {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === undefined || (slash >= 0 && !/^[0-9]{1,3}$/.test(text.slice(slash + 1)))) {
    return undefined;
  }
  return slash < 0 ? `${text}/${text.includes(':') ? 128 : 32}` : text;
}

/** `redis.prod[:port-name]`, `10.0.0.0/8[:443/tcp,…]`, `[fd00::/8]:443/tcp`, `:25/tcp`. */
export function parseTarget(text: string): TargetFields {
  if (text.startsWith(':')) return { ports: portsOf(text.slice(1), text) };
  const bracketed = /^\[([^\]]+)\](?::(.+))?$/.exec(text);
  const plain = /^([^:]+)(?::(.+))?$/.exec(text);
  const alone = cidrOf(text);
  if (alone !== undefined) return { cidr: alone };
  const [, head = '', tail] = bracketed ?? plain ?? [];
  const cidr = cidrOf(head);
  if (cidr !== undefined) {
    return tail === undefined ? { cidr } : { cidr, ports: portsOf(tail, text) };
  }
  if (bracketed !== null || plain === null || head.includes('/')) {
    throw new UsageError(`--to "${text}" is no service, block or port`, targetHint);
  }
  return tail === undefined ? { service: head } : { service: head, port: tail };
}

const selectorKinds = ['unit', 'cgroup', 'user', 'group', 'cidr'] as const;
export type SelectorFields = Readonly<Record<string, string>>;

function splitKind(text: string, kinds: readonly string[], hint: string): [string, string] {
  const colon = text.indexOf(':');
  const kind = text.slice(0, Math.max(colon, 0));
  const value = text.slice(colon + 1);
  if (colon < 0 || !kinds.includes(kind) || value === '') {
    throw new UsageError(`--from "${text}" is not ${kinds.join(', ')}, a colon, and a value`, hint);
  }
  return [kind, value];
}

/** `unit:web.service` → {unit: 'web.service'}. */
export function parseSelector(text: string): SelectorFields {
  const hint =
    'for example unit:web.service, cgroup:/batch/*, user:deploy, group:ops or cidr:192.0.2.0/24';
  const [kind, value] = splitKind(text, selectorKinds, hint);
  return { [kind]: value };
}

/** Who asks, in `acl test`: each part once. */
export function parseSubject(texts: readonly string[]): Readonly<Record<string, string | number>> {
  const hint =
    'for example --from unit:web.service, or --from cgroup:/batch/1 --from user:deploy, or --from pid:123';
  const subject: Record<string, string | number> = {};
  for (const text of texts) {
    const [kind, value] = splitKind(text, [...selectorKinds, 'pid'], hint);
    if (subject[kind] !== undefined) throw new UsageError(`--from ${kind} is there twice`, hint);
    if (kind === 'pid' && !/^[0-9]{1,7}$/.test(value)) {
      throw new UsageError(`pid "${value}" is not the number of a process`, hint);
    }
    subject[kind] = kind === 'pid' ? Number(value) : value;
  }
  return subject;
}

export interface AskedTarget {
  readonly service?: string;
  readonly port?: string;
  /** `10.0.0.1:6379` */
  readonly endpoint?: string;
  readonly protocol?: string;
}

/** `redis.prod[:port]`, `IP:PORT[/udp]`, `[IP]:PORT`. */
export function parseAskedTarget(text: string): AskedTarget {
  const hint =
    'for example redis.prod, redis.prod:main, redis.prod:6379, 10.0.0.1:6379, [fd00::1]:53/udp';
  const slash = text.lastIndexOf('/');
  const bare = slash < 0 ? text : text.slice(0, slash);
  const protocol = slash < 0 ? undefined : text.slice(slash + 1).toLowerCase();
  const endpoint = parseEndpoint(bare);
  if (endpoint !== undefined) {
    return {
      endpoint: formatEndpoint(endpoint.address, endpoint.port),
      ...(protocol === undefined ? {} : { protocol }),
    };
  }
  if (parseIp(bare) !== undefined) {
    throw new UsageError(`--to "${text}" has no port`, hint);
  }
  const match = /^([^:/[\]]+)(?::([^:/]+))?$/.exec(text);
  if (match?.[1] === undefined) {
    throw new UsageError(`--to "${text}" is neither a service nor an address and port`, hint);
  }
  return { service: match[1], ...(match[2] === undefined ? {} : { port: match[2] }) };
}
