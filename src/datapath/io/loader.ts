/**
 * Loads the programs, adopts what is pinned, and attaches, in two steps so
 * that no program ever runs over half-filled tables:
 *
 *   load()      maps: pinned ones where they fit, fresh ones otherwise
 *   activate()  after the tables are filled: attach or swap, then move the pins
 *
 * Where everything pinned is what this agent would make, nothing is touched.
 */
import { existsSync, rmSync } from 'node:fs';
import { BpfError, BpfMap, openObject, VerifierError } from '../../../addon/index.ts';
import type { LoadedObject, OpenObject } from '../../../addon/index.ts';
import type { Cidr } from '../../net/cidr.ts';
import { ProblemError } from '../../state/problem.ts';
import { decodeU64s, encodeU32, layoutMagic, layouts, layoutVersion } from '../abi.ts';
import { aclHooks, aclMaps, aclParts, entriesOf, hooks, socketMaps, tableMaps } from '../hooks.ts';
import type { AclPart, AnyHook, MapName, MapSizes } from '../hooks.ts';
import { aclLayouts, aclLayoutVersion, decodeAcl, encodeAcl } from '../../acl/abi.ts';
import { openCgroup } from './cgroup.ts';
import type { Cgroup } from './cgroup.ts';
import { canTellSubflows, haveSetRetval, lsmReattaches } from './features.ts';
import { readPinnedMeta } from './kernel.ts';
import { Links } from './links.ts';
import type { Attachment } from './links.ts';
import { objectPath } from './object.ts';
import type { Pins } from './pins.ts';

export interface LoaderOptions {
  readonly pins: Pins;
  readonly cgroup: Cgroup;
  readonly sizes: MapSizes;
  readonly vipCidr4: Cidr;
  readonly vipPrefix6: Cidr;
  /** zh_acl_mode: 0 nothing judges, 1 the cgroup hooks, 2 BPF LSM with them. */
  readonly aclMode: 0 | 1 | 2;
  /** What is worth knowing: why pins were not taken over, what was swapped. */
  readonly notice: (message: string, details: Readonly<Record<string, unknown>>) => void;
}

export class Datapath {
  readonly #options: LoaderOptions;
  readonly #object: LoadedObject;
  /** Names whose maps were made by this load and are not pinned yet. */
  readonly #fresh: ReadonlySet<MapName>;
  readonly #links: Links;
  readonly #aclLinks: Links;
  readonly #aclParts = new Set<AclPart>();
  #cgroup: Cgroup;
  /** The fresh maps, by this process. */
  #arePinned = false;

