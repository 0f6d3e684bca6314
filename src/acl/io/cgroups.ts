/**
 * The cgroup v2 tree below the mount's root: every cgroup with its id and its
 * path, from one walk. Paths are bytes, as the kernel has them.
 */
import { type BigIntStats, readdirSync, readFileSync, statSync } from 'node:fs';
import { mounts } from '../../datapath/io/cgroup.ts';

export interface CgroupNode {
  /** Inode, which is the id that bpf_get_current_cgroup_id() gives. */
  readonly id: bigint;
  /** From the mount's root: `/` itself, `/system.slice/web.service`. */
  readonly path: string;
  readonly parent: CgroupNode | undefined;
  /** The last component, as bytes; empty for the root. */
  readonly name: Uint8Array;
}

/** The mount that a cgroup directory is in: its path. The deepest, and of equal ones the last, wins. */
export function cgroupMountOf(directory: string): string {
  let best = '';
  for (const mount of mounts()) {
    if (mount.type !== 'cgroup2') continue;
    const inside = mount.path === directory || directory.startsWith(`${mount.path}/`);
    if (inside && mount.path.length >= best.length) best = mount.path;
  }
  if (best === '') throw new Error(`${directory} is below no cgroup2 mount`);
  return best;
}

function statOf(path: Buffer): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined; // removed meanwhile
  }
}

function foldersIn(path: Buffer): Buffer[] {
  try {
    return readdirSync(path, { withFileTypes: true, encoding: 'buffer' })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

const slash = Buffer.from('/');

/** Every cgroup that is there all the time of the walk, parents first. */
export function* walkCgroups(root: string): Generator<CgroupNode, void, undefined> {
  const top = Buffer.from(root);
  const stack: { path: Buffer; name: Buffer; parent: CgroupNode | undefined }[] = [
    { path: top, name: Buffer.alloc(0), parent: undefined },
  ];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    const stat = statOf(at.path);
    if (stat === undefined) continue;
    const { parent, name } = at;
    const above = parent === undefined || parent.parent === undefined ? '' : parent.path;
    const node = { id: stat.ino, path: `${above}/${name.toString('utf8')}`, parent, name };
    yield node;
    // A folder of kernfs has as many links as folders in it, and two (fs/kernfs/inode.c).
    if (stat.nlink === 2n) continue;
    for (const child of foldersIn(at.path)) {
      stack.push({ path: Buffer.concat([at.path, slash, child]), name: child, parent: node });
    }
  }
}

/** The id of one cgroup by its path from the mount's root; undefined when there is none. */
export function cgroupIdAt(root: string, path: string): bigint | undefined {
  return statOf(Buffer.from(`${root}${path}`))?.ino;
}

/** Paths that are kept, those of cgroups that are gone too: their events come later. A guess. */
const pathsMax = 16_384;

/** How often a tree may be walked for the sake of names in the log. A guess. */
const walkEveryMs = 1000;

/** Deeper than any tree; ends the search in what a map should not hold. */
const depthMax = 256;

/** What the kernel wrote down when a cgroup was made. */
export interface CgroupPlace {
  readonly parent: bigint;
  readonly name: string;
}

/** Ids to paths, for the log. */
export class CgroupPaths {
  readonly #root: string;
  readonly #placeOf: (id: bigint) => CgroupPlace | undefined;
  readonly #paths = new Map<bigint, string>();
  #nextWalkMs = 0;

  constructor(root: string, placeOf: (id: bigint) => CgroupPlace | undefined) {
    this.#root = root;
    this.#placeOf = placeOf;
  }

  learn(id: bigint, path: string): void {
    this.#paths.delete(id);
    this.#paths.set(id, path);
    if (this.#paths.size <= pathsMax) return;
    for (const oldest of this.#paths.keys()) return void this.#paths.delete(oldest);
  }

  /** `pid`: a process that was in it a moment ago; 0: none is known. */
  pathOf(id: bigint, pid: number): string | undefined {
    const known = this.#recalled(id) ?? this.#fromProcess(id, pid);
    if (known !== undefined) return known;
    const now = performance.now();
    if (now < this.#nextWalkMs) return undefined;
    this.#nextWalkMs = now + walkEveryMs;
    for (const node of walkCgroups(this.#root)) this.learn(node.id, node.path);
    return this.#recalled(id);
  }

  /** Also of one that is gone: units that fail at once are denied and over within a tick. */
  #recalled(id: bigint): string | undefined {
    const names: string[] = [];
    let path: string | undefined;
    for (let at = id; names.length <= depthMax;) {
      path = this.#paths.get(at);
      const place = path === undefined ? this.#placeOf(at) : undefined;
      if (place === undefined) break;
      names.unshift(place.name);
      at = place.parent;
    }
    if (path === undefined || names.length === 0) return path;
    const whole = `${path === '/' ? '' : path}/${names.join('/')}`;
    this.learn(id, whole);
    return whole;
  }

  #fromProcess(id: bigint, pid: number): string | undefined {
    try {
      const text = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
      const path = /^0::(\/.*)$/m.exec(text)?.[1];
      // It may have moved, and with cgroup namespaces the path may start elsewhere.
      if (path === undefined || cgroupIdAt(this.#root, path) !== id) return undefined;
      this.learn(id, path);
      return path;
    } catch {
      return undefined;
    }
  }
}
