/**
 * The compiled half: finds it, loads it, and says what it offers. Its functions check every
 * argument themselves (native/args.h), so the types here are a convenience, not a safeguard.
 */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import bindings from 'bindings';
import { BpfError, VerifierError } from './errors.ts';

/** An open descriptor or object in the native half; meaningless elsewhere. */
export interface NativeHandle {
  readonly nativeHandle: unique symbol;
}

export interface NativeMapSpec {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export interface NativeProgramSpec {
  readonly name: string;
  readonly section: string;
  readonly type: number;
  readonly attachType: number;
  readonly autoload: boolean;
}

export interface GlobalSpec {
  readonly name: string;
  readonly section: string;
  readonly offset: number;
  readonly size: number;
}

export interface NativeEntries {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly count: number;
  readonly cursor?: Uint8Array;
}

export interface NativeProgramInfo {
  readonly id: number;
  readonly name: string;
  readonly type: number;
  readonly tag: string;
  readonly runCount: number;
  readonly runTimeNs: number;
  readonly mapIds: number[];
  readonly loadedAtMs: number;
  readonly instructionsVerified: number;
}

export interface TestRunResult {
  readonly retval: number;
  readonly durationNs: number;
  readonly dataOut?: Uint8Array;
  readonly ctxOut?: Uint8Array;
}

export interface NativeLinkInfo {
  readonly id: number;
  readonly type: number;
  readonly programId: number;
  readonly attachType?: number;
  readonly cgroupId?: bigint;
  readonly netnsInode?: number;
  readonly interfaceIndex?: number;
}

type Bytes = Uint8Array;
type Handle = NativeHandle;

interface Native {
  useErrorClasses(error: typeof BpfError, verifier: typeof VerifierError): void;
  setLogLevel(level: number): void;
  takeLog(): (number | string)[] | undefined;

  close(handle: Handle): void;
  isOpen(handle: Handle): boolean;
  pin(handle: Handle, path: string): void;
  unpin(handle: Handle, path: string): void;

  objectOpen(
    bytes: Bytes,
    name: string,
    pinRoot: string | undefined,
    btfPath: string | undefined,
  ): Handle;
  objectMaps(object: Handle): NativeMapSpec[];
  objectPrograms(object: Handle): NativeProgramSpec[];
  objectSection(object: Handle, section: string): Bytes;
  objectSetSection(object: Handle, section: string, bytes: Bytes): void;
  objectGlobals(object: Handle): GlobalSpec[];
  objectSetGlobal(object: Handle, name: string, bytes: Bytes): void;
  objectSetMaxEntries(object: Handle, map: string, entries: number): void;
  objectReuseMap(object: Handle, name: string, map: Handle): void;
  objectSetAutocreate(object: Handle, map: string, wanted: boolean): void;
  objectSetAutoload(object: Handle, program: string, wanted: boolean): void;
  objectSetLogLevel(object: Handle, level: number): void;
  objectLoad(object: Handle): void;
  objectMap(object: Handle, name: string): Handle;
  objectProgram(object: Handle, name: string): Handle;
  objectVerifierLog(object: Handle, program: string): string;

  mapCreate(
    name: string,
    type: number,
    keySize: number,
    valueSize: number,
    maxEntries: number,
    flags: number,
    innerMap: Handle | undefined,
  ): Handle;
  mapOpenPinned(path: string): Handle;
  mapOpenById(id: number): Handle;
  mapInfo(map: Handle): NativeMapSpec & { readonly id: number; readonly valueBytes: number };
  mapGet(map: Handle, key: Bytes): Bytes | undefined;
  mapSet(map: Handle, key: Bytes, value: Bytes | Handle, flags: number): void;
  mapDelete(map: Handle, key: Bytes): boolean;
  mapFreeze(map: Handle): void;
  mapUpdateBatch(map: Handle, keys: Bytes, values: Bytes): void;
  mapDeleteBatch(map: Handle, keys: Bytes): number;
  mapReadChunk(map: Handle, cursor: Bytes | undefined, entries: number): NativeEntries | undefined;
  mapKeys(map: Handle): Bytes;
  mapGetMany(map: Handle, keys: Bytes): NativeEntries;

  programOpenPinned(path: string): Handle;
  programOpenById(id: number): Handle;
  programInfo(program: Handle): NativeProgramInfo;
  programTestRun(
    program: Handle,
    dataIn: Bytes | undefined,
    dataOutSize: number,
    ctxIn: Bytes | undefined,
    ctxOutSize: number,
    repeat: number,
  ): TestRunResult;
  enableStats(): Handle;

  linkCreate(
    program: Handle,
    kind: 'cgroup' | 'netns' | 'interface' | 'tracepoint' | 'none',
    target: string | number | undefined,
    attachType: number,
    flags: number,
  ): Handle;
  linkOpenPinned(path: string): Handle;
  linkOpenById(id: number): Handle;
  linkInfo(link: Handle): NativeLinkInfo;
  linkUpdate(link: Handle, program: Handle, old: Handle | undefined): void;
  linkDetach(link: Handle): void;
  linkReadIterator(link: Handle): Bytes;
  queryCgroup(
    path: string,
    attachType: number,
    effective: boolean,
  ): { readonly programIds: number[]; readonly flags: number };

  tcSet(
    program: Handle,
    interfaceIndex: number,
    direction: string,
    handle: number,
    priority: number,
  ): void;
  tcRemove(interfaceIndex: number, direction: string, handle: number, priority: number): boolean;
  tcProgram(
    interfaceIndex: number,
    direction: string,
    handle: number,
    priority: number,
  ): number | undefined;
  netlinkRequest(protocol: number, message: Bytes): Bytes;

  ringOpen(
    map: Handle,
    deliver: (bytes: Bytes, sizes: Uint32Array, errno: number) => void,
    recordsMax: number,
  ): Handle;
  ringDrain(ring: Handle): [bytes: Bytes, sizes: Uint32Array];
  ringRef(ring: Handle, wanted: boolean): void;

  dnsOpen(
    deliver: (bytes: Bytes, clients: string[]) => void,
    udpSizeMax: number,
    boundsUs: Bytes,
  ): Handle;
  dnsListen(
    dns: Handle,
    address: string,
    port: number,
    isDirect: boolean,
    receiveBytes: number,
    sendBytes: number,
  ): [socket: number, port: number];
  dnsUnlisten(dns: Handle, socket: number): boolean;
  dnsSend(dns: Handle, answers: Bytes): void;
  dnsSet(dns: Handle, records: Bytes): number;
  dnsForget(dns: Handle, names: Bytes): void;
  dnsClear(dns: Handle): void;
  dnsPause(dns: Handle, wanted: boolean): void;
  dnsAllow(dns: Handle, blocks: Bytes): void;
  dnsCounts(dns: Handle): Float64Array;

  probeProgramType(type: number): boolean;
  probeMapType(type: number): boolean;
  probeHelper(programType: number, helper: number): boolean;
  helperNames(): string[];
  typeNames(): Record<'map' | 'program' | 'attach' | 'link', string[]>;
  possibleCpus(): number;
  libbpfVersion(): string;
}

function load(): Native {
  const root = dirname(fileURLToPath(import.meta.url));
  // A source checkout builds below addon/; the package carries the file beside index.js.
  const places = [
    ['module_root', 'build', 'Release', 'bindings'],
    ['module_root', 'bindings'],
  ];
  return bindings({ bindings: 'zerohop_bpf', module_root: root, try: places }) as Native;
}

export const native: Native = load();
native.useErrorClasses(BpfError, VerifierError);
