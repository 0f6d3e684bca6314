/** libbpf for Node: the public surface. See README.md for its scope. */
export { attachTypes, linkTypes, mapTypes, programTypes } from './constants.ts';
export type {
  AttachType,
  AttachTypeLike,
  LinkType,
  MapType,
  MapTypeLike,
  ProgramType,
  ProgramTypeLike,
  Unknown,
} from './constants.ts';
export { DnsThread } from './dns.ts';
export type { DnsCounts, DnsQuestion, DnsRecords, DnsThreadOptions } from './dns.ts';
export { BpfError, VerifierError } from './errors.ts';
export { BpfLink, queryCgroup } from './link.ts';
export type { CgroupQuery, LinkInfo } from './link.ts';
export { onLog } from './log.ts';
export type { LogLevel, LogSink } from './log.ts';
export { BpfMap } from './map.ts';
export type { Entries, MapCreateOptions, MapInfo, MapSpec, SetMode } from './map.ts';
export type { GlobalSpec, TestRunResult } from './native.ts';
export { netlinkRequest, removeTcProgram, setTcProgram, tcProgramId } from './netlink.ts';
export type { TcPlace } from './netlink.ts';
export { LoadedObject, OpenObject, openObject } from './object.ts';
export type { DataSection, OpenOptions, ProgramSpec } from './object.ts';
export { libbpfVersion, possibleCpus, probe } from './probe.ts';
export { BpfProgram, enableStats, Stats } from './program.ts';
export type { AttachOptions, ProgramInfo, TestRunOptions } from './program.ts';
export { RingBuffer } from './ringbuf.ts';
export type { OnRecord, RingBufferOptions } from './ringbuf.ts';
