/**
 * The agent's log: one JSON object a line on standard error (journald keeps it).
 */
import { destination, pino, stdTimeFunctions, type Logger as PinoLogger } from 'pino';
import type { LogLevel } from '../../config/schema.ts';

export type Logger = PinoLogger;

export function createLogger(level: LogLevel, fd = 2): Logger {
  // Written at once: the last lines before a kill -9 are the ones that count.
  const sink = destination({ fd, sync: true });
  // A reader that went away (EPIPE) or a full disk must not end the agent.
  sink.on('error', () => undefined);
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: 'message',
      errorKey: 'error',
    },
    sink,
  );
}
