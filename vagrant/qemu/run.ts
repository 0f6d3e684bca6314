// A guest for a command, with all that has to be had for it: the kernel, a place on this machine, KVM when it works, and
// a second try when a guest did not come to its command.
import type { Kernel } from './cache.ts';
import { kernelOf, type Say } from './fetch.ts';
import { problemsIn } from './console.ts';
import { type Accel, type GuestEnd, type GuestOptions, runGuest } from './guest.ts';
import { accelNow, kvmVerdict, needMachine, noteKvm, place } from './machine.ts';

const KVM_TRY_MS = 20_000;
const CONSOLE_TAIL_CHARS = 4000;

export interface RunOptions extends Omit<GuestOptions, 'kernel' | 'accel' | 'way'> {
  /** What the tool itself says; not the guest. */
  readonly say: Say;
}

export interface RunEnd extends GuestEnd {
  readonly kernel: Kernel;
  /** What the kernel complained of. */
  readonly problems: readonly string[];
}

/** Boots once with KVM, when nobody has before. */
async function tryKvm(options: Omit<GuestOptions, 'accel'>, say: Say): Promise<void> {
  if (kvmVerdict() !== 'unknown') return;
  const end = await runGuest({
    ...options,
    accel: 'kvm',
    command: 'exit 0',
    timeoutMs: KVM_TRY_MS,
    out: () => {},
    err: () => {},
  });
  noteKvm(end.code === 0);
  if (end.code !== 0) say('/dev/kvm does not run a kernel here; QEMU emulates the CPU (slower)');
}

function explain(end: GuestEnd, timeoutMs: number, verbose: boolean, say: Say): void {
  if (end.code === 124) say(`killed after ${timeoutMs / 1000} s`);
  else if (end.started) say('the guest died before its command ended');
  else say('the guest did not come to its command');
  const text = `${end.console.slice(-CONSOLE_TAIL_CHARS).trim()}\n${end.complaints.trim()}`.trim();
  if (!verbose && text !== '') say(`the end of its console:\n${text}`);
}

export async function run(options: RunOptions): Promise<RunEnd> {
  const { say, timeoutMs } = options;
  const way = needMachine();
  const kernel = await kernelOf(options.row.kernel, say);
  const held = await place(options.memoryMb, say);
  try {
    await tryKvm({ ...options, kernel, way }, say);
    const accel: Accel = accelNow();
    let end = await runGuest({ ...options, kernel, way, accel });
    if (end.died && !end.started && end.code !== 124) {
      explain(end, timeoutMs, options.console !== undefined, say);
      say('once more');
      end = await runGuest({ ...options, kernel, way, accel });
    }
    if (end.died) explain(end, timeoutMs, options.console !== undefined, say);
    const problems = problemsIn(end.console);
    if (problems.length > 0) say(`its kernel complained:\n  ${problems.join('\n  ')}`);
    return { ...end, kernel, problems };
  } finally {
    held.release();
  }
}
