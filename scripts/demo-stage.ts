// What the demo's steps are played on: a test host, and a way to say, run and check things in front of people.
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Child, Result } from '../test/harness/child.ts';
import { run } from '../test/harness/child.ts';
import { eventually } from '../test/harness/eventually.ts';
import type { TestHost } from '../test/harness/host.ts';

const programs = fileURLToPath(new URL('demo-programs', import.meta.url));
const colours = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const paint = (code: number, text: string): string =>
  colours ? `\u001B[${code}m${text}\u001B[0m` : text;

/** A claim of the demo that turned out wrong. */
export class WrongResult extends Error {}

export const say = (text = ''): void => console.log(text);

function indent(text: string): string {
  return text.trimEnd().replace(/^/gm, '     ');
}

/** What the kernel and the maps hold of a host, to be compared. */
export interface KernelState {
  readonly links: readonly number[];
  readonly programs: readonly number[];
  readonly maps: readonly number[];
}

export class Stage {
  readonly host: TestHost;
  readonly #path: string;
  #steps = 0;

  constructor(host: TestHost) {
    this.host = host;
    // `zerohop` in the demo's commands is this one, whatever else is installed.
    const bin = join(host.dir, 'bin');
    mkdirSync(bin);
    symlinkSync(host.bin, join(bin, 'zerohop'));
    this.#path = `${bin}:/usr/bin:/bin:${process.env['PATH'] ?? ''}`;
  }

  /** The next step, and what is done in it. */
  step(title: string, ...what: readonly string[]): void {
    this.#steps += 1;
    say(`\n${paint(1, `${this.#steps}. ${title}`)}`);
    for (const line of what) say(`   ${line}`);
  }

  show(command: string): void {
    say(`   ${paint(36, `$ ${command}`)}`);
  }

  output(text: string): void {
    if (text.trim() !== '') say(indent(text));
  }

  /** Runs a shell command on the host; prints it and all that it says. */
  async run(command: string, expectedCode = 0): Promise<Result> {
    this.show(command);
    const result = await this.quietly(command);
    this.output(result.stdout + result.stderr);
    if (result.code !== expectedCode) {
      throw new WrongResult(
        `"${command}" ended with exit code ${result.code} instead of ${expectedCode}`,
      );
    }
    return result;
  }

  async quietly(command: string): Promise<Result> {
    return await this.host.exec(['sh', '-c', command], {
      cwd: programs,
      env: { PATH: this.#path },
    });
  }

  /** Starts a program on the host that stays there. */
  background(command: string): Child {
    return this.host.spawn(command.split(' '), { cwd: programs, env: { PATH: this.#path } });
  }

  /** Starts a server of demo-programs, and waits until it has its port. */
  async server(command: string, socket: string): Promise<void> {
    this.show(`${command} &`);
    const server = this.background(command);
    await eventually(`a socket of ${command}`, async () => {
      if (!server.running) throw new WrongResult(`"${command}" ended: ${server.stderr}`);
      const { stdout } = await this.host.exec(['ss', '-Hln', ...socket.split(' ')]);
      return stdout !== '';
    });
  }

  /** What the last output shows; ends the demo if it does not. */
  shows(claim: string, holds: boolean, instead: string): void {
    if (!holds) throw new WrongResult(`expected: ${claim}\n  but: ${instead}`);
    say(`   ${paint(32, '✓')} ${claim}`);
  }

  /** Waits until the kernel has let go of what it was told to. */
  async untilGone({ links, programs }: KernelState): Promise<void> {
    const ids = async (kind: 'link' | 'prog'): Promise<number[]> =>
      (JSON.parse(await run(['bpftool', '-j', kind, 'show'])) as { id: number }[]).map(
        ({ id }) => id,
      );
    await eventually('the end of the BPF programs and links', async () => {
      const there = [await ids('link'), await ids('prog')];
      return (
        !links.some((id) => there[0]?.includes(id)) &&
        !programs.some((id) => there[1]?.includes(id))
      );
    });
  }

  /**
   * Links, programs and maps on the host's cgroup, as bpftool sees them; those that last, without
   * those of DNS, which each agent makes anew.
   */
  async kernelState(which: 'all' | 'lasting'): Promise<KernelState> {
    const cgroup = statSync(this.host.cgroup).ino;
    const links = JSON.parse(await run(['bpftool', '-j', 'link', 'show'])) as {
      readonly id: number;
      readonly prog_id: number;
      readonly cgroup_id?: number;
    }[];
    const shown = JSON.parse(await run(['bpftool', '-j', 'prog', 'show'])) as {
      readonly id: number;
      readonly name?: string;
      readonly map_ids?: readonly number[];
    }[];
    const dns = new Set(
      shown.filter(({ name = '' }) => name.startsWith('zh_dns_')).map(({ id }) => id),
    );
    const ours = links.filter(
      ({ cgroup_id, prog_id }) => cgroup_id === cgroup && (which === 'all' || !dns.has(prog_id)),
    );
    const ids = ours.map((link) => link.prog_id);
    const maps = shown.filter(({ id }) => ids.includes(id)).flatMap((one) => one.map_ids ?? []);
    const sorted = (list: readonly number[]): number[] =>
      [...new Set(list)].toSorted((a, b) => a - b);
    return { links: sorted(ours.map(({ id }) => id)), programs: sorted(ids), maps: sorted(maps) };
  }
}

/** Traces of the host that are still there; none is how it should be. */
export function leftovers(host: TestHost): string[] {
  const traces = [host.cgroup, host.dir, `/run/netns/${host.name}`].filter((path) =>
    existsSync(path),
  );
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(host.name));
  return [...traces, ...mounts];
}
