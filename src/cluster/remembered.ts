/** Who is not there, by what a member that does not run as one knows: its memory and its state. */
import type { Replica } from '../state/replica/replica.ts';
import { Liveness, type Remembered } from './liveness.ts';
import { Revocations } from './revocation.ts';
import { Roll } from './roll.ts';

/** As Member tells them: whoever was found dead stays so until it is seen. */
export function rememberedAbsence(
  replica: Replica,
  absent: readonly Remembered[],
): { readonly unreachable: ReadonlySet<string>; readonly gone: Roll['gone'] } {
  const liveness = new Liveness({ self: replica.node, remembered: absent });
  const roll = new Roll({ replica, liveness, revocations: new Revocations() });
  roll.begin(0);
  return { unreachable: liveness.unreachable, gone: roll.gone };
}
