/** Memory of the agent and of its maps in the kernel. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { run } from '../harness/child.ts';
import type { TestHost } from '../harness/host.ts';
import { mapIds } from '../harness/maps.ts';

const SETTLE_MS = 15_000;
/** Longer than the agent waits before it gives memory of a burst back (src/telemetry/io/memory.ts). */
const STILL_SECONDS = 4;

export interface Resident {
  readonly now: number;
  /** Without what is mapped from files: Node's own code is some 50 MB of `now`. */
  readonly anonymous: number;
  /** The most it ever had. */
  readonly most: number;
}

/** Resident bytes of a process (proc(5), VmRSS, RssAnon, VmHWM). */
export function residentBytes(pid: number): Resident {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024;
  return { now: field('VmRSS'), anonymous: field('RssAnon'), most: field('VmHWM') };
}

/** Waits until the resident size stands still for four seconds, fifteen at most. */
export async function settledBytes(pid: number): Promise<Resident> {
  const end = performance.now() + SETTLE_MS;
  let last = residentBytes(pid);
  for (let still = 0; still < STILL_SECONDS && performance.now() < end;) {
    await pause(1000);
    const now = residentBytes(pid);
    still = Math.abs(now.now - last.now) < 2 ** 18 ? still + 1 : 0;
    last = now;
  }
  return last;
}

interface MapInfo {
  readonly id: number;
  readonly name?: string;
  readonly bytes_memlock: number;
}

/** What the kernel accounts for the host's maps. */
export async function mapBytes(host: TestHost): Promise<number> {
  const ids = new Set((await mapIds(host)).values());
  const maps = JSON.parse(await run(['bpftool', '-j', 'map', 'show'])) as MapInfo[];
  return maps
    .filter(({ id }) => ids.has(id))
    .reduce((sum, { bytes_memlock }) => sum + bytes_memlock, 0);
}
