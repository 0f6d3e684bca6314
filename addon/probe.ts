/**
 * What the running kernel can do, asked by trying. An error means that it cannot be found out this
 * way.
 */
import { existsSync } from 'node:fs';
import { mapTypeNumber, programTypeNumber } from './constants.ts';
import type { MapTypeLike, ProgramTypeLike } from './constants.ts';
import { argumentError } from './errors.ts';
import { logged } from './log.ts';
import { native } from './native.ts';

let helperIds: ReadonlyMap<string, number> | undefined;

function helperId(helper: unknown): number {
  if (typeof helper === 'number') return helper;
  helperIds ??= new Map(native.helperNames().map((name, id) => [name, id]));
  const id = typeof helper === 'string' ? helperIds.get(helper.replace(/^bpf_/, '')) : undefined;
  if (id === undefined) throw argumentError('probe helper', `unknown helper ${String(helper)}`);
  return id;
}

export const probe = {
  programType(type: ProgramTypeLike): boolean {
    const number = programTypeNumber(type, 'probe program type');
    return logged(() => native.probeProgramType(number));
  },

  mapType(type: MapTypeLike): boolean {
    const number = mapTypeNumber(type, 'probe map type');
    return logged(() => native.probeMapType(number));
  },

  /**
   * By name (`bpf_get_netns_cookie`, with or without its bpf_) or number; not for tracing and LSM
   * programs.
   */
  helper(programType: ProgramTypeLike, helper: string | number): boolean {
    const number = programTypeNumber(programType, 'probe helper');
    const id = helperId(helper);
    return logged(() => native.probeHelper(number, id));
  },

  /** Whether the kernel carries its own BTF, without which CO-RE cannot relocate. */
  btf(): boolean {
    return existsSync('/sys/kernel/btf/vmlinux');
  },
} as const;

export function possibleCpus(): number {
  return native.possibleCpus();
}

export function libbpfVersion(): string {
  return native.libbpfVersion();
}
