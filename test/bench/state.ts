/**
 * What the state of one host costs on its disk: time to open, one commit, memory.
 *
 *     node --expose-gc test/bench/state.ts [SERVICES BACKENDS [DIRECTORY]]
 *
 * Prints JSON lines. Wall times, as a commit waits for the disk (DIRECTORY says which), and of one core
 * for opening: in a process of its own each time, five times; the middle one counts.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { State } from '../../src/state/io/state.ts';
import type { BackendRecord, Change } from '../../src/state/records.ts';

const rounds = 500;
const openings = 5;

const round = (value: number): number => Math.round(value * 100) / 100;

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function backendOf(service: number, index: number, weight: number): BackendRecord {
  return {
    service: `svc-${service}`,
    portName: 'http',
    address: `10.${index}.${service >> 8}.${service & 255}`,
    port: 8080,
    weight,
    state: 'active',
  };
}

function fill(state: State, services: number, perService: number): void {
  const changes: Change[] = [];
  for (let s = 0; s < services; s++) {
    const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const }];
    const vips = [`240.0.${s >> 8}.${s & 255}`];
    changes.push({ kind: 'put-service', service: { name: `svc-${s}`, vips, ports } });
    for (let b = 0; b < perService; b++)
      changes.push({ kind: 'put-backend', backend: backendOf(s, b, 1) });
  }
  state.commit(changes, Date.now());
}

/** In a process of its own: milliseconds to open, and the heap that it takes. */
function openOnce(directory: string): void {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const [start, cpu] = [performance.now(), process.threadCpuUsage()];
  const state = State.open(directory);
  const ms = performance.now() - start;
  const { user, system } = process.threadCpuUsage(cpu);
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  state.close();
  process.stdout.write(
    JSON.stringify([ms, (heapUsed - before) / 2 ** 20, rss / 2 ** 20, (user + system) / 1000]),
  );
}

function measure(services: number, perService: number, directory: string): void {
  const state = State.open(directory);
  const begun = performance.now();
  fill(state, services, perService);
  const fillMs = performance.now() - begun;
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const backend = backendOf((i * 7919) % services, i % perService, i + 2);
    const start = performance.now();
    state.commit([{ kind: 'put-backend', backend }], Date.now());
    times.push(performance.now() - start);
  }
  state.close();
  const children = Array.from({ length: openings }, () => {
    const args = ['--expose-gc', import.meta.filename, 'open', directory];
    return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as number[];
  });
  const column = (index: number): number => median(children.map((row) => row[index] ?? Number.NaN));
  const row = {
    services,
    backends: services * perService,
    fillMs: round(fillMs),
    commitMs: round(median(times)),
    commitMsWorst: round(Math.max(...times)),
    fileMiB: round(statSync(join(directory, 'state.db')).size / 2 ** 20),
    openMs: round(column(0)),
    openCpuMs: round(column(3)),
    heapMiB: round(column(1)),
    rssMiB: round(column(2)),
  };
  process.stdout.write(`${JSON.stringify(row)}\n`);
}

const [first = '', second = '', place = tmpdir()] = process.argv.slice(2);
if (first === 'open') openOnce(second);
else {
  const sizes =
    first === ''
      ? [
          [1000, 10],
          [10_000, 10],
        ]
      : [[Number(first), Number(second)]];
  for (const [services = 0, perService = 0] of sizes) {
    const directory = mkdtempSync(join(place, 'zerohop-bench-'));
    try {
      measure(services, perService, directory);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
}
