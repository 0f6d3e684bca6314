/**
 * What a route is: the schemas of what it takes and answers, and what it does.
 * The tables of routes are in routes.ts and acl-routes.ts.
 */
import type * as z from 'zod';
import type { Command } from '../state/commands.ts';
import { ProblemError } from '../state/problem.ts';
import { parse } from '../state/validate.ts';
import type { Engine } from './engine.ts';
import type { OutcomeAnswer } from './schemas.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** A request as it came in, nothing believed yet. */
export interface RawRequest {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

export interface Route {
  readonly method: Method;
  /** With `{name}` for parameters, as OpenAPI writes them. */
  readonly path: string;
  readonly summary: string;
  readonly status: 200 | 201;
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  /** Absent: the path takes no body. */
  readonly body?: z.ZodType;
  readonly bodyBytesMax: number;
  readonly answer: z.ZodType;
  /** Of an answer that is text; absent: JSON. */
  readonly contentType?: string;
  /** Checks the request and does it; rejects with ProblemError. */
  run(engine: Engine, request: RawRequest): Promise<unknown>;
  /**
   * For a request that wants a stream of values instead of one answer: begins
   * it, and answers how to end it; undefined for any other request. Throws ProblemError.
   */
  readonly stream?: (engine: Engine, request: RawRequest, sink: Sink) => (() => void) | undefined;
}

/** Takes one value of a stream. Never blocks: what is too much is dropped and counted there. */
export type Sink = (value: unknown) => void;

/** A service with all it may have is far below this. */
const BODY_BYTES_MAX = 1024 * 1024;

interface Definition<P, Q, B> {
  readonly summary: string;
  readonly status?: 201;
  readonly params: z.ZodType<P>;
  readonly query: z.ZodType<Q>;
  readonly body?: z.ZodType<B>;
  readonly bodyBytesMax?: number;
  readonly answer: z.ZodType;
  readonly contentType?: string;
  readonly handle: (engine: Engine, request: Checked<P, Q, B>) => unknown;
  readonly stream?: (
    engine: Engine,
    request: Checked<P, Q, B>,
    sink: Sink,
  ) => (() => void) | undefined;
}

interface Checked<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
}

export function route<P, Q, B = undefined>(
  method: Method,
  path: string,
  definition: Definition<P, Q, B>,
): Route {
  const { params, query, body, handle, stream, contentType } = definition;
  return {
    method,
    path,
    summary: definition.summary,
    status: definition.status ?? 200,
    params,
    query,
    ...(body === undefined ? {} : { body }),
    bodyBytesMax: definition.bodyBytesMax ?? BODY_BYTES_MAX,
    answer: definition.answer,
    ...(contentType === undefined ? {} : { contentType }),
    run: async (engine, request) => await handle(engine, checked(definition, request)),
    ...(stream === undefined
      ? {}
      : {
          stream: (engine, request, sink) => stream(engine, checked(definition, request), sink),
        }),
  };
}

/** The request as its schemas make it; throws ProblemError with everything that is wrong. */
function checked<P, Q, B>(
  { params, query, body }: Definition<P, Q, B>,
  request: RawRequest,
): Checked<P, Q, B> {
  const parts = [parse(params, request.params), parse(query, request.query)] as const;
  const parsedBody = body === undefined ? undefined : parse(body, request.body);
  const problems = [...parts, parsedBody].flatMap((part) =>
    part === undefined || part.ok ? [] : part.problems,
  );
  if (problems.length > 0 || !parts[0].ok || !parts[1].ok) throw new ProblemError(problems);
  const value = parsedBody?.ok === true ? parsedBody.value : undefined;
  // A route without a body has B = undefined.
  return { params: parts[0].value, query: parts[1].value, body: value as B };
}

export async function submit(
  engine: Engine,
  command: Command,
  dryRun: boolean,
): Promise<OutcomeAnswer> {
  const { revision, changes, mapWrites, warnings } = await engine.submit(command, { dryRun });
  return { revision, dryRun, changes: [...changes], mapWrites, warnings: [...warnings] };
}
