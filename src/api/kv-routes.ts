/** The paths of the key-value store; as routes.ts. */
import { formatPath, isOfType } from '../state/kv-text.ts';
import { ProblemError } from '../state/problem.ts';
import type { KvType, Path } from '../state/replica/kv.ts';
import type { Engine } from './engine.ts';
import * as k from './kv-schemas.ts';
import { route, type Route } from './route.ts';
import * as s from './schemas.ts';

function read(engine: Engine, path: Path, type: KvType | undefined): unknown {
  const entries = engine.kv.read(path, type);
  if (entries.length > 0 || path.length === 0) return { entries };
  const what = type === undefined ? 'nothing' : `no ${type}`;
  throw new ProblemError([
    { code: 'not-found', message: `there is ${what} at ${formatPath(path)}` },
  ]);
}

export const KV: readonly Route[] = [
  route('GET', '/v1/kv', {
    summary:
      'What is at a path of the key-value store and below it; with a type what is at the path itself, map: below it. With follow=true a stream of changes as JSON lines (application/x-ndjson), that goes on',
    params: s.noParams,
    query: k.kvQuery,
    answer: k.kvAnswer,
    handle: (engine, { query }) => read(engine, query.path, query.type),
    stream: (engine, { query }, sink) => {
      const { path, type, follow, initial } = query;
      if (!follow) return undefined;
      const entries = initial ? engine.kv.read(path, type) : [];
      for (const { path: at, value } of entries) sink({ path: at, type: value.type, after: value });
      return engine.kv.follow(path, (change) => {
        if (isOfType(change.path, change.type, path, type)) sink(change);
      });
    },
  }),
  route('POST', '/v1/kv', {
    summary:
      'Change the key-value store: all operations or none; on disk when the answer comes, and on its way to the other hosts',
    params: s.noParams,
    query: s.noQuery,
    body: k.kvWriteBody,
    answer: k.kvWriteAnswer,
    handle: async (engine, { body }) => ({
      changes: await engine.kv.write(k.operationsOf(body)),
    }),
  }),
];
