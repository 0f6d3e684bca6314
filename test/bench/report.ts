/** What is printed, and what goes into the JSON. */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release, totalmem } from 'node:os';
import type { LaneResult } from './lanes.ts';
import { measuredCpu } from './place.ts';

export interface Row {
  readonly what: string;
  readonly cells: readonly string[];
}

export interface Section {
  readonly name: string;
  readonly title: string;
  readonly headers: readonly string[];
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
  /** The same with full precision. */
  readonly data: unknown;
  readonly wanted: readonly Wanted[];
}

/** A figure that is wanted, and whether it is there. */
export interface Wanted {
  readonly what: string;
  readonly figure: string;
  readonly met: boolean;
}

export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly virtual: string;
  readonly measuredCpu: number;
  /** Over one minute, before anything ran: other work on the machine. */
  readonly loadBefore: number;
}

export function machine(): Machine {
  const all = cpus();
  let virtual = 'unknown';
  try {
    const text = execFileSync('lscpu', { encoding: 'utf8', env: { LC_ALL: 'C' } });
    virtual = /^Hypervisor vendor:\s*(.*)$/m.exec(text)?.[1] ?? 'none';
  } catch {
    // util-linux without lscpu
  }
  return {
    cpu: all[0]?.model ?? 'unknown',
    cpus: all.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    virtual,
    measuredCpu,
    loadBefore: loadavg()[0] ?? 0,
  };
}

export function machineLine(at: Machine): string {
  const where = at.virtual === 'none' ? 'bare metal' : `under ${at.virtual}`;
  return (
    `${at.cpu}, ${at.cpus} CPUs, ${at.memoryGiB} GiB, ${where}, Linux ${at.kernel}, Node ${at.node}; ` +
    `pinned to CPU ${at.measuredCpu}; load before: ${at.loadBefore.toFixed(2)}`
  );
}

export const us = (ns: number): string => `${(ns / 1000).toFixed(2)} µs`;
export const ms = (value: number): string =>
  value < 100 ? `${value.toFixed(2)} ms` : `${Math.round(value)} ms`;
export const seconds = (value: number): string => `${(value / 1000).toFixed(2)} s`;
export const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const laneHeaders = ['', 'median', 'ratio', 'rounds', 'extra'] as const;

export function laneRow(result: LaneResult, show: (ns: number) => string = us): Row {
  const { name, ns, ratio, ratioMin, ratioMax, extraNs } = result;
  return {
    what: name,
    cells: [
      show(ns),
      ratio.toFixed(3),
      `${ratioMin.toFixed(3)}–${ratioMax.toFixed(3)}`,
      `${extraNs >= 0 ? '+' : ''}${Math.round(extraNs)} ns`,
    ],
  };
}

export function sectionText({ title, headers, rows, notes, wanted }: Section): string {
  const table = [[...headers], ...rows.map(({ what, cells }) => [what, ...cells])];
  const widths: number[] = [];
  for (const line of table)
    for (const [at, cell] of line.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  const lines = table.map((line) =>
    line
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  const marks = wanted.map(
    ({ what, figure, met }) => `${met ? 'met    ' : 'MISSED '} ${what}: ${figure}`,
  );
  return [`## ${title}`, ...lines, ...notes, ...marks, ''].join('\n');
}

/** How many of the wanted figures are there, and which are not. */
export function tellWanted(sections: readonly Section[]): void {
  const wanted = sections.flatMap((section) => section.wanted);
  const missed = wanted.filter(({ met }) => !met);
  console.log(`${wanted.length - missed.length} of ${wanted.length} wanted figures met`);
  for (const { what, figure } of missed) console.log(`  missed: ${what}: ${figure}`);
}

/** For --json. */
export function jsonText(
  at: Machine,
  started: Date,
  effort: unknown,
  sections: readonly Section[],
): string {
  const document = {
    machine: at,
    startedAt: started.toISOString(),
    effort,
    sections: sections.map(({ name, title, data, wanted }) => ({ name, title, data, wanted })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Exit code 1 where it could not run. */
export async function orFail(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    console.error(
      `bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
    process.exitCode = 1;
  }
}
