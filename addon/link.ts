/** Links: a program attached somewhere, for as long as the link is open or pinned. */
import { attachTypeName, attachTypeNumber, linkTypeName } from './constants.ts';
import type { AttachType, AttachTypeLike, LinkType, Unknown } from './constants.ts';
import { native } from './native.ts';
import type { NativeHandle } from './native.ts';
import { Pinnable } from './pinnable.ts';
import { handleOf } from './resource.ts';
import type { Resource } from './resource.ts';

export interface LinkInfo {
  readonly id: number;
  readonly type: LinkType | Unknown;
  readonly programId: number;
  readonly attachType?: AttachType | Unknown;
  /** The cgroup's inode; 0n once it was removed or the link detached. */
  readonly cgroupId?: bigint;
  /** 0 once the network namespace is gone. */
  readonly netnsInode?: number;
  readonly interfaceIndex?: number;
}

export class BpfLink extends Pinnable {
  constructor(handle: NativeHandle) {
    super(handle, 'BpfLink');
  }

  static openPinned(path: string): BpfLink {
    return new BpfLink(native.linkOpenPinned(path));
  }

  static openById(id: number): BpfLink {
    return new BpfLink(native.linkOpenById(id));
  }

  /** Asked anew each time: a cgroup may have died, a program may have been swapped. */
  get info(): LinkInfo {
    const { type, attachType, ...rest } = native.linkInfo(handleOf(this, 'link info'));
    return {
      ...rest,
      type: linkTypeName(type),
      ...(attachType === undefined ? {} : { attachType: attachTypeName(attachType) }),
    };
  }

  /**
   * Swaps the program with no moment without one; with `old`, only if that one is attached now
   * (else EPERM).
   */
  update(program: Resource, options: { readonly old?: Resource } = {}): void {
    const old = options?.old === undefined ? undefined : handleOf(options.old, 'link update');
    native.linkUpdate(handleOf(this, 'link update'), handleOf(program, 'link update'), old);
  }

  /** Detaches at once, pins or not (≥ 5.9). */
  detach(): void {
    native.linkDetach(handleOf(this, 'link detach'));
  }

  /** Runs an iterator once and returns what it wrote (≥ 5.8). */
  readIterator(): Uint8Array {
    return native.linkReadIterator(handleOf(this, 'iterator read'));
  }
}

export interface CgroupQuery {
  readonly programIds: readonly number[];
  /** BPF_F_ALLOW_OVERRIDE 1, BPF_F_ALLOW_MULTI 2 */
  readonly flags: number;
}

/** What is attached to a cgroup; `effective`: what runs there, its ancestors' programs included. */
export function queryCgroup(
  cgroupPath: string,
  attachType: AttachTypeLike,
  options: { readonly effective?: boolean } = {},
): CgroupQuery {
  const number = attachTypeNumber(attachType, 'cgroup query');
  return native.queryCgroup(cgroupPath, number, options?.effective ?? false);
}
