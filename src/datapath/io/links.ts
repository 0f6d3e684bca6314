/**
 * Programs attached through pinned links: attaches what is missing, swaps what
 * differs with no moment without a program, and leaves alone what is right.
 */
import { existsSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { BpfError, BpfLink, BpfMap, BpfProgram, queryCgroup } from '../../../addon/index.ts';
import type { LoadedObject } from '../../../addon/index.ts';
import type { AnyHook, Hook, TraceHook } from '../hooks.ts';
import type { Cgroup } from './cgroup.ts';
import type { Pins } from './pins.ts';

export interface Attachment {
  readonly hook: string;
  readonly programId: number;
  /** Whether the kernel runs it: for sockets of the cgroup, or at all. */
  readonly effective: boolean;
}

export interface LinksOptions {
  readonly pins: Pins;
  readonly object: LoadedObject;
  /** What is worth knowing: what was swapped, and why. */
  readonly notice: (message: string, details: Readonly<Record<string, unknown>>) => void;
  /** Where the settings of a hook's program are pinned. */
  readonly settingsPin: (hook: AnyHook) => string;
  /**
   * The programs share what they were loaded with: one that differs, or is
   * missing, has all of them swapped.
   */
  readonly together: boolean;
  /** Whether a BPF LSM program that was detached can be attached again (features.ts). */
  readonly lsmReattaches: boolean;
}

export class Links {
  readonly #options: LinksOptions;
  readonly #links = new Map<string, BpfLink>();
  /** Unpinned links that hold programs which could not be attached again; they go with this process. */
  readonly #parked = new Map<string, BpfLink>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Each of the hooks runs the loaded program afterwards, through a pinned link. */
  attach(hooks: readonly AnyHook[], cgroup: Cgroup): void {
    const { together, notice } = this.#options;
    const found = hooks.map((hook) => {
      this.#links.get(hook.name)?.close();
      this.#links.delete(hook.name);
      const link = this.#pinned(hook, cgroup);
      return { hook, link, why: this.#difference(hook, link) };
    });
    const first = found.find(({ why }) => why !== undefined)?.why;
    for (const { hook, link, why } of found) {
      const reason = together ? first : why;
      if (link === undefined) this.#keep(hook, this.#attachAnew(hook, cgroup));
      else if (reason === undefined) this.#links.set(hook.name, link);
      else this.#keep(hook, this.#swap(hook, link));
    }
    if (found.some(({ link, why }) => link !== undefined && (together ? first : why) !== undefined))
      notice('swapped the attached programs', { why: first });
  }

  /** None of the hooks runs anything of ours afterwards; says whether one did. */
  detach(hooks: readonly AnyHook[]): boolean {
    const { pins, settingsPin } = this.#options;
    let any = false;
    for (const hook of hooks) {
      any ||= existsSync(pins.link(hook.name));
      rmSync(pins.link(hook.name), { force: true });
      rmSync(pins.program(hook.name), { force: true });
      rmSync(settingsPin(hook), { force: true });
      const link = this.#links.get(hook.name);
      if (link !== undefined) this.#letGo(hook, link);
      this.#links.delete(hook.name);
    }
    return any;
  }

  #letGo(hook: AnyHook, link: BpfLink): void {
    const { object, lsmReattaches } = this.#options;
    using program = object.program(hook.program);
    if (lsmReattaches || !isLsm(hook) || link.info.programId !== program.info.id) link.close();
    else this.#parked.set(hook.name, link);
  }

  /** What the kernel says of each now. */
  attachments(hooks: readonly AnyHook[], cgroup: Cgroup): Attachment[] {
    return hooks.map((hook) => {
      const programId = this.#links.get(hook.name)?.info.programId ?? 0;
      const effective =
        hook.attachType === undefined
          ? // Nothing can take such a link away but the end of its last reference: the pin keeps it.
            programId !== 0 && existsSync(this.#options.pins.link(hook.name))
          : runningPrograms(cgroup.path, hook).includes(programId);
      return { hook: hook.name, programId, effective };
    });
  }

  close(): void {
    for (const link of [...this.#links.values(), ...this.#parked.values()]) link.close();
    this.#links.clear();
    this.#parked.clear();
  }

  #keep(hook: AnyHook, link: BpfLink): void {
    this.#links.set(hook.name, link);
    const { object, pins, settingsPin } = this.#options;
    // Only for #difference: opening a program by its id would take CAP_SYS_ADMIN.
    using program = object.program(hook.program);
    using settings = settingsOf(object);
    for (const [pinned, path] of [
      [program, pins.program(hook.name)],
      [settings, settingsPin(hook)],
    ] as const) {
      rmSync(path, { force: true });
      pinned.pin(path);
    }
  }

  /** Tracing links cannot be updated: the new one comes before the old one goes. */
  #swap(hook: AnyHook, link: BpfLink): BpfLink {
    using program = this.#options.object.program(hook.program);
    if (hook.attachType !== undefined) {
      link.update(program);
      return link;
    }
    const { pins } = this.#options;
    const next = attachTrace(program, hook);
    try {
      rmSync(pins.freshLink(hook.name), { force: true });
      next.pin(pins.freshLink(hook.name));
      renameSync(pins.freshLink(hook.name), pins.link(hook.name));
    } catch (error) {
      next.close();
      throw error;
    } finally {
      link.close();
    }
    return next;
  }

  #attachAnew(hook: AnyHook, cgroup: Cgroup): BpfLink {
    using program = this.#options.object.program(hook.program);
    const parked = this.#parked.get(hook.name);
    this.#parked.delete(hook.name);
    const link =
      parked ??
      (hook.attachType === undefined
        ? attachTrace(program, hook)
        : program.attachCgroup(cgroup.path));
    try {
      link.pin(this.#options.pins.link(hook.name));
      return link;
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Why a hook does not run the loaded program; undefined when it does. */
  #difference(hook: AnyHook, link: BpfLink | undefined): string | undefined {
    const { pins, object, settingsPin } = this.#options;
    if (link === undefined) return `${hook.name} was not attached`;
    if (!existsSync(pins.program(hook.name)) || !existsSync(settingsPin(hook))) {
      return 'unknown program';
    }
    using attached = BpfProgram.openPinned(pins.program(hook.name));
    using program = object.program(hook.program);
    if (attached.info.id !== link.info.programId) return 'unknown program';
    if (attached.info.tag !== program.info.tag) return 'other instructions';
    using before = BpfMap.openPinned(settingsPin(hook));
    using now = settingsOf(object);
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
  #pinned(hook: AnyHook, cgroup: Cgroup): BpfLink | undefined {
    const { pins, notice } = this.#options;
    const path = pins.link(hook.name);
    if (!existsSync(path)) return undefined;
    const link = BpfLink.openPinned(path);
    if (hook.attachType === undefined) return link;
    const at = BigInt(link.info.cgroupId ?? 0);
    if (at === cgroup.id) return link;
    link.close();
    unlinkSync(path);
    const why = at === 0n ? 'its cgroup is gone' : 'it is attached to another cgroup';
    notice('replaced a pinned link', { hook: hook.name, why, cgroup: cgroup.path });
    return undefined;
  }
}

function isLsm(hook: AnyHook): boolean {
  return hook.attachType === undefined && hook.tracepoint === undefined;
}

function attachTrace(program: BpfProgram, { tracepoint }: TraceHook): BpfLink {
  return tracepoint === undefined ? program.attach() : program.attachRawTracepoint(tracepoint);
}

/** The map of the object's `const volatile` settings. */
function settingsOf(object: LoadedObject): BpfMap {
  const name = object.mapNames.find((map) => map.endsWith('.rodata'));
  if (name === undefined) throw new Error('bug: the object has no settings');
  return object.map(name);
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
