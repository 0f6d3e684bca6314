/** The agent process of a test host. */
import type { Child } from './child.ts';
import { eventually } from './eventually.ts';
import type { TestHost } from './host.ts';

export interface AgentOptions {
  readonly config?: string;
  readonly data?: string;
  readonly socket?: string;
  readonly cgroup?: string;
  readonly pin?: string;
  /** Words before the command: `unshare -m …`. They must end in exec. */
  readonly wrapper?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** One line that the agent logged. */
export interface LogLine {
  readonly [field: string]: unknown;
}

/** A wrapper that hides the BTF of the kernel from the agent, in a mount namespace of its own. */
export const withoutBtf: readonly string[] = [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount -t tmpfs none /sys/kernel/btf && exec "$@"',
  'sh',
];

/** On an emulated CPU that others want too, the verifier of Linux 6.12 takes three minutes for all programs. */
const READY_MS = 60_000;

export class Agent {
  readonly #host: TestHost;
  #child: Child | undefined;

  constructor(host: TestHost) {
    this.#host = host;
  }

  get pid(): number {
    return this.#running().pid;
  }

  get running(): boolean {
    return this.#child?.running === true;
  }

  /** Starts the agent without waiting for anything. `aside`: beside the one that runs. */
  launch(options: AgentOptions = {}, place: 'main' | 'aside' = 'main'): Child {
    const host = this.#host;
    const args = ['agent'];
    if (options.config !== undefined) args.push('--config', options.config);
    args.push('--data', options.data ?? host.dataDir, '--socket', options.socket ?? host.socket);
    args.push('--cgroup', options.cgroup ?? host.cgroup, '--pin', options.pin ?? host.pinDir);
    const command = [...(options.wrapper ?? []), host.bin, ...args];
    const child = host.spawn(command, { env: options.env ?? {} });
    if (place === 'main') this.#child = child;
    return child;
  }

  /** Starts the agent and waits until its API answers. */
  async start(options: AgentOptions = {}): Promise<void> {
    const child = this.launch(options);
    try {
      await eventually(
        'an answer of the agent',
        async () => {
          if (!child.running) return 'ended';
          const answer = await this.#host.api('GET', '/v1/status');
          return answer.status === 200;
        },
        { timeoutMs: READY_MS, everyMs: 5 },
      );
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${message}; it said:\n${this.output}`, { cause: error });
    }
    if (!child.running) throw new Error(`the agent ended at once:\n${child.stderr}${child.stdout}`);
  }

  /** Sends a signal and waits for the end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    const { code } = await this.#running().stop(signal);
    return code;
  }

  /** Asks the agent to end, and expects it to do so cleanly. */
  async stop(): Promise<void> {
    const child = this.#running();
    const { code } = await child.stop('SIGTERM');
    if (code !== 0)
      throw new Error(`the agent ended with ${code}:\n${child.stderr}${child.stdout}`);
  }

  /** All that this start of the agent has printed so far; nothing if it was never started. */
  get output(): string {
    return this.#child === undefined ? '' : `${this.#child.stdout}\n${this.#child.stderr}`;
  }

  /** What this start of the agent has logged so far. */
  log(): LogLine[] {
    return this.output
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as LogLine);
  }

  #running(): Child {
    if (this.#child === undefined) throw new Error('the agent was never started');
    return this.#child;
  }
}
