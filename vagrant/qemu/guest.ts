// One guest: boots a kernel in QEMU on this machine's root file system, runs one command there as root, and is gone.
// Streams what the command says; keeps the console. Nothing in the guest outlives it, and it does not outlive us.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Kernel } from './cache.ts';
import { cpio, type Entry } from './cpio.ts';
import type { Row } from './rows.ts';
import { share, type Way } from './share.ts';
import { snapshot } from './snapshot.ts';

/** To load before the command, when the kernel has them: what tests want and cannot make the kernel load by itself. */
const MODULES =
  'veth bridge dummy tun ip_vs ip_vs_rr ip_vs_wrr wireguard sch_netem sch_ingress cls_bpf nf_tables';
export const checkout = join(import.meta.dirname, '../..');
const START_MS = 120_000; // a guess: 3 s is usual, and the machine may be busy with much else
const CONSOLE_CHARS_MAX = 4 << 20;
const PORTS = ['out', 'err', 'ctl', 'res'] as const;
const PANIC_GRACE_MS = 5000;

export type Accel = 'kvm' | 'tcg';

export interface GuestOptions {
  readonly row: Row;
  readonly kernel: Kernel;
  readonly accel: Accel;
  readonly way: Way;
  /** For bash. */
  readonly command: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly memoryMb: number;
  /** QEMU's -cpu, instead of the kernel's own. */
  readonly cpu?: string | undefined;
  readonly kernelArguments?: string;
  /** Called with what the command says; a promise holds back the next. */
  readonly out: (data: Buffer) => Promise<void> | void;
  readonly err: (data: Buffer) => Promise<void> | void;
  readonly console?: (data: Buffer) => void;
}

export interface GuestEnd {
  /** The command's exit code; 124: killed after the timeout; 125: no exit code came. */
  readonly code: number;
  /** Whether no exit code came: the guest was killed, or its kernel is dead. */
  readonly died: boolean;
  /** Whether the command was started. */
  readonly started: boolean;
  readonly console: string;
  /** What the command wrote into /.vm/results. */
  readonly results: string;
  /** What QEMU complained of. */
  readonly complaints: string;
  readonly bootMs: number;
  readonly commandMs: number;
}

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
export const shellWords = (words: readonly string[]): string => words.map(quote).join(' ');

function guestFiles(options: GuestOptions): Entry[] {
  const here = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');
  const env = {
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    TMPDIR: '/tmp',
    NODE_COMPILE_CACHE: '/.vm/compile-cache', // saves an emulated Node half a second per start
    ZEROHOP_VM_ROW: options.row.name,
    ...(options.accel === 'tcg' ? { ZEROHOP_TEST_PATIENCE: '10' } : {}),
    ...options.env,
  };
  const files: Record<string, string> = {
    'guest.sh': here('guest.sh'),
    cmd: `${options.command}\n`,
    cwd: `${options.cwd}\n`,
    env: Object.entries(env)
      .map(([name, value]) => `${name}=${quote(value)}\n`)
      .join(''),
    load: `${MODULES}\n`,
    modules: `${options.kernel.modules}\n`,
    'overlay-size': `${Math.floor(options.memoryMb * 0.6)}m\n`,
  };
  return [
    { path: 'init', data: here('init.sh'), executable: true },
    ...Object.entries(files).map(([name, data]) => ({ path: `vm/${name}`, data })),
    ...snapshot(checkout, 's'),
  ];
}

/** cmpxchg16b: see vagrant/README.md. */
function cpuOf({ accel, cpu, kernel }: GuestOptions): string {
  if (cpu !== undefined) return cpu;
  if (accel === 'kvm') return 'host';
  return kernel.label === '7' ? 'max,-la57' : 'max,-cx16,-la57';
}

function qemuArguments(options: GuestOptions, run: string): string[] {
  const { accel, kernel, memoryMb, row } = options;
  const append = [
    // Warnings are level 4, and 5 shows what is below 5.
    'console=ttyS0 panic=-1 loglevel=5 mitigations=off random.trust_cpu=on nokaslr swiotlb=noforce',
    accel === 'tcg' ? 'tsc=reliable cryptomgr.notests' : '',
    'rcupdate.rcu_cpu_stall_timeout=60',
    `lsm=lockdown,yama,apparmor${row.bpfLsm ? ',bpf' : ''}`,
    options.kernelArguments ?? '',
  ];
  const device = (name: string, index: number): string[] =>
    [
      ['-chardev', `socket,id=${name},path=${run}/${name}.s`],
      ['-device', `virtserialport,chardev=${name},nr=${index + 1},name=${name}`],
    ].flat();
  return [
    '-nodefaults -no-user-config -display none -no-reboot -smp 1'.split(' '),
    ['-M', 'pc,memory-backend=mem', '-m', String(memoryMb)],
    ['-object', `memory-backend-memfd,id=mem,size=${memoryMb}M,share=on`],
    ['-accel', accel === 'tcg' ? 'tcg,thread=multi' : 'kvm', '-cpu', cpuOf(options)],
    ['-kernel', kernel.vmlinux, '-initrd', `${run}/initrd`],
    ['-append', append.filter(Boolean).join(' ')],
    ['-chardev', `socket,id=con,path=${run}/con.s`, '-serial', 'chardev:con'],
    ['-chardev', `socket,id=fs,path=${run}/fs.s`],
    ['-device', 'vhost-user-fs-pci,chardev=fs,tag=hostroot', '-device', 'virtio-serial-pci'],
    PORTS.flatMap(device),
  ].flat();
}

