/** Talking to services as real programs do; see test/system/clients/. */
import type { Child } from './child.ts';
import type { TestHost } from './host.ts';
import { type Language, loadClient, simpleClient, stepsClient } from './programs.ts';

export type Protocol = 'tcp' | 'udp';

/** What one step of client.c saw. */
export interface Step {
  readonly step: string;
  readonly error?: string;
  readonly peer?: string;
  readonly peerError?: string;
  readonly local?: string;
  readonly reply?: string;
  readonly from?: string;
}

/** Runs the steps of client.c on one socket. */
export async function steps(
  host: TestHost,
  family: 4 | 6,
  protocol: Protocol,
  ...list: string[]
): Promise<Step[]> {
  const client = await stepsClient();
  return JSON.parse(await host.output([client, String(family), protocol, ...list])) as Step[];
}

/** What a client of any language saw. */
export interface Seen {
  readonly error?: string;
  readonly peer?: string;
  readonly local?: string;
  readonly reply?: string;
}

export async function ask(
  host: TestHost,
  language: Language,
  protocol: Protocol,
  addr: string,
  port: number,
): Promise<Seen> {
  if (language === 'C') {
    const [connected, said] = await steps(
      host,
      addr.includes(':') ? 6 : 4,
      protocol,
      `connect=${addr},${port}`,
      'say=c',
    );
    return connected?.error === undefined ? { ...connected, ...said } : connected;
  }
  const command = await simpleClient(language);
  return JSON.parse(await host.output([...command, protocol, addr, String(port)])) as Seen;
}

/** `[::ffff:1.2.3.4]:5` and Java's long forms as everybody writes them. */
export function plain(address: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  const v6 = /^\[(.*)\]:(\d+)$/.exec(address);
  if (v6?.[1] === undefined) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(v6[1]);
  if (mapped !== null) return `${mapped[1]}:${v6[2]}`;
  return `${new URL(`http://[${v6[1]}]`).host}:${v6[2]}`;
}

export interface LoadCounts {
  readonly rounds: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
}

export interface Round {
  readonly beforeNs: bigint;
  readonly afterNs: bigint;
  /** The backend's name, or `!` and what failed. */
  readonly answer: string;
}

export interface LoadOptions {
  /** Rounds at least. */
  readonly count?: number;
  readonly pauseUs?: number;
  /** Keeps every round with its times. */
  readonly log?: boolean;
  /** The one CPU to run on. */
  readonly cpu?: number;
}

/** Starts load.c, which goes on until endLoad(), and for `count` rounds at least. */
export async function startLoad(
  host: TestHost,
  protocol: Protocol,
  addr: string,
  port: number,
  { count = 0, pauseUs = 0, log = false, cpu }: LoadOptions = {},
): Promise<Child> {
  const pinned = cpu === undefined ? [] : ['taskset', '-c', String(cpu)];
  const words = [protocol, addr, String(port), String(count), String(pauseUs), log ? 'log' : 'no'];
  return host.spawn([...pinned, await loadClient(), ...words]);
}

export async function endLoad(load: Child): Promise<LoadCounts & { readonly log: Round[] }> {
  load.endInput();
  const { code, stdout, stderr } = await load.result(60_000);
  if (code !== 0) throw new Error(`load: exit code ${code}: ${stderr}`);
  const lines = stdout.trimEnd().split('\n');
  const counts = JSON.parse(lines.pop() ?? '') as LoadCounts;
  const log = lines.map((line): Round => {
    const [before = '', after = '', ...answer] = line.split(' ');
    return { beforeNs: BigInt(before), afterNs: BigInt(after), answer: answer.join(' ') };
  });
  return { ...counts, log };
}
