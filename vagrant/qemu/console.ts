// What a kernel's console says is wrong. Pure.

/** At the start of a kernel message, after its time; some have the name of the part that speaks before them. */
const PROBLEMS = [
  /^WARNING: /,
  /^(?:[\w-]+: )?BUG: /,
  /\bOops\b/,
  /^rcu: INFO: .*(?:stall|blocked)/,
  /^rcu: .*kthread .*starved/,
  /^Call Trace:/,
  /^INFO: task .* blocked for more than/,
  /^(?:general protection fault|unable to handle|kernel BUG at|UBSAN:|KASAN:)/i,
  /^Kernel panic/,
  /^unregister_netdevice: waiting for/,
  /\b(?:possible (?:circular|recursive) locking|inconsistent lock state|suspicious RCU usage)/,
];
const LINES_MAX = 20;

/** The telling lines; empty when all is well. */
export function problemsIn(text: string): string[] {
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => {
      const message = /^\[\s*\d+\.\d+\]\s*(?:\[[^\]]*\]\s*)?(.*)$/.exec(line)?.[1];
      return message !== undefined && PROBLEMS.some((problem) => problem.test(message));
    });
  return lines.slice(0, LINES_MAX);
}
