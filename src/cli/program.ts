/**
 * The command line as a whole: the commands, and what an error becomes. Heavy
 * modules (zod, fastify, yaml, the addon) are loaded by the commands that need
 * them, so that `zerohop --help` is quick.
 */
import { Command, CommanderError } from 'commander';
import { registerAcl } from './acl.ts';
import { registerAgent } from './agent.ts';
import { registerApply } from './apply.ts';
import { registerBackend } from './backend.ts';
import { registerCluster } from './cluster.ts';
import { registerCompletion } from './completion.ts';
import { registerDetach } from './detach.ts';
import { registerDns } from './dns.ts';
import { registerDoctor } from './doctor.ts';
import { registerExport } from './export.ts';
import { registerKv } from './kv.ts';
import { registerMaps } from './maps.ts';
import { registerMembers } from './members.ts';
import { EXIT_DONE, EXIT_USAGE, report } from './output.ts';
import { registerRun } from './run.ts';
import { registerService } from './service.ts';
import { registerStatus } from './status.ts';
import { version } from '../version.ts';

const HELP = `
Every option can be given by an environment variable: --dry-run is ZEROHOP_DRY_RUN.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 agent not reachable.

Examples:
  zerohop service add web --port 80
  zerohop backend add web 10.0.0.1:8080
  zerohop run --service web -- python3 -m http.server 0
  zerohop acl add only-shop --to web --from unit:shop.service
  zerohop cluster init
  zerohop dns query web.zerohop.internal
  zerohop maps dump`;

export function createProgram(): Command {
  const program = new Command('zerohop')
    .description(
      'Service VIPs on plain Linux hosts: connect() goes straight to a backend, no proxy between',
    )
    .version(version(), '-V, --version')
    .helpCommand(true)
    .showHelpAfterError('(--help shows how it is used)')
    .addHelpText('after', HELP)
    // Options after the command's own words belong to what `run` starts.
    .enablePositionalOptions();
  registerAgent(program);
  registerStatus(program);
  registerApply(program);
  registerExport(program);
  registerService(program);
  registerBackend(program);
  registerRun(program);
  registerAcl(program);
  registerCluster(program);
  registerMembers(program);
  registerDns(program);
  registerKv(program);
  registerMaps(program);
  registerDoctor(program);
  registerDetach(program);
  registerCompletion(program);
  return program;
}

function overrideExits(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) overrideExits(child);
}

/** Runs one command line; never throws. */
export async function runCli(argv: readonly string[]): Promise<number> {
  // Help is written by commander: its reader may go, as with `| head`.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  const program = createProgram();
  overrideExits(program);
  let json = false;
  program.hook('preAction', (_program, command) => {
    json = command.getOptionValue('json') === true;
  });
  try {
    await program.parseAsync(argv);
    return Number(process.exitCode ?? EXIT_DONE);
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version that were asked for; help that was not is wrong usage.
      const asked = error.code === 'commander.helpDisplayed' || error.code === 'commander.version';
      return asked ? EXIT_DONE : EXIT_USAGE;
    }
    return report(error, json);
  }
}
