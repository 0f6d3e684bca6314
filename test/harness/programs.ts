/** The client and server programs of test/system, compiled once per content into .cache/. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { run, testEnvironment } from './child.ts';
import { checkout } from './host.ts';

const sources = join(checkout, 'test/system');
const cache = join(checkout, '.cache/test-programs');

let compilations = 0;

/** Changes with the source and the headers beside it. */
function contentOf(source: string): string {
  const folder = dirname(source);
  const headers = readdirSync(folder).filter((name) => name.endsWith('.h'));
  const hash = createHash('sha256');
  for (const file of [source, ...headers.toSorted().map((name) => join(folder, name))])
    hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 12);
}

async function compiled(
  source: string,
  compile: (from: string, to: string) => Promise<unknown>,
): Promise<string> {
  const from = join(sources, source);
  const to = join(cache, `${basename(source)}-${contentOf(from)}`);
  if (!existsSync(to)) {
    mkdirSync(cache, { recursive: true });
    // Several compile at once: each into a file of its own, the last one stays.
    const half = `${to}.${process.pid}-${++compilations}`;
    await compile(from, half);
    // A folder (Java) cannot replace one that another compilation has put there meanwhile.
    if (existsSync(to)) rmSync(half, { recursive: true });
    else renameSync(half, to);
  }
  return to;
}

/** Compiles one of test/system's C programs. */
export async function cProgram(source: string): Promise<string> {
  return await compiled(source, (from, to) =>
    run(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', to, from]),
  );
}

/** Compiles one of test/system's Go programs. */
export async function goProgram(source: string): Promise<string> {
  const env = testEnvironment({
    GOCACHE: join(checkout, '.cache/go-build'),
    GOFLAGS: '-mod=mod',
    GOTOOLCHAIN: 'local',
  });
  return await compiled(source, (from, to) => run(['go', 'build', '-o', to, from], { env }));
}

async function javaClasses(source: string): Promise<string> {
  return await compiled(source, (from, to) => run(['javac', '-d', to, from]));
}

export type Language = 'C' | 'Python' | 'Node' | 'Go' | 'Java';
export const languages: readonly Language[] = ['C', 'Python', 'Node', 'Go', 'Java'];

/** The command of a client: append `tcp|udp ADDR PORT`. C's is `stepsClient`. */
export async function simpleClient(language: Exclude<Language, 'C'>): Promise<string[]> {
  switch (language) {
    case 'Python':
      return ['/usr/bin/python3', join(sources, 'clients/client.py')];
    case 'Node':
      return [process.execPath, join(sources, 'clients/client.mjs')];
    case 'Go':
      return [await goProgram('clients/client.go')];
    case 'Java':
      return [
        'java',
        '-Xshare:auto',
        '-XX:TieredStopAtLevel=1',
        '-cp',
        await javaClasses('clients/Client.java'),
        'Client',
      ];
  }
}

export const stepsClient = (): Promise<string> => cProgram('clients/client.c');
export const dialClient = (): Promise<string> => cProgram('clients/dial.c');
export const loadClient = (): Promise<string> => cProgram('clients/load.c');
export const steadyClient = (): Promise<string> => cProgram('clients/steady.c');
export const arrivalClient = (): Promise<string> => cProgram('clients/arrival.c');
export const echoServer = (): Promise<string> => cProgram('servers/echo.c');
/** Tries to get past a rule in one way after the other. */
export const attackClient = (): Promise<string> => cProgram('attacks/attack.c');
/** Makes children that dial from cgroups of a moment ago. */
export const bornClient = (): Promise<string> => cProgram('attacks/born.c');

/** Compiles them all: where a compiler is fast, before they are used where it is not. */
export async function compileAll(): Promise<void> {
  await Promise.all([stepsClient(), dialClient(), loadClient(), echoServer()]);
  await Promise.all([attackClient(), bornClient(), steadyClient(), arrivalClient()]);
  await Promise.all([simpleClient('Go'), simpleClient('Java')]);
}
