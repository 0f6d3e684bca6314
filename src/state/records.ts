/**
 * What operators say, as it is stored: services, backends, rules, DNS records,
 * nothing derived.
 *
 * Records are plain immutable values. Names and addresses in them are already
 * valid and canonical (see validate.ts); a record never holds both text forms
 * of one thing.
 */

export type Protocol = 'tcp' | 'udp';

export interface ServicePort {
  /** IANA service name syntax (RFC 6335, 5.1): 1–15 of a–z, 0–9, `-`; unique in its service. */
  readonly name: string;
  /** 1–65535, unique in its service together with the protocol. */
  readonly port: number;
  readonly protocol: Protocol;
}

export interface ServiceRecord {
  /** DNS labels joined by dots, at most 127 bytes, lower case. */
  readonly name: string;
  /** Canonical addresses, at least one; the first IPv4 one comes first. */
  readonly vips: readonly string[];
  readonly ports: readonly ServicePort[];
}

export type BackendState = 'active' | 'draining';

/** A process on this host that a backend lives and dies with (`zerohop run`). */
export interface BackendOwner {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat (proc(5)), in clock ticks since boot: tells a reused pid apart. */
  readonly startTicks: number;
  readonly bootId: string;
  readonly command: string;
}

export interface BackendRecord {
  readonly service: string;
  /** Name of the service's port that this backend serves. */
  readonly portName: string;
  readonly address: string;
  /** 1–65535, where the backend listens. */
  readonly port: number;
  /** 0–65535; 0 takes no new connections. */
  readonly weight: number;
  readonly state: BackendState;
  readonly owner?: BackendOwner;
  /** The node with whose process it lives; without one an operator's, for all. */
  readonly node?: string;
}

export interface AclPort {
  readonly port: number;
  readonly protocol: Protocol;
}

/** What a rule protects (src/acl/README.md). */
export type AclTarget =
  /** The endpoints of its backends, or of those of one port; neither needs to exist. */
  | { readonly kind: 'service'; readonly service: string; readonly portName?: string }
  /** A block in canonical text; without ports all of it, whatever the protocol. */
  | { readonly kind: 'cidr'; readonly cidr: string; readonly ports: readonly AclPort[] }
  /** These ports everywhere; at least one. */
  | { readonly kind: 'ports'; readonly ports: readonly AclPort[] };

export type AclSelectorKind = 'unit' | 'cgroup' | 'user' | 'group' | 'cidr';

export interface AclSelector {
  readonly kind: AclSelectorKind;
  /** A pattern, a block in canonical text, or a name; of users and groups also an id in digits. */
  readonly value: string;
}

export type AclAction = 'allow' | 'deny' | 'audit';

export interface AclRecord {
  /** At most 63 bytes of a–z, 0–9, `-` and `.`. */
  readonly name: string;
  readonly to: AclTarget;
  /** Alternatives; empty: every program of this host. */
  readonly from: readonly AclSelector[];
  readonly action: AclAction;
}

export const DNS_TYPES = ['A', 'AAAA', 'CNAME', 'TXT', 'SRV', 'MX', 'PTR'] as const;
export type DnsType = (typeof DNS_TYPES)[number];

/** All records of one type at one name (an RRset, RFC 2181, 5). */
export interface DnsRecord {
  /** Whole, lower case, without the dot at the end; at most 253 bytes. */
  readonly name: string;
  readonly type: DnsType;
  /** In seconds; without it the zone's. */
  readonly ttl?: number;
  /**
   * One for each record, at least one, all different: an address (A, AAAA), a name (CNAME, PTR),
   * `10 mail.example` (MX), `0 5 443 web.example` (SRV), a text of at most 255 bytes (TXT). Names are
   * written as `name`; in MX and SRV `.` is the root: no such service.
   */
  readonly data: readonly string[];
}

/** Everything known at one revision. Each change makes a new one. */
export interface StateSnapshot {
  readonly revision: number;
  readonly services: ReadonlyMap<string, ServiceRecord>;
  /** By service name; ordered by port name, address, port. */
  readonly backends: ReadonlyMap<string, readonly BackendRecord[]>;
  /** By name. */
  readonly acls: ReadonlyMap<string, AclRecord>;
  /** By name and type: `mail.example MX`. */
  readonly records: ReadonlyMap<string, DnsRecord>;
}

export type Change =
  | { readonly kind: 'put-service'; readonly service: ServiceRecord }
  | { readonly kind: 'remove-service'; readonly name: string }
  | { readonly kind: 'put-backend'; readonly backend: BackendRecord }
  | {
      readonly kind: 'remove-backend';
      readonly service: string;
      readonly portName: string;
      readonly address: string;
      readonly port: number;
    }
  | { readonly kind: 'put-acl'; readonly acl: AclRecord }
  | { readonly kind: 'remove-acl'; readonly name: string }
  | { readonly kind: 'put-record'; readonly record: DnsRecord }
  | { readonly kind: 'remove-record'; readonly name: string; readonly type: DnsType };
