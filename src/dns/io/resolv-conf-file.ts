/**
 * /etc/resolv.conf with our server first, and as it was before. A copy of what was there lies beside
 * it; our lines say by a hash what the rest was, so that what others change meanwhile is seen.
 */
import { createHash } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { pointedAtUs, serverWithoutMarks, withoutOwnLines, withoutServer } from '../resolv-conf.ts';
import { copyOf, isSymlink, moveTo, readText, remove, replaceWith, writeText } from './etc-file.ts';
import { RESOLV_CONF } from './host-upstreams.ts';
import type { Plan } from './install-plan.ts';

export const BACKUP = `${RESOLV_CONF}.before-zerohop`;

/** One word; also that there was no file. */
export function hashOf(text: string | undefined): string {
  if (text === undefined) return 'absent';
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** `replaceStub`: a symlink to the stub of systemd-resolved becomes a file, that names the stub after us. */
export function planResolvConf(
  address: string,
  { replaceStub }: { readonly replaceStub: boolean },
): Plan {
  const before = readText(RESOLV_CONF);
  const { rest: others, mark: known } = withoutOwnLines(before ?? '');
  const unmarked = known === undefined ? unmarkedServer() : undefined;
  const rest = unmarked === undefined ? others : withoutServer(others, unmarked);
  const mark = known ?? hashOf(unmarked === undefined ? before : rest);
  const after = pointedAtUs(rest, { address, mark });
  // Where our lines are what it was before is kept already.
  const isKept = known !== undefined || unmarked !== undefined;
  const apply = (): void => {
    // Without our lines it is what others wrote since: an older copy is of no use.
    if (!isKept) keepBackup(before === undefined || replaceStub);
    try {
      if (replaceStub) replaceWith(RESOLV_CONF, after);
      else writeText(RESOLV_CONF, after);
    } catch (error) {
      // Where the file is damaged the copy is all that is left of it.
      if (!isKept && readText(RESOLV_CONF) === before) remove(BACKUP);
      throw error;
    }
  };
  const step = `${RESOLV_CONF}: ${address} goes first, the other servers after it (copy: ${BACKUP})`;
  return { method: 'resolv.conf', edits: after === before ? [] : [{ step, apply }] };
}

/** `isReplaced`: a file takes the place of a symlink, if there is one; it may lead nowhere yet. */
function keepBackup(isReplaced: boolean): void {
  remove(BACKUP);
  if (isReplaced && isSymlink(RESOLV_CONF)) copyOf(RESOLV_CONF, BACKUP, 'the symlink');
  else if (existsSync(RESOLV_CONF)) copyOf(RESOLV_CONF, BACKUP, 'the file');
}

/** Our server where the file names it without our marks; undefined: it does not. */
export function unmarkedServer(): string | undefined {
  const before = existsSync(BACKUP) ? readText(BACKUP) : undefined;
  const text = readText(RESOLV_CONF) ?? '';
  if (before === undefined || withoutOwnLines(text).mark !== undefined) return undefined;
  return serverWithoutMarks(text, { before, isHere: isOfThisHost });
}

function isOfThisHost(host: string): boolean {
  if (host.startsWith('127.') || host === '::1') return true;
  const addresses = Object.values(networkInterfaces()).flatMap((list = []) => list);
  return addresses.some(({ address }) => address === host);
}

/** undefined: nothing of ours is there. */
export function planResolvConfBack(): Plan | undefined {
  const method = 'resolv.conf';
  const before = readText(RESOLV_CONF);
  const { rest, mark } = withoutOwnLines(before ?? '');
  const hasBackup = lstatSync(BACKUP, { throwIfNoEntry: false }) !== undefined;
  if (mark === undefined) {
    if (!hasBackup) return undefined;
    const server = unmarkedServer();
    if (server !== undefined) {
      const warning = `${RESOLV_CONF} was rewritten by another program since \`zerohop dns install\`, and still names ${server}, without the marks of our lines: it stays as it is; \`mv ${BACKUP} ${RESOLV_CONF}\` puts back what it was before`;
      return { method, edits: [], warnings: [warning] };
    }
    const step = `${BACKUP}: removed`;
    const warning = `${RESOLV_CONF} was rewritten by another program since \`zerohop dns install\`: it stays as it is`;
    return { method, edits: [{ step, apply: () => remove(BACKUP) }], warnings: [warning] };
  }
  if (mark === hashOf(undefined) && rest === '' && !hasBackup) {
    const step = `${RESOLV_CONF}: removed, as there was none before`;
    return { method, edits: [{ step, apply: () => remove(RESOLV_CONF) }] };
  }
  if (mark === hashOf(rest) || (mark === hashOf(undefined) && rest === '')) {
    const step = `${RESOLV_CONF}: as it was before`;
    return { method, edits: [{ step, apply: () => putBack(rest, hasBackup) }] };
  }
  const warning = `${RESOLV_CONF} was changed by somebody else since \`zerohop dns install\`: only our lines are removed${hasBackup ? `; what it was before is in ${BACKUP}` : ''}`;
  const step = `${RESOLV_CONF}: our lines are removed`;
  return {
    method,
    edits: [{ step, apply: () => writeText(RESOLV_CONF, rest) }],
    warnings: [warning],
  };
}

/** The very file where that was kept: with its owner and times, or as the symlink that it was. */
function putBack(rest: string, hasBackup: boolean): void {
  if (hasBackup && !isSymlink(RESOLV_CONF)) return moveTo(BACKUP, RESOLV_CONF);
  writeText(RESOLV_CONF, rest);
  remove(BACKUP);
}
