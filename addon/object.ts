/**
 * Object files in two phases, each a type: OpenObject may be changed, LoadedObject hands out maps
 * and programs. load() ends the first phase, whether it succeeds or throws.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { attachTypeName, mapTypeName, programTypeName } from './constants.ts';
import type { AttachType, ProgramType, Unknown } from './constants.ts';
import { argumentError, BpfError } from './errors.ts';
import { logged } from './log.ts';
import { BpfMap } from './map.ts';
import type { MapSpec } from './map.ts';
import { native } from './native.ts';
import type { GlobalSpec, NativeHandle } from './native.ts';
import { BpfProgram } from './program.ts';
import { handleOf, release, Resource } from './resource.ts';

export interface ProgramSpec {
  readonly name: string;
  readonly section: string;
  readonly type: ProgramType | Unknown;
  readonly attachType: AttachType | Unknown;
  readonly autoload: boolean;
}

export interface OpenOptions {
  /** Default: the file's name without its endings, or `object`. */
  readonly name?: string;
  /** Where maps declared with LIBBPF_PIN_BY_NAME are pinned; default /sys/fs/bpf. */
  readonly pinRoot?: string;
  /** Where CO-RE finds the kernel's types instead of /sys/kernel/btf/vmlinux. */
  readonly btfPath?: string;
}

export interface DataSection {
  get(): Uint8Array;
  set(bytes: Uint8Array): void;
}

export class OpenObject extends Resource {
  readonly name: string;
  #ended = false;

  constructor(handle: NativeHandle, name: string) {
    super(handle, `BPF object ${name}`);
    this.name = name;
  }

  override get closed(): boolean {
    return this.#ended || super.closed;
  }

  /** After load() this does nothing: the LoadedObject owns what there is. */
  override close(): void {
    if (!this.#ended) super.close();
  }

  maps(): MapSpec[] {
    return native
      .objectMaps(this.#handle('maps'))
      .map((spec) => ({ ...spec, type: mapTypeName(spec.type) }));
  }

  programs(): ProgramSpec[] {
    return native.objectPrograms(this.#handle('programs')).map((spec) => ({
      ...spec,
      type: programTypeName(spec.type),
      attachType: attachTypeName(spec.attachType),
    }));
  }

  /**
   * The bytes of a data section as they will be loaded: .rodata, .data, .bss or one like
   * .rodata.name.
   */
  rodata(section = '.rodata'): DataSection {
    return {
      get: () => native.objectSection(this.#handle('section'), section),
      set: (bytes) => native.objectSetSection(this.#handle('section'), section, bytes),
    };
  }

  /** The global variables of all data sections, from the object's BTF. */
  globals(): GlobalSpec[] {
    return native.objectGlobals(this.#handle('globals'));
  }

  /** Sets a global variable, typically a `const volatile`, in the host's byte order. */
  setGlobal(name: string, bytes: Uint8Array): void {
    native.objectSetGlobal(this.#handle('global'), name, bytes);
  }

  setMaxEntries(map: string, entries: number): void {
    logged(() => native.objectSetMaxEntries(this.#handle('map size'), map, entries));
  }

  /**
   * Uses an existing map; type, sizes and flags must agree, its number of entries is taken over.
   */
  reuseMap(name: string, map: BpfMap): void {
    const given = handleOf(map, 'object reuse map');
    logged(() => native.objectReuseMap(this.#handle('reuse map'), name, given));
  }

  /** A map that is not created must not be used by any program that is loaded. */
  setAutocreate(map: string, wanted: boolean): void {
    native.objectSetAutocreate(this.#handle('autocreate'), map, wanted);
  }

  setAutoload(program: string, wanted: boolean): void {
    native.objectSetAutoload(this.#handle('autoload'), program, wanted);
  }

  /**
   * 0 asks for a verifier log only after a rejection; 1, 2 (more) and 4 (statistics) always, see
   * verifierLog().
   */
  setLogLevel(level: number): void {
    native.objectSetLogLevel(this.#handle('log level'), level);
  }

  /** Raises RLIMIT_MEMLOCK by itself where the kernel (< 5.11) still accounts maps against it. */
  load(): LoadedObject {
    const handle = this.#handle('load');
    logged(() => native.objectLoad(handle));
    const { maps, programs } = this.#catalogue(handle);
    this.#ended = true;
    release(this);
    return new LoadedObject(handle, this.name, maps, programs);
  }

  #catalogue(handle: NativeHandle): { maps: string[]; programs: Map<string, number> } {
    const programs = native.objectPrograms(handle).filter(({ autoload }) => autoload);
    return {
      maps: native.objectMaps(handle).map(({ name }) => name),
      programs: new Map(programs.map(({ name, attachType }) => [name, attachType])),
    };
  }

  #handle(operation: string): NativeHandle {
    if (this.#ended) {
      throw new BpfError('ERR_BPF_STATE', `object ${operation}`, 'the object is loaded already');
    }
    return handleOf(this, operation);
  }
}

export class LoadedObject extends Resource {
  readonly name: string;
  readonly mapNames: readonly string[];
  readonly programNames: readonly string[];
  readonly #attachTypes: ReadonlyMap<string, number>;

  constructor(
    handle: NativeHandle,
    name: string,
    maps: readonly string[],
    programs: ReadonlyMap<string, number>,
  ) {
    super(handle, `BPF object ${name}`);
    this.name = name;
    this.mapNames = maps;
    this.#attachTypes = programs;
    this.programNames = [...programs.keys()];
  }

  /** A handle of its own, to be closed by the caller; it outlives this object. */
  map(name: string): BpfMap {
    return new BpfMap(native.objectMap(handleOf(this, 'object map'), name));
  }

  /** A handle of its own, to be closed by the caller; it outlives this object. */
  program(name: string): BpfProgram {
    const handle = native.objectProgram(handleOf(this, 'object program'), name);
    return new BpfProgram(handle, this.#attachTypes.get(name));
  }

  /** What the verifier wrote while accepting it: empty unless setLogLevel() asked. */
  verifierLog(program: string): string {
    return native.objectVerifierLog(handleOf(this, 'object log'), program);
  }
}

function readObject(path: string): Uint8Array {
  if (path === '' || path.includes('\0')) throw argumentError('object open', 'path is not a path');
  try {
    return readFileSync(path);
  } catch (error) {
    const { code = 'EIO', errno } = error as NodeJS.ErrnoException;
    const extras = errno === undefined ? {} : { errno: -errno };
    throw new BpfError(code, `object open ${path}`, 'the file cannot be read', extras);
  }
}

/**
 * Opens an object from its file or its bytes. The bytes are copied. Objects are trusted input, see
 * README.
 */
export function openObject(source: string | Uint8Array, options: OpenOptions = {}): OpenObject {
  const fallback = typeof source === 'string' ? basename(source).replace(/\..*$/, '') : '';
  const { name = fallback.slice(0, 60) || 'object', pinRoot, btfPath } = options ?? {};
  const bytes = typeof source === 'string' ? readObject(source) : source;
  return new OpenObject(
    logged(() => native.objectOpen(bytes, name, pinRoot, btfPath)),
    name,
  );
}
