/**
 * Netlink, and the classifier programs (tc) that libbpf attaches over it. They have no links:
 * they stay until removed, or until their interface goes.
 */
import { logged } from './log.ts';
import { native } from './native.ts';
import type { BpfProgram } from './program.ts';
import { handleOf } from './resource.ts';

export interface TcPlace {
  readonly interfaceIndex: number;
  readonly direction: 'ingress' | 'egress';
  /** Which of several programs there; from 1 on. */
  readonly handle: number;
  /** Lower ones run first; from 1 on. */
  readonly priority: number;
}

/** Runs the program there (direct action), in the place of the one before: no moment without one. */
export function setTcProgram(program: BpfProgram, place: TcPlace): void {
  const { interfaceIndex, direction, handle, priority } = place;
  const handleOfProgram = handleOf(program, 'tc set');
  logged(() => native.tcSet(handleOfProgram, interfaceIndex, direction, handle, priority));
}

/** Whether there was one. */
export function removeTcProgram(place: TcPlace): boolean {
  const { interfaceIndex, direction, handle, priority } = place;
  return logged(() => native.tcRemove(interfaceIndex, direction, handle, priority));
}

/** The id of the program that runs there; undefined without one, or without the interface. */
export function tcProgramId(place: TcPlace): number | undefined {
  const { interfaceIndex, direction, handle, priority } = place;
  return logged(() => native.tcProgram(interfaceIndex, direction, handle, priority));
}

/**
 * Sends one message, header and all, which must ask for an acknowledgement or a dump, and gives
 * the messages that answer it, one behind the other. Protocols are those of linux/netlink.h:
 * 0 is NETLINK_ROUTE. What the kernel refuses is a BpfError with its errno.
 */
export function netlinkRequest(protocol: number, message: Uint8Array): Uint8Array {
  return native.netlinkRequest(protocol, message);
}
