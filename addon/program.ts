/** Loaded programs: what they are, attaching them, running them once; run-time statistics. */
import { attachTypeNumber, programTypeName } from './constants.ts';
import type { AttachTypeLike, ProgramType, Unknown } from './constants.ts';
import { argumentError } from './errors.ts';
import { BpfLink } from './link.ts';
import { logged } from './log.ts';
import { native } from './native.ts';
import type { NativeHandle, TestRunResult } from './native.ts';
import { Pinnable } from './pinnable.ts';
import { handleOf, Resource } from './resource.ts';

export interface ProgramInfo {
  readonly id: number;
  /** At most 15 bytes when opened by pin or id: the kernel keeps no more. */
  readonly name: string;
  readonly type: ProgramType | Unknown;
  /** Hash of the instructions, hexadecimal. */
  readonly tag: string;
  /** Both count only while statistics are enabled, see enableStats(). */
  readonly runCount: number;
  readonly runTimeNs: number;
  readonly mapIds: readonly number[];
  readonly loadedAt: Date;
  /** Instructions the verifier walked (≥ 5.16, else 0). */
  readonly instructionsVerified: number;
}

export interface AttachOptions {
  /** Needed when the program was opened by pin or id: the kernel does not tell. */
  readonly attachType?: AttachTypeLike;
  /** Flags of BPF_LINK_CREATE, such as XDP_FLAGS_*. */
  readonly flags?: number;
}

export interface TestRunOptions {
  readonly dataIn?: Uint8Array;
  /** Room for the data afterwards: by default that of dataIn and 256 bytes, none without dataIn. */
  readonly dataOutSize?: number;
  readonly ctxIn?: Uint8Array;
  /** Room for the context afterwards: by default none. */
  readonly ctxSize?: number;
  readonly repeat?: number;
}

type TargetKind = 'cgroup' | 'netns' | 'interface' | 'tracepoint' | 'none';

export class BpfProgram extends Pinnable {
  readonly #attachType: number | undefined;

  constructor(handle: NativeHandle, attachType?: number) {
    super(handle, `BpfProgram ${native.programInfo(handle).name}`);
    this.#attachType = attachType;
  }

  static openPinned(path: string): BpfProgram {
    return new BpfProgram(native.programOpenPinned(path));
  }

  static openById(id: number): BpfProgram {
    return new BpfProgram(native.programOpenById(id));
  }

  get info(): ProgramInfo {
    const { type, loadedAtMs, ...rest } = native.programInfo(handleOf(this, 'program info'));
    return { ...rest, type: programTypeName(type), loadedAt: new Date(loadedAtMs) };
  }

  /**
   * A link on a cgroup directory (≥ 5.7). Links always attach beside others (BPF_F_ALLOW_MULTI).
   */
  attachCgroup(cgroupPath: string, options: AttachOptions = {}): BpfLink {
    return this.#attach('cgroup', cgroupPath, options);
  }

  /**
   * A link on a network namespace, given as a path such as /proc/self/ns/net: sk_lookup,
   * flow_dissector.
   */
  attachNetns(netnsPath: string, options: AttachOptions = {}): BpfLink {
    return this.#attach('netns', netnsPath, options);
  }

  /** A link on an interface, by index: xdp. */
  attachInterface(interfaceIndex: number, options: AttachOptions = {}): BpfLink {
    return this.#attach('interface', interfaceIndex, options);
  }

  /** A link on a raw tracepoint, such as cgroup_mkdir (links: ≥ 5.8). */
  attachRawTracepoint(name: string): BpfLink {
    return this.#attach('tracepoint', name, { attachType: 0 });
  }

  /** A link for programs whose section names the target: lsm/…, fentry/…, iter/… */
  attach(options: AttachOptions = {}): BpfLink {
    return this.#attach('none', undefined, options);
  }

  #attach(kind: TargetKind, target: string | number | undefined, options: AttachOptions): BpfLink {
    const { attachType, flags = 0 } = options ?? {};
    const number =
      attachType === undefined ? this.#attachType : attachTypeNumber(attachType, 'link create');
    if (number === undefined) {
      throw argumentError('link create', 'attachType is needed for a program opened by pin or id');
    }
    const program = handleOf(this, 'link create');
    return new BpfLink(logged(() => native.linkCreate(program, kind, target, number, flags)));
  }

  /** Runs it on the given packet or context (BPF_PROG_TEST_RUN), where its type can do that. */
  testRun(options: TestRunOptions = {}): TestRunResult {
    const { dataIn, ctxIn, ctxSize = 0, repeat = 0 } = options ?? {};
    const room = dataIn instanceof Uint8Array ? dataIn.length + 256 : 0;
    const { dataOutSize = room } = options ?? {};
    const handle = handleOf(this, 'program test run');
    return native.programTestRun(handle, dataIn, dataOutSize, ctxIn, ctxSize, repeat);
  }
}

/** Counts runs and run time of all programs on the host until closed; costs some 20 ns per run. */
export class Stats extends Resource {
  constructor() {
    super(native.enableStats(), 'Stats');
  }
}

export function enableStats(): Stats {
  return new Stats();
}
