/** The agent with 10,000 services × 10 backends: filling, changing, starting, memory. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { TestHost } from '../harness/host.ts';
import { catalogOf, Filled, serviceAt, sizesFor, vipAt } from './fill.ts';
import { mapBytes, residentBytes, settledBytes } from './memory.ts';
import { mib, ms, seconds, type Section } from './report.ts';
import { median, quantile } from './statistics.ts';

export interface AgentEffort {
  readonly services: number;
  readonly backends: number;
  readonly repeats: number;
  readonly changes: number;
}

interface Run {
  applyCliMs?: number;
  applyApiMs?: number;
  readonly applyAgentCpuMs: number;
  readonly startEmptyMs: number;
  readonly startWarmMs: number;
  readonly startColdMs: number;
  readonly changesMs: readonly number[];
  readonly rssEmpty: number;
  readonly rssAfterApply: number;
  readonly rssMost: number;
  readonly rssWarm: number;
  readonly rssSettled: number;
  readonly anonymousSettled: number;
  readonly mapBytes: number;
}

/** User and system time of a process so far (proc(5), stat 14 and 15, in 10 ms ticks). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface ServiceDocument {
  readonly kind: 'service';
  readonly name: string;
  readonly vip: string;
  readonly ports: readonly { readonly port: number; readonly name: string }[];
  readonly backends: readonly { readonly address: string; readonly port: number }[];
}

function documentsOf({ services, backends }: AgentEffort): ServiceDocument[] {
  return Array.from({ length: services }, (_, n) => ({
    kind: 'service',
    name: serviceAt(n),
    vip: vipAt(n),
    ports: [{ port: 80, name: 'http' }],
    backends: Array.from({ length: backends }, (__, i) => ({
      address: `10.${n >> 8}.${n & 255}.${i + 1}`,
      port: 8080,
    })),
  }));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function change(host: TestHost, effort: AgentEffort, n: number): Promise<number> {
  const at = (n * 7919) % effort.services; // a prime: far from the last one
  const path = `/v1/services/${serviceAt(at)}/backends`;
  const known = `${path}/10.${at >> 8}.${at & 255}.1:8080`;
  const added = `${path}/10.255.${n >> 8}.${n & 255}:8080`;
  const steps = [
    ['PATCH', known, { weight: 2 + n }],
    ['PUT', added, { weight: 1 }],
    ['PATCH', known, { state: 'draining' }],
    ['DELETE', known, undefined],
  ] as const;
  const [method, url, body] = steps[n % steps.length] ?? steps[0];
  return await timed(async () => {
    const answer = await host.api(method, url, body);
    if (answer.status >= 300) throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`);
  });
}

async function once(effort: AgentEffort, way: 'cli' | 'api'): Promise<Run> {
  await using host = await TestHost.create();
  const { agent } = host;
  const startEmptyMs = await timed(() => agent.start());
  const rssEmpty = (await settledBytes(agent.pid)).now;
  const documents = documentsOf(effort);
  const applied: { applyCliMs?: number; applyApiMs?: number } = {};
  const cpuBefore = cpuMs(agent.pid);
  if (way === 'cli') {
    const file = join(host.dir, 'all.yaml');
    writeFileSync(file, documents.map((document) => stringify(document)).join('---\n'));
    applied.applyCliMs = await timed(() => host.must('apply', '-f', file));
  } else {
    applied.applyApiMs = await timed(async () => {
      const answer = await host.api('POST', '/v1/apply', { documents });
      if (answer.status !== 200) throw new Error(`apply: ${answer.status} ${answer.text}`);
    });
  }
  const applyAgentCpuMs = cpuMs(agent.pid) - cpuBefore;
  const rssAfterApply = residentBytes(agent.pid).now;
  const changesMs: number[] = [];
  for (let n = 0; n < effort.changes; n++) changesMs.push(await change(host, effort, n));
  const settled = await settledBytes(agent.pid);
  const rssMost = residentBytes(agent.pid).most;
  const kernelBytes = await mapBytes(host);
  await agent.stop();
  const startWarmMs = await timed(() => agent.start());
  const rssWarm = (await settledBytes(agent.pid)).now;
  await agent.stop();
  rmSync(host.pinDir, { recursive: true });
  const startColdMs = await timed(() => agent.start());
  return {
    ...applied,
    applyAgentCpuMs,
    startEmptyMs,
    startWarmMs,
    startColdMs,
    changesMs,
    rssEmpty,
    rssAfterApply,
    rssMost,
    rssWarm,
    rssSettled: settled.now,
    anonymousSettled: settled.anonymous,
    mapBytes: kernelBytes,
  };
}

/** Catalog to kernel alone, in this process. */
async function reconcilerMs({ services, backends, repeats }: AgentEffort): Promise<number[]> {
  const took: number[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    await using host = await TestHost.create();
    const half = catalogOf(services / 2, backends, { tcp: 80, udp: 80 }); // two ports a service
    const filled = Filled.fill(host, half, sizesFor(services / 2, backends));
    took.push(filled.times.planMs + filled.times.writeMs);
    filled.close();
  }
  return took;
}

