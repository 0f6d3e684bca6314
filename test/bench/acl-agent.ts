/** What rules cost the agent: applying many, one more, and a backend among them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { TestHost } from '../harness/host.ts';
import { ruleDocuments, serviceDocuments } from './acl-rules.ts';
import { apply, lanesOf, rules } from './acl-stage.ts';
import { serviceAt } from './fill.ts';
import { mapBytes, settledBytes } from './memory.ts';
import { mib, ms, type Row, seconds, type Section } from './report.ts';
import { median } from './statistics.ts';

export interface AclAgentEffort {
  readonly services: number;
  readonly sizes: readonly number[];
  readonly repeats: number;
  readonly changes: number;
}

interface Run {
  readonly size: number;
  readonly way: 'cli' | 'api';
  readonly applyMs: number;
  readonly ruleMs: readonly number[];
  readonly backendMs: readonly number[];
  readonly restBytes: number;
  readonly mapBytes: number;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function call(host: TestHost, method: string, path: string, body?: unknown): Promise<number> {
  return await timed(async () => {
    const answer = await host.api(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  });
}

async function applyAll(
  host: TestHost,
  { services }: AclAgentEffort,
  size: number,
  way: Run['way'],
): Promise<number> {
  const documents = ruleDocuments(size, services, lanesOf(host));
  if (way === 'api') return await timed(() => apply(host, documents));
  const file = join(host.dir, 'rules.yaml');
  writeFileSync(file, documents.map((document) => stringify(document)).join('---\n'));
  return await timed(() => host.must('apply', '-f', file));
}

/** From services without rules to all rules, and then single changes. */
async function once(effort: AclAgentEffort, size: number, way: Run['way']): Promise<Run> {
  await using host = await TestHost.create();
  await host.agent.start();
  await apply(host, serviceDocuments(effort.services));
  const applyMs = size === 0 ? 0 : await applyAll(host, effort, size, way);
  const ruleMs: number[] = [];
  const backendMs: number[] = [];
  const service = serviceAt(9);
  for (let n = 0; n < effort.changes; n++) {
    const rule = { to: { service }, from: [{ user: 50_000 + n }], action: 'deny' };
    if (size > 0) ruleMs.push(await call(host, 'PUT', '/v1/acls/one-more', rule));
    const backend = `/v1/services/${service}/backends/10.200.0.1:7000?portName=close`;
    const method = n % 2 === 0 ? 'PUT' : 'DELETE';
    backendMs.push(await call(host, method, backend, n % 2 === 0 ? { weight: 1 } : undefined));
  }
  const restBytes = (await settledBytes(host.agent.pid)).now;
  return { size, way, applyMs, ruleMs, backendMs, restBytes, mapBytes: await mapBytes(host) };
}

function rowsOf(size: number, runs: readonly Run[]): Row[] {
  const row = (what: string, cell: string): Row => ({
    what: `${rules(size)}: ${what}`,
    cells: [cell],
  });
  const applied = (way: Run['way']): number =>
    median(runs.filter((run) => run.way === way).map(({ applyMs }) => applyMs));
  const times = (what: string, list: readonly number[]): Row[] =>
    list.length === 0
      ? []
      : [row(`${what}, p50`, ms(median(list))), row(`${what}, most`, ms(Math.max(...list)))];
  return [
    ...(size === 0
      ? []
      : [
          row('zerohop apply -f (YAML)', seconds(applied('cli'))),
          row('POST /v1/apply', seconds(applied('api'))),
        ]),
    ...times(
      'one rule more or changed',
      runs.flatMap(({ ruleMs }) => ruleMs),
    ),
    ...times(
      'one backend more or less',
      runs.flatMap(({ backendMs }) => backendMs),
    ),
    row('agent RSS at rest', mib(median(runs.map(({ restBytes }) => restBytes)))),
    row('maps in the kernel', mib(median(runs.map((run) => run.mapBytes)))),
  ];
}

export async function aclAgent(effort: AclAgentEffort): Promise<Section> {
  const runs: Run[] = [];
  for (let repeat = 0; repeat < effort.repeats; repeat++)
    for (const size of effort.sizes)
      for (const way of size === 0 ? (['api'] as const) : (['cli', 'api'] as const))
        runs.push(await once(effort, size, way));
  const most = Math.max(...effort.sizes);
  const backends = runs.filter(({ size }) => size === most).flatMap(({ backendMs }) => backendMs);
  const p50 = median(backends);
  return {
    name: 'acl-agent',
    title: `Rules: the agent with ${effort.services.toLocaleString('en')} services of 15 backends (medians)`,
    headers: ['', ''],
    rows: effort.sizes.flatMap((size) =>
      rowsOf(
        size,
        runs.filter((run) => run.size === size),
      ),
    ),
    notes: ['From no rules to all; then one at a time, through the API.'],
    data: runs,
    wanted: [
      {
        what: `one backend in under 10 ms with ${rules(most)} (p50)`,
        figure: ms(p50),
        met: p50 < 10,
      },
    ],
  };
}
