/**
 * Waiting for the addon's DNS thread while nothing of JavaScript has its turn: blocks, with a bound.
 * What the thread did is seen from outside, in /proc.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { patience } from './eventually.ts';

const TIMEOUT_MS = 20_000;

export function blockUntil(what: string, isSo: () => boolean): void {
  const end = performance.now() + TIMEOUT_MS * patience;
  while (!isSo()) if (performance.now() > end) assert.fail(`waited in vain for ${what}`);
}

/** Whether a socket at this port, over IPv4, has datagrams that nobody read yet. */
export function isUnread(port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = readFileSync('/proc/net/udp', 'utf8').trim().split('\n').slice(1);
  return sockets.some((line) => {
    const [, address = '', , , queues = ''] = line.trim().split(/\s+/);
    return address.endsWith(local) && !queues.endsWith(':00000000');
  });
}

function isAsleep(task: string): boolean {
  try {
    const stat = readFileSync(`/proc/self/task/${task}/stat`, 'utf8');
    return !stat.includes('(zerohop-dns)') || stat.slice(stat.lastIndexOf(')') + 2).startsWith('S');
  } catch {
    return true; // it has ended
  }
}

/** All that was sent to this port is read; and answered, or handed on: the thread sleeps again. */
export function blockUntilRead(port: number): void {
  blockUntil(`what was sent to port ${port} to be read`, () => !isUnread(port));
  blockUntil('the thread to rest', () => readdirSync('/proc/self/task').every(isAsleep));
}
