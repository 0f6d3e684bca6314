/** Which member a person means, and what would be lost with one. */
import { isNodeId } from '../cluster/names.ts';
import { ProblemError } from '../state/problem.ts';
import { didYouMean } from '../state/suggest.ts';
import type { MemberAnswer } from './cluster-schemas.ts';

/**
 * The member of that id, or the only one of that name; those that left count only where no other
 * has the name, since a host that comes back is a new member with its old name.
 * The id of a member that is long forgotten is good too. Throws ProblemError.
 */
export function findMember(
  members: readonly MemberAnswer[],
  text: string,
): Pick<MemberAnswer, 'id' | 'name'> & Partial<Pick<MemberAnswer, 'signer'>> {
  const known = members.find((member) => member.id === text);
  if (known !== undefined) return known;
  if (isNodeId(text)) return { id: text, name: '' };
  const named = members.filter((member) => member.name === text);
  const present = named.filter((member) => member.state !== 'left');
  const candidates = present.length > 0 ? present : named;
  const [only, ...others] = candidates;
  if (only === undefined) {
    const names = members.map((member) => member.name);
    const hint = didYouMean(text, names, '`zerohop members` shows names and ids');
    const message = `there is no member "${text}"`;
    throw new ProblemError([{ code: 'not-found', message, path: 'node', hint }]);
  }
  if (others.length > 0) {
    const message = `${candidates.length} members are called "${text}"`;
    const hint = `say which by its id: ${candidates.map(({ id, state }) => `${id} (${state})`).join(', ')}`;
    throw new ProblemError([{ code: 'conflict', message, path: 'node', hint }]);
  }
  return only;
}

/** Whether others stay behind without the CA's key when this host leaves. */
export function isLastSigner(members: readonly MemberAnswer[]): boolean {
  const self = members.find((member) => member.self);
  const others = members.filter((member) => !member.self && member.state !== 'left');
  if (self?.signer !== true || others.length === 0) return false;
  return !others.some((member) => member.signer && member.state !== 'dead');
}
