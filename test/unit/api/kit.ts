/** The API of a fake engine, for the tests of one file: up before the first one, gone after the last. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { ApiClient } from '../../../src/api/io/client.ts';
import { startApi, type ApiServer } from '../../../src/api/io/server.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { FakeEngine } from './fake-engine.ts';

export interface ServedEngine {
  readonly engine: FakeEngine;
  readonly client: ApiClient;
  readonly socketPath: string;
}

export function servedEngine(): ServedEngine {
  const directory = mkdtempSync(join(tmpdir(), 'zerohop-api-'));
  const socketPath = join(directory, 'agent.sock');
  const engine = new FakeEngine();
  const log = { debug: () => undefined, error: () => undefined };
  let api: ApiServer;
  before(async () => {
    api = await startApi(engine, { socketPath, version: '0', log });
  });
  after(async () => {
    await api.close();
    rmSync(directory, { recursive: true });
  });
  return { engine, client: new ApiClient(socketPath), socketPath };
}

/** What is refused, a line for each problem: `code path: message`. */
export async function complaint(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    return error.problems
      .map(({ code, path, message }) => `${code} ${path ?? '-'}: ${message}`)
      .join('\n');
  }
  return assert.fail('accepted');
}
