/**
 * Loads the programs, adopts what is pinned, and attaches, in two steps so
 * that no program ever runs over half-filled tables:
 *
 *   load()      maps: pinned ones where they fit, fresh ones otherwise
 *   activate()  after the tables are filled: attach or swap, then move the pins
 *
 * Where everything pinned is what this agent would make, nothing is touched.
 */
import { existsSync, rmSync, unlinkSync } from 'node:fs';
import {
  BpfError,
  BpfLink,
  BpfMap,
  BpfProgram,
  openObject,
  queryCgroup,
  VerifierError,
} from '../../../addon/index.ts';
import type { LoadedObject, OpenObject } from '../../../addon/index.ts';
import type { Cidr } from '../../net/cidr.ts';
import { ProblemError } from '../../state/problem.ts';
import { decodeU64s, encodeU32, layoutMagic, layouts, layoutVersion } from '../abi.ts';
import { entriesOf, hooks, socketMaps, tableMaps } from '../hooks.ts';
import type { Hook, MapName, MapSizes } from '../hooks.ts';
import { openCgroup } from './cgroup.ts';
import type { Cgroup } from './cgroup.ts';
import { canTellSubflows, haveSetRetval } from './features.ts';
import { readPinnedMeta } from './kernel.ts';
import { objectPath } from './object.ts';
import type { Pins } from './pins.ts';

export interface LoaderOptions {
  readonly pins: Pins;
  readonly cgroup: Cgroup;
  readonly sizes: MapSizes;
  readonly vipCidr4: Cidr;
  readonly vipPrefix6: Cidr;
  /** What is worth knowing: why pins were not taken over, what was swapped. */
  readonly notice: (message: string, details: Readonly<Record<string, unknown>>) => void;
}

export interface Attachment {
  readonly hook: string;
  readonly programId: number;
  /** Whether the kernel runs it for sockets of the cgroup. */
  readonly effective: boolean;
}

export class Datapath {
  readonly #options: LoaderOptions;
  readonly #object: LoadedObject;
  /** Names whose maps were made by this load and are not pinned yet. */
  readonly #fresh: ReadonlySet<MapName>;
  readonly #links = new Map<string, BpfLink>();
  #cgroup: Cgroup;

  private constructor(options: LoaderOptions, object: LoadedObject, fresh: ReadonlySet<MapName>) {
    this.#options = options;
    this.#cgroup = options.cgroup;
    this.#object = object;
    this.#fresh = fresh;
  }

