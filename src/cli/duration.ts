/** Durations as people type them: `90s`, `10m`, `24h`, `7d`. */
import { UsageError } from './output.ts';

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
type Unit = keyof typeof SECONDS;

function isUnit(text: string): text is Unit {
  return Object.hasOwn(SECONDS, text);
}

/** In the largest unit that leaves nothing over: 5400 is `90m`. */
export function formatDuration(seconds: number): string {
  for (const unit of ['d', 'h', 'm'] as const) {
    if (seconds >= SECONDS[unit] && seconds % SECONDS[unit] === 0)
      return `${seconds / SECONDS[unit]}${unit}`;
  }
  return `${seconds}s`;
}

/** Seconds. `what` is what the message calls it. */
export function parseDuration(text: string, what: string, minS: number, maxS: number): number {
  const examples = 'a whole number and s, m, h or d: 90s, 10m, 24h, 7d';
  const [, digits, unit] = /^([0-9]+)([a-zA-Z]*)$/.exec(text) ?? [];
  if (digits === undefined || unit === undefined)
    throw new UsageError(`${what} "${text}" is not a duration`, examples);
  if (unit === '')
    throw new UsageError(
      `${what} "${text}" has no unit`,
      `write ${digits}s, ${digits}m or ${digits}h`,
    );
  if (!isUnit(unit)) throw new UsageError(`${what} "${text}" has the unit "${unit}"`, examples);
  const seconds = Number(digits) * SECONDS[unit];
  if (seconds < minS || seconds > maxS) {
    const limit =
      seconds < minS
        ? `shorter than ${formatDuration(minS)}`
        : `longer than ${formatDuration(maxS)}`;
    throw new UsageError(`${what} "${text}" is ${limit}`);
  }
  return seconds;
}