/** Takes one connection and hands over its data in order; `closed` resolves when all is handed over. */
interface Port {
  readonly ready: Promise<void>;
  readonly closed: Promise<void>;
  close(): void;
}

function listen(path: string, take: (data: Buffer) => Promise<void> | void): Port {
  let socket: Socket | undefined;
  let done = (): void => {};
  const closed = new Promise<void>((resolve) => (done = resolve));
  const read = async (from: Socket): Promise<void> => {
    try {
      for await (const data of from) await take(data as Buffer);
    } catch {
      // QEMU was killed
    }
    done();
  };
  const server = createServer((from) => {
    socket = from;
    server.close();
    void read(from);
  });
  const ready = new Promise<void>((resolve, reject) => {
    server.on('error', reject);
    server.listen(path, resolve);
  });
  return {
    ready,
    closed,
    close: () => {
      server.close();
      socket?.destroy();
      if (socket === undefined) done();
    },
  };
}

const ended = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    child.on('exit', () => resolve());
    child.on('error', () => resolve());
  });

const atExit = new Set<() => void>();
process.on('exit', () => {
  for (const leave of atExit) leave();
});

/** A folder that goes when this process does, however it ends: a shell outside waits for the end of a pipe. */
function runFolder(): { path: string; remove: () => void } {
  const base = tmpdir().startsWith('/run') ? '/tmp' : tmpdir();
  const path = mkdtempSync(join(base, 'zhvm.'));
  const keeper = spawn('sh', ['-c', 'trap "" INT TERM HUP; cat >/dev/null; rm -rf "$0"', path], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  keeper.unref();
  return {
    path,
    remove: () => {
      rmSync(path, { recursive: true, force: true });
      keeper.stdin?.destroy();
    },
  };
}

interface Progress {
  code: number | undefined;
  startedAt: number;
  endedAt: number;
  control: string;
  console: string;
  results: Buffer[];
}

/** What guest.sh says on its control port: `start UPTIME`, `exit CODE UPTIME`. */
function listenToControl(progress: Progress, data: Buffer): void {
  progress.control += data.toString();
  for (const [, word, value] of progress.control.matchAll(/^(start|exit) (\S+).*\n/gm)) {
    if (word === 'start') progress.startedAt ||= performance.now();
    else if (progress.code === undefined) {
      progress.code = Number(value);
      progress.endedAt = performance.now();
    }
  }
}

export async function runGuest(options: GuestOptions): Promise<GuestEnd> {
  const { path: run, remove } = runFolder();
  const children: ChildProcess[] = [];
  const begin = performance.now();
  const progress: Progress = {
    code: undefined,
    startedAt: 0,
    endedAt: 0,
    control: '',
    console: '',
    results: [],
  };
  const kill = (): void => {
    for (const child of children) child.kill('SIGKILL');
  };
  const leave = (): void => {
    kill();
    remove();
  };
  atExit.add(leave);
  const timers = new Set<NodeJS.Timeout>();
  const later = (ms: number, then: () => void): void => void timers.add(setTimeout(then, ms));
  const ports = {
    out: listen(`${run}/out.s`, options.out),
    err: listen(`${run}/err.s`, options.err),
    res: listen(`${run}/res.s`, (data) => void progress.results.push(data)),
    ctl: listen(`${run}/ctl.s`, (data) => {
      listenToControl(progress, data);
      // It only has to reset itself now.
      if (progress.code !== undefined) later(PANIC_GRACE_MS, kill);
    }),
    con: listen(`${run}/con.s`, (data) => {
      progress.console = (progress.console + data.toString()).slice(-CONSOLE_CHARS_MAX);
      options.console?.(data);
    }),
  };
  try {
    writeFileSync(
      `${run}/initrd`,
      Buffer.concat([readFileSync(options.kernel.initrd), cpio(guestFiles(options))]),
    );
    await Promise.all([
      share(run, options.way, children),
      ...Object.values(ports).map((port) => port.ready),
    ]);
    const log = openSync(`${run}/qemu.log`, 'w');
    const qemu = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(options, run)],
      { stdio: ['ignore', log, log], detached: true },
    );
    closeSync(log);
    children.push(qemu);
    let late = false;
    later(options.timeoutMs, () => {
      late = progress.code === undefined;
      if (late) qemu.kill('SIGKILL');
    });
    later(Math.min(START_MS, options.timeoutMs), () => {
      if (progress.startedAt === 0) qemu.kill('SIGKILL');
    });
    await ended(qemu);
    for (const port of Object.values(ports)) later(PANIC_GRACE_MS, () => port.close());
    await Promise.all(Object.values(ports).map((port) => port.closed));
    const now = performance.now();
    return {
      code: late ? 124 : (progress.code ?? 125),
      died: late || progress.code === undefined,
      started: progress.startedAt > 0,
      console: progress.console,
      results: Buffer.concat(progress.results).toString(),
      complaints: readFileSync(`${run}/qemu.log`, 'utf8').slice(-2000),
      bootMs: (progress.startedAt || now) - begin,
      commandMs: progress.startedAt > 0 ? (progress.endedAt || now) - progress.startedAt : 0,
    };
  } finally {
    for (const timer of timers) clearTimeout(timer);
    for (const port of Object.values(ports)) port.close();
    atExit.delete(leave);
    kill();
    await Promise.all(children.map(ended));
    remove();
  }
}
