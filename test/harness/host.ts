/**
 * A host to test on: a network namespace with nothing but loopback, a cgroup
 * of its own, a bpffs of its own, directories, and an agent. Everything goes
 * away at the end of the scope, and at every other end of this process (undo.ts).
 *
 *   await using host = await TestHost.create();
 *   await host.agent.start();
 *   await host.zerohop('service', 'add', 'web', '--port', '80');
 *   await host.exec(['curl', 'http://240.0.0.1/']);
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Agent } from './agent.ts';
import { apiCall, type ApiAnswer } from './api.ts';
import { cgroup2Root, killCgroup } from './cgroup.ts';
import { Child, type Result, run, type SpawnOptions, testEnvironment } from './child.ts';
import { type HostTraces, undo, willUndo } from './undo.ts';

export const checkout = fileURLToPath(new URL('../../', import.meta.url));

export interface CliResult extends Result {
  /** Standard output as the one JSON document it is. */
  json(): unknown;
}

let hostsMade = 0;

function makeTrace(file: string, ...args: readonly string[]): void {
  execFileSync(file, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 10_000 });
}

export class TestHost implements AsyncDisposable {
  readonly name: string;
  readonly cgroup: string;
  readonly dir: string;
  readonly dataDir: string;
  readonly socket: string;
  /** A bpffs of this host alone. */
  readonly bpffs: string;
  readonly pinDir: string;
  readonly agent: Agent;
  readonly bin: string;
  readonly #traces: HostTraces;
  readonly #children = new Set<Child>();

  private constructor() {
    this.name = `zh-${process.pid}-${++hostsMade}`;
    // A slice, as rules for units see through slices only.
    this.cgroup = join(cgroup2Root(), `${this.name}.slice`);
    this.dir = mkdtempSync(join(tmpdir(), `${this.name}-`));
    this.dataDir = join(this.dir, 'data');
    this.socket = join(this.dir, 'agent.sock');
    this.bpffs = join(this.dir, 'bpf');
    this.pinDir = join(this.bpffs, 'zerohop');
    this.bin = process.env['ZEROHOP_BIN'] ?? join(checkout, 'scripts/zerohop');
    this.agent = new Agent(this);
    this.#traces = { cgroup: this.cgroup, netns: this.name, dir: this.dir };
  }

  static async create(): Promise<TestHost> {
    if (process.getuid?.() !== 0) throw new Error('test hosts need root');
    const host = new TestHost();
    willUndo(host.#traces);
    try {
      mkdirSync(host.cgroup);
      mkdirSync(host.bpffs);
      // Not async: a signal between start and end of these would undo what is only about to be made.
      makeTrace('mount', '-t', 'bpf', 'bpf', host.bpffs);
      makeTrace('ip', 'netns', 'add', host.name);
      await host.ip('link', 'set', 'lo', 'up');
    } catch (error) {
      undo(host.#traces);
      throw error;
    }
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    undo(this.#traces);
    // Many hosts are taken away in one turn, for longer than the wait below may take.
    await nextTurn();
    await Promise.all([...this.#children].map((child) => child.result(10_000)));
  }

  /** Starts a command on this host. */
  spawn(command: readonly string[], options: SpawnOptions = {}): Child {
    const join = ['sh', '-c', 'echo 0 >"$0" && exec "$@"', `${this.cgroup}/cgroup.procs`];
    // Not `ip netns exec`: it mounts /sys anew and hides the cgroups.
    const child = new Child(['nsenter', `--net=/run/netns/${this.name}`, ...join, ...command], {
      ...options,
      env: testEnvironment({ ...this.environment(), ...options.env }),
    });
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  /** Kills all processes of this host at once, as a power cut does. */
  async killAll(): Promise<void> {
    await killCgroup(this.cgroup);
    await Promise.all([...this.#children].map((child) => child.result(10_000)));
  }

  /** Runs a command on this host to its end. */
  async exec(
    command: readonly string[],
    options: SpawnOptions & { readonly timeoutMs?: number } = {},
  ): Promise<Result> {
    return await this.spawn(command, { input: '', ...options }).result(options.timeoutMs);
  }

  /** As exec(), but throws when the command fails; answers its standard output. */
  async output(command: readonly string[], options: SpawnOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.exec(command, options);
    if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
    return stdout;
  }

  /** `zerohop …` against this host's agent. */
  async zerohop(...args: string[]): Promise<CliResult> {
    return await this.zerohopWithInput('', ...args);
  }

  async zerohopWithInput(input: string, ...args: string[]): Promise<CliResult> {
    const result = await this.exec([this.bin, ...args], { input });
    return {
      ...result,
      json: () => {
        try {
          return JSON.parse(result.stdout) as unknown;
        } catch (cause) {
          const shown = `${result.stdout.slice(0, 2000)}\n${result.stderr}`;
          throw new Error(
            `zerohop ${args.join(' ')} (exit code ${result.code}) printed no JSON:\n${shown}`,
            { cause },
          );
        }
      },
    };
  }

  /** As zerohop(), but throws when the command fails. */
  async must(...args: string[]): Promise<CliResult> {
    const result = await this.zerohop(...args);
    if (result.code !== 0)
      throw new Error(
        `zerohop ${args.join(' ')}: exit code ${result.code}\n${result.stderr}${result.stdout}`,
      );
    return result;
  }

  /** One call of the agent's API, without the cost of a process. */
  async api(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    return await apiCall(this.socket, method, path, body);
  }

  /** Writes a configuration file for agent.start({ config }); JSON is YAML too. */
  writeConfig(config: object): string {
    const path = join(this.dir, 'zerohop.yaml');
    writeFileSync(path, JSON.stringify(config));
    return path;
  }

  /** `ip …` in this host's namespace. */
  async ip(...args: string[]): Promise<string> {
    return await run(['ip', '-n', this.name, ...args]);
  }

  /** Where the CLI finds this host's agent and kernel objects. */
  environment(): NodeJS.ProcessEnv {
    return {
      ZEROHOP_SOCKET: this.socket,
      ZEROHOP_DATA: this.dataDir,
      ZEROHOP_CGROUP: this.cgroup,
      ZEROHOP_PIN: this.pinDir,
    };
  }
}
