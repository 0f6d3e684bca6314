// scripts/vm: real Debian kernels in QEMU, for tests. Parses its arguments; the work is in the files beside.
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cachedKernel } from './cache.ts';
import { kernelOf, type Say } from './fetch.ts';
import { checkout, shellWords } from './guest.ts';
import { Complaint } from './machine.ts';
import { guestTestFiles, shortSetSkips } from '../../scripts/test-files.ts';
import { type RowResult, runMatrix, summary } from './matrix.ts';
import { DEFAULT_ROWS, KERNELS, OPTIONAL_ROWS, parseRow, type Row } from './rows.ts';
import { run } from './run.ts';
import { matrixTable, withTable } from './table.ts';

const USAGE = `usage: scripts/vm run ROW [OPTION…] -- COMMAND…   one command as root in a guest
       scripts/vm test [OPTION…]                  the repository's tests in a guest of each row
       scripts/vm table FILE… [--write]           Markdown of what test --json wrote; --write: into README.md
       scripts/vm fetch [KERNEL…]                 the newest kernels into the cache
       scripts/vm ls                              the rows, and what is in the cache

ROW: a kernel (${[...KERNELS.keys()].join(', ')}) with bpf in lsm=, or with -nobpf after it without; newest is the newest
of them that can be had.

run: a COMMAND of one word goes to bash as it is; of several, each is taken literally. It starts in this folder, as root,
on this machine's files; what it writes is gone afterwards. The exit code is the command's; 124: timeout; 125: the guest
did not come to its command, or died.
  -t SECONDS     from the boot on (default 300)
  -m MB          memory (default 2048)
  -e NAME=VALUE  environment, repeatable
  -a ARGUMENTS   for the kernel's command line
  -c CPU         for QEMU's -cpu
  -v             the guest's console, and times

test: without options the short set of tests (scripts/test-files.ts) on ${DEFAULT_ROWS.join(', ')}.
  --kernel ROW   these rows, repeatable
  --grep TEXT    these test files, repeatable: a folder of test/ or a part of a path, as for scripts/test
  --name PATTERN of these files the tests whose names match, as node's --test-name-pattern
  --full         all tests that depend on the kernel
  --jobs N       guests at once (default: by cores and memory)
  --json FILE    writes what came of each row and test file
  -t SECONDS     for each guest (default 1500, with --full 10800)

ZEROHOP_VM_CACHE: where kernels are kept (default ~/.cache/zerohop/vm). ZEROHOP_VM_JOBS: guests at once (default 2).`;

const say: Say = (text) => console.error(`vm: ${text}`);

async function write(stream: NodeJS.WriteStream, data: Buffer): Promise<void> {
  if (!stream.write(data)) await once(stream, 'drain');
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Complaint(`-t ${text}: not a number of seconds`);
  return value * 1000;
}

function environment(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name, value] = /^(\w+)=(.*)$/s.exec(pair) ?? [];
      if (name === undefined || value === undefined)
        throw new Complaint(`-e ${pair}: not NAME=VALUE`);
      return [name, value];
    }),
  );
}

async function runCommand(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      timeout: { type: 'string', short: 't', default: '300' },
      memory: { type: 'string', short: 'm', default: '2048' },
      env: { type: 'string', short: 'e', multiple: true, default: [] },
      append: { type: 'string', short: 'a', default: '' },
      cpu: { type: 'string', short: 'c' },
      verbose: { type: 'boolean', short: 'v', default: false },
    },
  });
  const [name, ...words] = positionals;
  if (name === undefined || words.length === 0)
    throw new Complaint('run needs a row and a command');
  const end = await run({
    row: parseRow(name),
    command: words.length === 1 ? (words[0] ?? '') : shellWords(words),
    cwd: process.cwd(),
    env: environment(values.env),
    timeoutMs: seconds(values.timeout),
    memoryMb: Number(values.memory),
    cpu: values.cpu,
    kernelArguments: values.append,
    out: (data) => write(process.stdout, data),
    err: (data) => write(process.stderr, data),
    ...(values.verbose ? { console: (data: Buffer) => void process.stderr.write(data) } : {}),
    say,
  });
  if (values.verbose)
    say(
      `exit ${end.code}; started after ${(end.bootMs / 1000).toFixed(2)} s, ran ${(end.commandMs / 1000).toFixed(2)} s`,
    );
  return end.code;
}

