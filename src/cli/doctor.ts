/**
 * `zerohop doctor`: what this kernel can do, what is degraded without it, and
 * what is in force now. Asks the kernel itself; no agent is needed.
 */
import type { Command } from 'commander';
import type { AclReport } from '../datapath/io/diagnose.ts';
import { DEFAULT_PIN_DIR } from '../config/defaults.ts';
import { option } from './options.ts';
import { EXIT_FAILED, print, printJson } from './output.ts';

interface Options {
  readonly pin: string;
  readonly cgroup?: string;
  readonly json?: true;
  readonly verifierLog?: true;
}

function aclFacts({ possible, inForce }: AclReport): string[][] {
  return [
    ['access control', inForce ?? 'nothing to enforce: there are no rules'],
    ['possible here', `${possible.text}: ${possible.why}`],
    ...possible.notCovered.map((way, i) => [i === 0 ? 'not covered' : '', way]),
  ];
}

async function examine(options: Options): Promise<void> {
  const { diagnose } = await import('../datapath/io/diagnose.ts');
  const report = diagnose(options.pin, options.cgroup);
  if (report.problems.length > 0) process.exitCode = EXIT_FAILED;
  if (options.verifierLog === true) {
    const { verifierLog } = await import('../datapath/io/diagnose.ts');
    print(verifierLog());
    return;
  }
  const { Pins } = await import('../datapath/io/pins.ts');
  const { examineKernelDns } = await import('../dns/io/examine.ts');
  const dns = examineKernelDns(new Pins(options.pin));
  if (options.json === true) {
    printJson({ ...report, dns });
    return;
  }
  const { columns } = await import('./table.ts');
  print(
    columns([
      ['kernel', report.kernel],
      ['cgroup2', report.cgroup ?? 'not found'],
      ['pins', report.pins],
    ]),
  );
  const features = report.features.map((feature) => [
    feature.available ? 'yes' : feature.required ? 'MISSING' : 'no',
    feature.name,
    feature.since,
    feature.available ? '' : feature.without,
  ]);
  print(`\n${columns(features, ['HAVE', 'FEATURE', 'SINCE', 'WITHOUT IT'])}`);
  const hooks = report.attachments.map((at) => [
    at.hook,
    at.effective ? 'in effect' : 'not in effect',
    at.programs.map((program) => `${program.name} (${program.id})`).join(', '),
  ]);
  if (hooks.length > 0)
    print(`\n${columns(hooks, ['HOOK', 'OURS', 'EVERY PROGRAM THAT RUNS THERE'])}`);
  print(`\n${columns([...aclFacts(report.acl), ['DNS in the kernel', dns.text]])}`);
  for (const problem of report.problems) print(`\nproblem: ${problem}`);
  if (report.problems.length === 0) print('\nno problems found');
}

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('what this kernel can do and what is in force; exit code 1 if something is wrong')
    .addOption(option('--pin <dir>', "the agent's pin folder").default(DEFAULT_PIN_DIR))
    .addOption(option('--cgroup <path>', 'the cgroup to look at; default: the root of cgroup2'))
    .addOption(option('--json', 'print one JSON document'))
    .addOption(option('--verifier-log', 'load the programs and print what the verifier says'))
    .action(examine);
}
