/**
 * What this library throws. `code` is stable: the kernel's errno name (`ENOENT`, `EPERM`, …;
 * `ENOTSUPP` for its private 524), `ERR_LIBBPF_…` for libbpf's own, and
 *   ERR_BPF_ARGUMENT  a wrong type, size, range or name: a bug of the caller
 *   ERR_BPF_CLOSED    the handle was closed
 *   ERR_BPF_STATE     right call, wrong phase
 * The native half constructs these classes itself; nothing here loads it.
 */

export interface ErrorExtras {
  /** Positive errno, or libbpf's 4000 and above. */
  readonly errno?: number;
  /** What libbpf said meanwhile. */
  readonly detail?: string;
  /** Entries of a batch that went through. */
  readonly applied?: number;
}

export class BpfError extends Error {
  override readonly name: string = 'BpfError';
  readonly code: string;
  /** `map update zh_vips` */
  readonly operation: string;
  declare readonly errno?: number;
  declare readonly detail?: string;
  declare readonly applied?: number;

  constructor(code: string, operation: string, why: string, extras: ErrorExtras = {}) {
    super(`${operation}: ${why} (${code})`);
    this.code = code;
    this.operation = operation;
    if (extras.errno !== undefined) this.errno = extras.errno;
    if (extras.detail !== undefined) this.detail = extras.detail;
    if (extras.applied !== undefined) this.applied = extras.applied;
  }
}

/** The kernel's verifier rejected a program. */
export class VerifierError extends BpfError {
  override readonly name = 'VerifierError';
  readonly program: string;
  /** The one line that says why. */
  readonly line: string;
  /** Everything the verifier wrote. */
  readonly log: string;

  constructor(
    code: string,
    operation: string,
    program: string,
    log: string,
    extras: ErrorExtras = {},
  ) {
    const line = tellingLine(log);
    super(code, operation, `the verifier rejects ${program}: ${line}`, extras);
    this.program = program;
    this.line = line;
    this.log = log;
  }
}

/** Lines of a verifier log that describe its walk, not its verdict. */
const walk = [
  /^\s*$/,
  /^;/, // source
  /^\d+: /, // instruction, possibly with the state after it
  /^\s*(R\d+|fp-?\d+)\w*=/, // state
  /^(from \d+ to \d+|caller:|callee:|returning from callee|to caller at|frame\d+:)/,
  /^(func#\d+ @|Func#\d+|Validating |last_idx |regs=|parent |mark_precise|propagating )/,
  /^(processed \d+ insns|verification time|stack depth|peak_states|-- (BEGIN|END))/,
  /^(reg type unsupported for arg#|arg#\d+ reference type)/, // a warning of older kernels
];

export function tellingLine(log: string): string {
  const lines = log.split('\n').map((line) => line.trimEnd());
  const verdict = lines.findLast((line) => !walk.some((pattern) => pattern.test(line)));
  return (verdict ?? lines.findLast((line) => line !== '') ?? '').trim();
}

export function argumentError(operation: string, why: string): BpfError {
  return new BpfError('ERR_BPF_ARGUMENT', operation, why);
}
