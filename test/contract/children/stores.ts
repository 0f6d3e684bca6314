/** Directories for stores, disks that fill up, and what a state says as plain values. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { State } from '../../../src/state/io/state.ts';
import type { StateSnapshot } from '../../../src/state/records.ts';

export const root = mkdtempSync(join(tmpdir(), 'zerohop-store-'));
after(() => rmSync(root, { recursive: true, force: true }));

let directories = 0;
export function fresh(): string {
  return join(root, `data-${directories++}`);
}

/** Without what only says how a snapshot came to be, and the node of a host in no cluster. */
export function content(snapshot: StateSnapshot): unknown {
  const sorted = <T>(map: ReadonlyMap<string, T>): [string, T][] =>
    [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const plain = {
    services: sorted(snapshot.services),
    backends: sorted(snapshot.backends),
    acls: sorted(snapshot.acls),
    records: sorted(snapshot.records),
  };
  return JSON.parse(
    JSON.stringify(plain, (key, value: unknown) =>
      key === 'node' && value === 'local' ? undefined : value,
    ),
  );
}

/** All that a state holds, down to which writes of whom it knows. */
export function everything(state: State): unknown {
  const { revision } = state.snapshot();
  return {
    revision,
    ...(content(state.snapshot()) as object),
    node: state.node,
    writer: state.replica.writer,
    clock: state.replica.clockState(),
    digests: new Map(state.replica.digests()),
    kv: state.kv.all(),
    nodes: [...state.view.nodes()],
  };
}

export function reopened(directory: string): StateSnapshot {
  const state = State.open(directory);
  state.close();
  return state.snapshot();
}

/** `everything()` of what is on disk. */
export function stored(directory: string): unknown {
  const state = State.open(directory);
  state.close();
  return everything(state);
}

/** Runs `work` on a tmpfs of so many KiB; needs root. */
export async function withTmpfs(
  kib: number,
  work: (directory: string, remount: (options: string) => void) => Promise<void> | void,
): Promise<void> {
  const mount = fresh();
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'tmpfs', mount]);
  try {
    await work(mount, (options) => execFileSync('mount', ['-o', `remount,${options}`, mount]));
  } finally {
    execFileSync('umount', ['-l', mount]);
  }
}

/** Takes all room that is left below `mount`, until the returned function is called. */
export function fillUp(mount: string): () => void {
  const ballast = join(mount, 'ballast');
  try {
    for (let i = 0; ; i++) writeFileSync(ballast, Buffer.alloc(4096), { flag: 'a' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  return () => rmSync(ballast);
}

/** Runs a child on the directory, kills it when it has said so many lines, and answers the last that came. */
export async function killedAfter(
  script: string,
  directory: string,
  lines: number,
): Promise<string> {
  const child = spawn(process.execPath, [join(import.meta.dirname, script), directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let last = '';
  let count = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    last = line;
    if (++count === lines) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  assert.ok(count >= lines, `${script} ended by itself`);
  return last;
}

export const asRoot = { skip: process.getuid?.() === 0 ? false : 'mounting needs root' };
