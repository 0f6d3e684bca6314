/**
 * Tells systemd how the agent is (sd_notify(3)). Node has no Unix datagram
 * sockets, so systemd-notify(1) is run; the unit needs NotifyAccess=all.
 * Without NOTIFY_SOCKET in the environment it does nothing.
 */
import { execFile } from 'node:child_process';

export interface Notice {
  readonly state?: 'READY' | 'RELOADING' | 'STOPPING';
  /** One line for `systemctl status`. */
  readonly status?: string;
  /** From now on, while it starts: instead of what is left of TimeoutStartSec, if that is less. */
  readonly startTimeoutMs?: number;
}

/** A guess: systemd answers in milliseconds, and nothing waits longer for it. */
const NOTIFY_TIMEOUT_MS = 2000;

/** Resolves when systemd was told or could not be; never rejects. */
export function notifySystemd(notice: Notice): Promise<void> {
  if (process.env['NOTIFY_SOCKET'] === undefined) return Promise.resolve();
  const lines: string[] = [];
  if (notice.state !== undefined) lines.push(`${notice.state}=1`);
  if (notice.state === 'RELOADING') lines.push(`MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  if (notice.status !== undefined) lines.push(`STATUS=${notice.status.replaceAll('\n', ' ')}`);
  if (notice.startTimeoutMs !== undefined)
    lines.push(`EXTEND_TIMEOUT_USEC=${notice.startTimeoutMs * 1000}`);
  return new Promise((resolve) => {
    execFile('systemd-notify', lines, { timeout: NOTIFY_TIMEOUT_MS }, () => resolve());
  });
}