export async function agentSize(effort: AgentEffort): Promise<Section> {
  const runs: Run[] = [];
  for (let repeat = 0; repeat < effort.repeats; repeat++)
    for (const way of ['cli', 'api'] as const) runs.push(await once(effort, way));
  const alone = await reconcilerMs(effort);
  const middle = (pick: (run: Run) => number | undefined): number =>
    median(runs.map(pick).filter((value) => value !== undefined));
  const [cli, api] = [middle((run) => run.applyCliMs), middle((run) => run.applyApiMs)];
  const changes = runs.flatMap((run) => run.changesMs);
  const p50 = quantile(changes, 0.5);
  const p99 = quantile(changes, 0.99);
  const rest = middle((run) => run.rssSettled);
  const row = (what: string, cell: string): Section['rows'][number] => ({ what, cells: [cell] });
  return {
    name: 'agent',
    title: `${effort.services.toLocaleString('en')} services × ${effort.backends} backends (medians of ${runs.length})`,
    headers: ['', ''],
    rows: [
      row('from empty: zerohop apply -f (YAML)', seconds(cli)),
      row('from empty: POST /v1/apply', seconds(api)),
      row('from empty: CPU time of the agent', seconds(middle((run) => run.applyAgentCpuMs))),
      row('from empty: plan and kernel alone', ms(median(alone))),
      row('one change (API call to return), p50', ms(p50)),
      row('one change, p99', ms(p99)),
      row('one change, most', ms(Math.max(...changes))),
      row('start: nothing stored, nothing pinned', ms(middle((run) => run.startEmptyMs))),
      row('start: all stored, all pinned', ms(middle((run) => run.startWarmMs))),
      row('start: all stored, nothing pinned', ms(middle((run) => run.startColdMs))),
      row('agent RSS: empty', mib(middle((run) => run.rssEmpty))),
      row('agent RSS: right after the apply', mib(middle((run) => run.rssAfterApply))),
      row('agent RSS: at rest after apply and changes', mib(rest)),
      row('agent RSS: of that not mapped from files', mib(middle((run) => run.anonymousSettled))),
      row('agent RSS: at rest after a restart', mib(middle((run) => run.rssWarm))),
      row('agent RSS: peak', mib(middle((run) => run.rssMost))),
      row('maps in the kernel', mib(middle((run) => run.mapBytes))),
    ],
    notes: [`Changes: ${changes.length}, a quarter each: weight, new backend, drain, removal.`],
    data: { runs, reconcilerMs: alone },
    wanted: [
      { what: 'applied in under 3 s (CLI)', figure: seconds(cli), met: cli < 3000 },
      { what: 'applied in under 3 s (API)', figure: seconds(api), met: api < 3000 },
      { what: 'one change in under 10 ms (p50)', figure: ms(p50), met: p50 < 10 },
      { what: 'one change in under 10 ms (p99)', figure: ms(p99), met: p99 < 10 },
      { what: 'agent at rest under 100 MB', figure: mib(rest), met: rest < 100e6 },
    ],
  };
}
