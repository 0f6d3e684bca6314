/**
 * Answers that go on: one JSON value a line (application/x-ndjson). A reader
 * that is too slow loses values, and is told how many; nobody waits for it.
 */
import type { FastifyReply } from 'fastify';
import { ProblemError } from '../../state/problem.ts';
import type { Sink } from '../route.ts';

/** Streams at a time; far below ApiLimits.connectionsMax. A guess. */
const STREAMS_MAX = 32;

/** Unsent bytes of one stream, beyond which its values are dropped. A guess: some thousand lines. */
const QUEUE_BYTES_MAX = 1024 * 1024;

/** An empty line now and then: neither side takes the other for dead (ApiLimits.idleTimeoutMs). */
const HEARTBEAT_MS = 10_000;

export class Streams {
  readonly #ends = new Set<() => void>();

  /** Begins a stream if `begin` gives one; false if it does not want to. Throws what it throws. */
  start(reply: FastifyReply, begin: (sink: Sink) => (() => void) | undefined): boolean {
    const { raw } = reply;
    let early: string[] | undefined = [];
    let dropped = 0;
    const write = (line: string): void => {
      if (early !== undefined) early.push(line);
      else if (raw.writableLength < QUEUE_BYTES_MAX) raw.write(line);
      else dropped++;
    };
    const end = begin((value) => write(`${JSON.stringify(value)}\n`));
    if (end === undefined) return false;
    if (this.#ends.size >= STREAMS_MAX) {
      end();
      throw tooMany();
    }
    reply.hijack();
    raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    raw.flushHeaders();
    const lines = early.join('');
    early = undefined;
    if (lines !== '') raw.write(lines);
    raw.on('drain', () => {
      if (dropped > 0) raw.write(`${JSON.stringify({ dropped })}\n`);
      dropped = 0;
    });
    const beat = setInterval(() => write('\n'), HEARTBEAT_MS);
    const stop = (): void => {
      clearInterval(beat);
      this.#ends.delete(stop);
      end();
      raw.end();
    };
    this.#ends.add(stop);
    raw.on('close', stop);
    raw.on('error', stop);
    return true;
  }

  /** Ends all, for the end of the server. */
  close(): void {
    for (const end of this.#ends) end();
  }
}

function tooMany(): ProblemError {
  return new ProblemError([
    {
      code: 'unavailable',
      message: `${STREAMS_MAX} streams are open already`,
      hint: 'end one of them: each `zerohop acl log -f` and `zerohop kv watch` is one',
    },
  ]);
}