async function testCommand(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      kernel: { type: 'string', short: 'k', multiple: true, default: [] },
      grep: { type: 'string', short: 'g', multiple: true, default: [] },
      name: { type: 'string' },
      full: { type: 'boolean', default: false },
      jobs: { type: 'string', short: 'j' },
      json: { type: 'string' },
      timeout: { type: 'string', short: 't' },
    },
  });
  process.chdir(checkout);
  const short = values.grep.length === 0 && !values.full;
  const filesFor = (row: Row): string[] => guestTestFiles(values.grep, values.full, row);
  const rows = (values.kernel.length > 0 ? values.kernel : DEFAULT_ROWS).map(parseRow);
  if (rows.some((row) => filesFor(row).length === 0))
    throw new Complaint(`no test file matches ${values.grep.join(', ')}; see scripts/test --list`);
  const results = await runMatrix({
    rows,
    filesFor,
    nodeArgumentsFor: ({ bpfLsm }) => [
      ...(short ? shortSetSkips(bpfLsm).map((name) => `--test-skip-pattern=${name}`) : []),
      ...(values.name === undefined ? [] : [`--test-name-pattern=${values.name}`]),
    ],
    timeoutMs: seconds(values.timeout ?? (values.full ? '10800' : '1500')),
    jobs: values.jobs === undefined ? undefined : Number(values.jobs),
    say,
  });
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
  console.log(`\nkernels:\n${results.map((result) => `  ${summary(result)}`).join('\n')}`);
  const asked = (name: string): boolean =>
    values.kernel.length > 0 || !OPTIONAL_ROWS.includes(name);
  return Number(
    results.some(
      ({ row, verdict }) => verdict === 'failed' || (verdict === 'not run' && asked(row)),
    ),
  );
}

function tableCommand(args: readonly string[]): number {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { write: { type: 'boolean', default: false } },
  });
  const results = positionals.flatMap(
    (file) => JSON.parse(readFileSync(file, 'utf8')) as RowResult[],
  );
  if (results.length === 0) throw new Complaint('table needs files written by test --json');
  const table = matrixTable(results);
  if (!values.write) {
    console.log(table);
    return 0;
  }
  const readme = join(checkout, 'README.md');
  writeFileSync(readme, withTable(readFileSync(readme, 'utf8'), table));
  return 0;
}

async function fetchCommand(args: readonly string[]): Promise<number> {
  const labels = args.length > 0 ? args.map((arg) => parseRow(arg).kernel) : [...KERNELS.keys()];
  let status = 0;
  for (const label of labels) {
    try {
      const kernel = await kernelOf(label, say, true);
      console.log(`${label}: ${kernel.package}`);
    } catch (error) {
      say((error as Error).message);
      status = 1;
    }
  }
  return status;
}

function list(): number {
  for (const label of KERNELS.keys()) {
    const kernel = cachedKernel(label);
    for (const name of [label, `${label}-nobpf`]) {
      const mark = DEFAULT_ROWS.includes(name) ? '*' : ' ';
      console.log(`${mark} ${name.padEnd(12)} ${kernel?.package ?? 'not fetched yet'}`);
    }
  }
  console.log('* in the matrix without being asked for');
  return 0;
}

async function main([command, ...args]: readonly string[]): Promise<number> {
  switch (command) {
    case 'run':
      return await runCommand(args);
    case 'test':
      return await testCommand(args);
    case 'table':
      return tableCommand(args);
    case 'fetch':
      return await fetchCommand(args);
    case 'ls':
      return list();
    case '--help':
    case '-h':
    case 'help':
      console.log(USAGE);
      return 0;
    case undefined:
      throw new Complaint('what to do?');
    default:
      throw new Complaint(`unknown command ${command}`);
  }
}

for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const)
  process.on(signal, () => process.exit(128 + number));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const usage =
    error instanceof Complaint ||
    (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
  say(
    usage
      ? `${(error as Error).message}\n(scripts/vm --help)`
      : String((error as Error).stack ?? error),
  );
  process.exitCode = 2;
}
