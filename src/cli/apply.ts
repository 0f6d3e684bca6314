/** `zerohop apply`: make what a file says so, all of it or nothing. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { OutcomeAnswer } from '../api/schemas.ts';
import { ProblemError } from '../state/problem.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { printOutcome } from './output.ts';

interface ApplyOptions extends ClientOptions {
  readonly file: string;
  readonly dryRun?: true;
}

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ProblemError([{ code: 'invalid', message: `${file} cannot be read: ${reason}` }], {
      cause: error,
    });
  }
}

async function apply(options: ApplyOptions): Promise<void> {
  const { locateProblems, parseServices } = await import('../config/yaml.ts');
  const file = parseServices(readText(options.file), options.file === '-' ? 'stdin' : options.file);
  if (file.problems.length > 0) throw new ProblemError(file.problems);
  const agent = await connect(options);
  try {
    const query = { dryRun: options.dryRun };
    const body = { documents: file.values };
    const outcome = await agent.call<OutcomeAnswer>('POST', '/v1/apply', query, body);
    const warnings = [...locateProblems(file, outcome.warnings)];
    printOutcome({ ...outcome, warnings }, options.json === true);
  } catch (error) {
    if (!(error instanceof ProblemError) || error.name === 'UnreachableError') throw error;
    throw new ProblemError(locateProblems(file, error.problems), { cause: error });
  }
}

const HELP = `
Applying the same file again changes nothing. What no document names stays as it is;
a list of backends in a service replaces the one it has.

  kind: service
  name: web
  vips: [240.0.0.80]            # optional: allocated, and kept
  ports:
    - {name: http, port: 80}    # protocol: tcp
  backends:                     # optional: left alone
    - address: 10.0.0.1:8080
    - {address: 10.0.0.2:8080, weight: 2}
  ---
  kind: backend
  service: web
  address: "[fd00::1]:8080"

Examples:
  zerohop apply -f web.yaml --dry-run
  zerohop export | ssh other zerohop apply -f -`;

export function registerApply(program: Command): void {
  clientCommand(program.command('apply'))
    .description('make what a YAML file (or `export --json`) says so, all of it or nothing')
    .addOption(option('-f, --file <file>', 'the file; "-" is standard input').makeOptionMandatory())
    .addOption(option('--dry-run', 'say what would change, and change nothing'))
    .addHelpText('after', HELP)
    .action(apply);
}