  static load(options: LoaderOptions): Datapath {
    const object = openObject(objectPath());
    try {
      configure(object, options);
      const reused = reusePins(object, options);
      const fresh = new Set([...tableMaps, ...socketMaps].filter((name) => !reused.has(name)));
      return new Datapath(options, loadObject(object), fresh);
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** Whether the service tables are the ones that were pinned. */
  get adopted(): boolean {
    return !this.#fresh.has('zh_meta');
  }

  map(name: MapName): BpfMap {
    return this.#object.map(name);
  }

  /** Attaches what is not attached, swaps what differs, pins what is new. */
  activate(): void {
    this.#attachAll();
    const { pins } = this.#options;
    // Without zh_meta nothing counts as pinned: a crash between two maps is no mixture.
    if (this.#fresh.has('zh_meta')) rmSync(pins.map('zh_meta'), { force: true });
    const last = (name: MapName): number => (name === 'zh_meta' ? 1 : 0);
    for (const name of [...this.#fresh].toSorted((x, y) => last(x) - last(y))) {
      const map = this.#object.map(name);
      map.pin(pins.freshMap(name));
      map.close();
      pins.settle(name);
    }
  }

  /**
   * Attaches anew where somebody detached us or the cgroup was made again.
   * Returns whether every hook is in effect then.
   */
  heal(): boolean {
    this.#cgroup = openCgroup(this.#cgroup.path);
    for (const link of this.#links.values()) link.close();
    this.#attachAll();
    return this.attachments().every((at) => at.effective);
  }

  /** What the programs counted. */
  counters(): { spilled: number; untracked: number; flowsEvicted: number; noSuchPort: number } {
    using map = this.#object.map('zh_counters');
    const counts = decodeU64s(map.get(encodeU32(0)) ?? new Uint8Array(layouts.counters.bytes));
    const [spilled = 0, untracked = 0, flowsEvicted = 0, noSuchPort = 0] = counts.map(Number);
    return { spilled, untracked, flowsEvicted, noSuchPort };
  }

  /** What the kernel says of each hook now. */
  attachments(): Attachment[] {
    const cgroup = this.#cgroup;
    return hooks.map((hook) => {
      const programId = this.#links.get(hook.name)?.info.programId ?? 0;
      const ids = runningPrograms(cgroup.path, hook);
      return { hook: hook.name, programId, effective: ids.includes(programId) };
    });
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#object.close();
  }

  /**
   * All or nothing: the programs of one load share their settings, so one that
   * differs has all swapped (each swap is atomic in the kernel).
   */
  #attachAll(): void {
    const links = hooks.map((hook) => ({ hook, link: this.#pinnedLink(hook) }));
    const reasons = links.map(({ hook, link }) => this.#difference(hook, link));
    const why = reasons.find((reason) => reason !== undefined);
    for (const { hook, link } of links) {
      if (link === undefined) this.#links.set(hook.name, this.#attachAnew(hook));
      else this.#links.set(hook.name, why === undefined ? link : this.#swap(hook, link));
    }
    if (why === undefined) return;
    if (links.some(({ link }) => link !== undefined)) {
      this.#options.notice('swapped the attached programs', { why });
    }
    using settings = this.#settings();
    rmSync(this.#options.pins.settings, { force: true });
    settings.pin(this.#options.pins.settings);
  }

  #swap(hook: Hook, link: BpfLink): BpfLink {
    using program = this.#object.program(hook.program);
    link.update(program);
    this.#pinProgram(hook, program);
    return link;
  }

  #attachAnew(hook: Hook): BpfLink {
    using program = this.#object.program(hook.program);
    const link = program.attachCgroup(this.#cgroup.path);
    try {
      link.pin(this.#options.pins.link(hook.name));
      this.#pinProgram(hook, program);
      return link;
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Only for #difference: opening a program by its id would take CAP_SYS_ADMIN. */
  #pinProgram(hook: Hook, program: BpfProgram): void {
    const path = this.#options.pins.program(hook.name);
    rmSync(path, { force: true });
    program.pin(path);
  }

  /** The map of the object's `const volatile` settings. */
  #settings(): BpfMap {
    const name = this.#object.mapNames.find((map) => map.endsWith('.rodata'));
    if (name === undefined) throw new Error('bug: the object has no settings');
    return this.#object.map(name);
  }

  /** Why a hook does not run the loaded program; undefined when it does. */
  #difference(hook: Hook, link: BpfLink | undefined): string | undefined {
    const { pins } = this.#options;
    if (link === undefined) return `${hook.name} was not attached`;
    if (!existsSync(pins.program(hook.name)) || !existsSync(pins.settings))
      return 'unknown program';
    using attached = BpfProgram.openPinned(pins.program(hook.name));
    using program = this.#object.program(hook.program);
    if (attached.info.id !== link.info.programId) return 'unknown program';
    if (attached.info.tag !== program.info.tag) return 'other instructions';
    using before = BpfMap.openPinned(pins.settings);
    using now = this.#settings();
    const others = (all: readonly number[], settings: BpfMap): string =>
      all
        .filter((id) => id !== settings.info.id)
        .toSorted((x, y) => x - y)
        .join();
    if (others(attached.info.mapIds, before) !== others(program.info.mapIds, now)) {
      return 'other maps';
    }
    const [old, wanted] = [before, now].map((map) => Buffer.from(map.get(new Uint8Array(4)) ?? []));
    return wanted !== undefined && old?.equals(wanted) === true ? undefined : 'other settings';
  }

  /** The pinned link if it still acts on our cgroup; otherwise its pin goes. */
  #pinnedLink(hook: Hook): BpfLink | undefined {
    const { pins, notice } = this.#options;
    const cgroup = this.#cgroup;
    const path = pins.link(hook.name);
    if (!existsSync(path)) return undefined;
    const link = BpfLink.openPinned(path);
    const at = BigInt(link.info.cgroupId ?? 0);
    if (at === cgroup.id) return link;
    link.close();
    unlinkSync(path);
    const why = at === 0n ? 'its cgroup is gone' : 'it is attached to another cgroup';
    notice('replaced a pinned link', { hook: hook.name, why, cgroup: cgroup.path });
    return undefined;
  }
}

/** Program ids that run for sockets of the cgroup, ancestors' included. */
export function effectivePrograms(cgroupPath: string, hook: Hook): readonly number[] {
  return queryCgroup(cgroupPath, hook.attachType, { effective: true }).programIds;
}

/** As effectivePrograms; none where the cgroup is gone. */
function runningPrograms(cgroupPath: string, hook: Hook): readonly number[] {
  try {
    return effectivePrograms(cgroupPath, hook);
  } catch (error) {
    if (error instanceof BpfError && error.code === 'ENOENT') return [];
    throw error;
  }
}

function u32(bytes: Uint8Array): Uint8Array {
  return bytes.slice(0, 4);
}

function maskBytes(prefixLength: number): Uint8Array {
  return Uint8Array.from({ length: 4 }, (_, i) => {
    const bits = Math.min(8, Math.max(0, prefixLength - i * 8));
    return (0xff << (8 - bits)) & 0xff;
  });
}

function hostU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function configure(object: OpenObject, options: LoaderOptions): void {
  for (const [name, entries] of Object.entries(entriesOf(options.sizes))) {
    object.setMaxEntries(name, entries);
  }
  object.setGlobal('zh_socks_mask', hostU32(options.sizes.sockets - 1));
  object.setGlobal('zh_have_set_retval', Uint8Array.of(haveSetRetval() ? 1 : 0));
  object.setGlobal('zh_have_mptcp', Uint8Array.of(canTellSubflows() ? 1 : 0));
  object.setGlobal('zh_vip4_net', u32(options.vipCidr4.first.subarray(12)));
  object.setGlobal('zh_vip4_mask', maskBytes(options.vipCidr4.prefixLength));
  object.setGlobal('zh_vip6_net', options.vipPrefix6.first.slice(0, 8));
}

const forgottenSockets =
  'sockets connected before show their backend, not the VIP, in getpeername()';

/** Takes over pinned maps that are exactly what this object wants. */
function reusePins(object: OpenObject, options: LoaderOptions): Set<MapName> {
  const reused = new Set<MapName>();
  const { pins, notice } = options;
  if (!pins.exist) return reused;
  const meta = readPinnedMeta(pins.map('zh_meta'));
  if (meta?.layout !== layoutVersion || meta.magic !== layoutMagic) {
    notice('the pinned maps have another layout: all maps are made anew and swapped in', {
      pinned: meta?.layout,
      wanted: layoutVersion,
      consequence: forgottenSockets,
    });
    return reused;
  }
  const misfits = new Map<MapName, string>();
  for (const name of [...tableMaps, ...socketMaps]) {
    const why = misfit(object, name, pins.map(name));
    if (why !== undefined) misfits.set(name, why);
  }
  // The tables refer to each other by index: all of them, or none.
  const tablesFit = !tableMaps.some((name) => misfits.has(name));
  for (const name of [...tableMaps, ...socketMaps]) {
    const isTable = (tableMaps as readonly string[]).includes(name);
    if (misfits.has(name) || (isTable && !tablesFit)) continue;
    const map = BpfMap.openPinned(pins.map(name));
    object.reuseMap(name, map);
    map.close();
    reused.add(name);
  }
  if (misfits.size > 0) {
    const forgets = misfits.has('zh_socks') || misfits.has('zh_socks_more');
    notice('some pinned maps differ from the configuration and are made anew', {
      maps: Object.fromEntries(misfits),
      ...(forgets ? { consequence: forgottenSockets } : {}),
    });
  }
  return reused;
}

function misfit(object: OpenObject, name: MapName, path: string): string | undefined {
  const wanted = object.maps().find((map) => map.name === name);
  if (wanted === undefined) throw new Error(`bug: the object has no map ${name}`);
  if (!existsSync(path)) return 'not pinned';
  const map = BpfMap.openPinned(path);
  try {
    const { info } = map;
    for (const field of ['type', 'keySize', 'valueSize', 'maxEntries', 'flags'] as const) {
      if (info[field] !== wanted[field])
        return `${field} ${info[field]} instead of ${wanted[field]}`;
    }
    return undefined;
  } finally {
    map.close();
  }
}

function loadObject(object: OpenObject): LoadedObject {
  try {
    return object.load();
  } catch (error) {
    if (error instanceof VerifierError) {
      throw new ProblemError(
        [
          {
            code: 'kernel',
            message: `this kernel rejects the program ${error.program}: ${error.line}`,
            hint: 'please report it with the output of: zerohop doctor --verifier-log',
          },
        ],
        { cause: error },
      );
    }
    if (error instanceof BpfError && (error.code === 'EPERM' || error.code === 'EACCES')) {
      throw new ProblemError(
        [
          {
            code: 'unavailable',
            message: `the kernel does not let this process load BPF programs: ${error.message}`,
            hint: 'run as root or through the systemd unit (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON); a container or kernel lockdown may forbid it',
          },
        ],
        { cause: error },
      );
    }
    if (error instanceof BpfError && error.code === 'ENOMEM') {
      throw new ProblemError(
        [
          {
            code: 'limit',
            message: 'not enough memory for the maps',
            hint: 'lower the sizes under maps: in the configuration',
          },
        ],
        { cause: error },
      );
    }
    throw error;
  }
}
