/**
 * libbpf's own words. A sink belongs to the thread that registered it and hears what libbpf says
 * during calls of that thread, after each call and never inside of it. Errors carry libbpf's
 * warnings anyway (`detail`), verifier logs too; a sink is for the curious.
 */
import { argumentError } from './errors.ts';
import { native } from './native.ts';

export type LogLevel = 'warn' | 'info' | 'debug';
export type LogSink = (level: LogLevel, text: string) => void;

const levels = ['warn', 'info', 'debug'] as const;
const sinks = new Map<symbol, { readonly sink: LogSink; readonly level: number }>();

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

function drain(): void {
  const lines = native.takeLog() ?? [];
  for (let at = 0; at < lines.length; at += 2) {
    const level = Number(lines[at]);
    for (const { sink, level: wanted } of sinks.values()) {
      if (level > wanted) continue;
      try {
        sink(levels[level] ?? 'debug', String(lines[at + 1]));
      } catch (error) {
        rethrowLater(error);
      }
    }
  }
}

function applyLevel(): void {
  native.setLogLevel(Math.max(-1, ...[...sinks.values()].map(({ level }) => level)) + 1);
}

/**
 * Registers a sink; the returned function removes it. A sink that throws makes an uncaught
 * exception.
 */
export function onLog(sink: LogSink, options: { readonly level?: LogLevel } = {}): () => void {
  if (typeof sink !== 'function') throw argumentError('log', 'the sink must be a function');
  const level = levels.indexOf(options?.level ?? 'warn');
  if (level < 0) throw argumentError('log', "level must be 'warn', 'info' or 'debug'");
  const key = Symbol('sink');
  sinks.set(key, { sink, level });
  applyLevel();
  return () => {
    sinks.delete(key);
    applyLevel();
  };
}

/** Runs a call that libbpf may have something to say about. */
export function logged<T>(call: () => T): T {
  if (sinks.size === 0) return call();
  try {
    return call();
  } finally {
    drain();
  }
}
