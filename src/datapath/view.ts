/**
 * What the kernel would do with the tables as they are: the draw of
 * bpf/balance.h, said in shares instead of random numbers.
 */
import { backendState, bytesToKey, noSuchPort } from './abi.ts';
import type { NameEntry } from './abi.ts';
import { sharesOf } from './alias.ts';
import type { Member, Tables } from './tables.ts';

export interface ViewMember {
  readonly id: number;
  /** 16 bytes, network order. */
  readonly addr: Uint8Array;
  readonly port: number;
  readonly weight: number;
  /** enum zh_backend_state */
  readonly state: number;
  readonly incarnation: number;
  /** Of all draws, 0–1. */
  readonly share: number;
}

export type View =
  /** Not a VIP, or a VIP of ours without this port. */
  | { readonly kind: 'pass' }
  | { readonly kind: 'no-such-port' }
  /** Every draw is rejected: entries that do not belong together. */
  | { readonly kind: 'torn'; readonly index: number }
  | {
      readonly kind: 'service';
      readonly index: number;
      readonly name: NameEntry | undefined;
      readonly gen: number;
      readonly members: readonly ViewMember[];
    };

function consistent(members: readonly Member[], index: number, gen: number): boolean {
  const ids = new Set(members.map((member) => member.id));
  return members.every(
    ({ slot, backend }) =>
      slot.gen === gen &&
      ids.has(slot.alias) &&
      backend.service === index &&
      backend.state !== backendState.free,
  );
}

export function viewOf(tables: Tables, key: string): View {
  const index = tables.vips.get(key);
  if (index === undefined) return { kind: 'pass' };
  if (index === noSuchPort) return { kind: 'no-such-port' };
  const entry = tables.service(index);
  const members = tables.members(entry);
  const named = bytesToKey(tables.services.get(index).subarray(0, 20)) === key;
  const whole = members.length === entry.members && [0, entry.members].includes(entry.count);
  if (!named || !whole || !consistent(members, index, entry.gen)) return { kind: 'torn', index };
  const at = new Map(members.map((member, i) => [member.id, i]));
  const columns = members.map(({ slot }) => ({
    threshold: slot.threshold,
    alias: at.get(slot.alias) ?? 0,
  }));
  const shares = entry.count === 0 ? [] : sharesOf(columns, members.length);
  return {
    kind: 'service',
    index,
    name: tables.names.get(index),
    gen: entry.gen,
    members: members.map(({ id, slot, backend }, i) => ({
      id,
      addr: backend.addr,
      port: backend.port,
      weight: slot.weight,
      state: backend.state,
      incarnation: backend.incarnation,
      share: shares[i] ?? 0,
    })),
  };
}