  private constructor(options: LoaderOptions, object: LoadedObject, fresh: ReadonlySet<MapName>) {
    this.#options = options;
    this.#cgroup = options.cgroup;
    this.#object = object;
    this.#fresh = fresh;
    const { pins, notice } = options;
    const settingsPin = (): string => pins.settings;
    const common = { pins, object, notice, lsmReattaches: lsmReattaches() };
    this.#links = new Links({ ...common, settingsPin, together: true });
    this.#aclLinks = new Links({
      ...common,
      // Attached one by one, in the lives of several agents.
      settingsPin: (hook) => pins.settingsOf(hook.name),
      together: false,
    });
  }

  static load(options: LoaderOptions): Datapath {
    const path = objectPath();
    // Without kernel BTF all that needs it is dead code behind zh_acl_mode 0; the object's own BTF
    // satisfies CO-RE, which looks before the verifier does.
    const object = openObject(path, options.aclMode === 0 ? { btfPath: path } : {});
    try {
      configure(object, options);
      const reused = reusePins(object, options);
      const fresh = new Set(allMaps.filter((name) => !reused.has(name)));
      const loaded = loadObject(object);
      if (fresh.has('zh_acl')) markLayout(loaded);
      return new Datapath(options, loaded, fresh);
    } catch (error) {
      object.close();
      throw error;
    }
  }

  /** Whether an agent before left anything in force. */
  get isPinned(): boolean {
    return this.#options.pins.exist;
  }

  /** Whether the service tables are the ones that were pinned. */
  get adopted(): boolean {
    return !this.#fresh.has('zh_meta');
  }

  /** Whether the maps of access control are the ones that were pinned. */
  get adoptedAcl(): boolean {
    return !this.#fresh.has('zh_acl');
  }

  map(name: MapName): BpfMap {
    return this.#object.map(name);
  }

  /** Attaches these parts of access control where they are not, or not this load's. */
  attachAcl(parts: readonly AclPart[]): void {
    for (const part of parts) {
      this.#aclLinks.attach(aclHooks[part], this.#cgroup);
      this.#aclParts.add(part);
    }
  }

  detachAcl(parts: readonly AclPart[]): void {
    for (const part of parts) {
      this.#aclLinks.detach(aclHooks[part]);
      this.#aclParts.delete(part);
    }
  }

  /** Attaches what is not attached, swaps what differs, pins what is new. */
  activate(): void {
    this.#links.attach(hooks, this.#cgroup);
    const { pins } = this.#options;
    if (this.#arePinned) return;
    // Without zh_meta nothing counts as pinned, without zh_acl nothing of access control: a crash
    // between two maps is no mixture.
    const marks: readonly MapName[] = ['zh_acl', 'zh_meta'];
    for (const mark of marks) if (this.#fresh.has(mark)) rmSync(pins.map(mark), { force: true });
    const last = (name: MapName): number => marks.indexOf(name);
    for (const name of [...this.#fresh].toSorted((x, y) => last(x) - last(y))) {
      const map = this.#object.map(name);
      map.pin(pins.freshMap(name));
      map.close();
      pins.settle(name);
    }
    this.#arePinned = true;
  }

  /**
   * Attaches anew where somebody detached us or the cgroup was made again.
   * Returns whether every hook is in effect then.
   */
  heal(): boolean {
    this.#cgroup = openCgroup(this.#cgroup.path);
    const { aclMode, cgroup } = this.#options;
    if (aclMode === 2 && this.#cgroup.id !== cgroup.id) {
      throw new Error(
        'the cgroup was made anew, and BPF LSM judges below the old one: restart the agent',
      );
    }
    this.#links.attach(hooks, this.#cgroup);
    this.attachAcl([...this.#aclParts]);
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
    const parts = aclParts.filter((part) => this.#aclParts.has(part));
    const acl: readonly AnyHook[] = parts.flatMap((part): readonly AnyHook[] => aclHooks[part]);
    return [
      ...this.#links.attachments(hooks, this.#cgroup),
      ...this.#aclLinks.attachments(acl, this.#cgroup),
    ];
  }

  close(): void {
    this.#links.close();
    this.#aclLinks.close();
    this.#object.close();
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

function hostU64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
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
  object.setGlobal('zh_acl_mode', Uint8Array.of(options.aclMode));
  // The root of the hierarchy has the id 1 (fs/kernfs): then every task of the host is judged.
  const { id } = options.cgroup;
  object.setGlobal('zh_scope_id', hostU64(id === 1n ? 0n : id));
  // Off in the object: not every kernel takes LSM programs, or without BTF any that reads its structures.
  for (const { program } of [...aclHooks.watch, ...aclHooks.ingress]) {
    object.setAutoload(program, options.aclMode !== 0);
  }
  for (const { program } of aclHooks.judge) object.setAutoload(program, options.aclMode === 2);
}

const allMaps: readonly MapName[] = [...tableMaps, ...socketMaps, ...aclMaps];

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
  // An agent from before access control left none; a layout of its own makes all of them anew.
  const aclPinned = readAclLayout(pins) === aclLayoutVersion;
  const considered = aclPinned ? allMaps : allMaps.filter((name) => !isIn(aclMaps, name));
  const misfits = new Map<MapName, string>();
  for (const name of considered) {
    const why = misfit(object, name, pins.map(name));
    if (why !== undefined) misfits.set(name, why);
  }
  // The tables refer to each other by index: all of them, or none.
  const fit = (group: readonly MapName[]): boolean => !group.some((name) => misfits.has(name));
  const [tablesFit, aclFit] = [fit(tableMaps), fit(aclMaps)];
  for (const name of considered) {
    if (misfits.has(name)) continue;
    if ((isIn(tableMaps, name) && !tablesFit) || (isIn(aclMaps, name) && !aclFit)) continue;
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

function isIn(group: readonly MapName[], name: MapName): boolean {
  return group.includes(name);
}

/** zh_acl.layout of what is pinned; undefined where there is none. */
function readAclLayout(pins: Pins): number | undefined {
  if (!existsSync(pins.map('zh_acl'))) return undefined;
  using map = BpfMap.openPinned(pins.map('zh_acl'));
  const bytes = map.info.valueSize === aclLayouts.acl.bytes ? map.get(encodeU32(0)) : undefined;
  return bytes === undefined ? undefined : decodeAcl(bytes).layout;
}

/** New maps of access control are ours, and hold no policy yet. */
function markLayout(object: LoadedObject): void {
  using map = object.map('zh_acl');
  const none = { gen: 0, automata: [0, 0], agentTgid: 0, agentStart: 0n } as const;
  map.set(encodeU32(0), encodeAcl({ ...none, layout: aclLayoutVersion }));
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
            message: `this kernel rejects the program ${error.program} (${error.code}): ${error.line}`,
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
