/**
 * Threads of V8 that collect and compile, beside the one that answers. On a core that they share
 * there are four of them to one, and while they mark a heap of 40 MiB, every second or two under
 * load, it would stand still for 70 to 100 ms: the p99 of forwarded DNS queries (test/bench/dns.ts).
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/** A ninth of the CPU time where it is fought for (sched(7)); with less of it the heap grows further. */
const NICER_BY = 10;
const NICE_MAX = 19;

/** They step back behind the main thread. Without effect where V8's threads have other names, or /proc is hidden. */
export function stepBackWorkers(proc = '/proc'): void {
  for (const tid of tasksOf(proc)) {
    try {
      if (readFileSync(`${proc}/self/task/${tid}/comm`, 'utf8').trim() !== 'V8Worker') continue;
      // Of a thread: the system call takes its id (setpriority(2), "C library/kernel differences").
      setPriority(Number(tid), Math.min(NICE_MAX, getPriority(Number(tid)) + NICER_BY));
    } catch {
      // One that has ended, or a sandbox that forbids it: all goes on as it would.
    }
  }
}

/** None where /proc is of another namespace (pid_namespaces(7)): its ids are those of others here. */
function tasksOf(proc: string): readonly string[] {
  try {
    if (readlinkSync(`${proc}/self`) !== String(process.pid)) return [];
    return readdirSync(`${proc}/self/task`);
  } catch {
    return [];
  }
}
