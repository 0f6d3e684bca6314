/** `zerohop agent`: the agent itself, in the foreground. */
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { DEFAULT_CONFIG_PATH } from '../config/defaults.ts';
import type { ConfigInput } from '../config/schema.ts';
import { stepBackWorkers } from '../telemetry/io/workers.ts';
import { listOption, option } from './options.ts';

interface AgentOptions {
  readonly config?: string;
  readonly socket?: string;
  readonly data?: string;
  readonly pin?: string;
  readonly cgroup?: string;
  readonly logLevel?: string;
  readonly clusterListen?: string;
  readonly clusterAdvertise?: string;
  readonly clusterZone?: string;
  readonly clusterName?: string;
  /** False: --no-dns. */
  readonly dns: boolean;
  readonly dnsListen?: readonly string[];
  readonly dnsKernel: boolean;
}

function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

async function run(options: AgentOptions): Promise<void> {
  stepBackWorkers();
  const { loadConfig } = await import('../config/io/load.ts');
  const config = loadConfig({
    path: resolve(options.config ?? DEFAULT_CONFIG_PATH),
    required: options.config !== undefined,
    overrides: {
      socketPath: absolute(options.socket),
      dataDir: absolute(options.data),
      pinDir: absolute(options.pin),
      cgroupPath: absolute(options.cgroup),
      // Checked by the schema like everything else.
      logLevel: options.logLevel as ConfigInput['logLevel'],
      cluster: {
        listen: options.clusterListen,
        advertise: options.clusterAdvertise,
        zone: options.clusterZone,
        name: options.clusterName,
      },
      dns: {
        enabled: options.dns ? undefined : false,
        listen: options.dnsListen && [...options.dnsListen],
        kernel: options.dnsKernel ? undefined : false,
      },
    },
  });
  const { createLogger } = await import('../telemetry/io/log.ts');
  const { runAgent } = await import('../agent.ts');
  // Not before: while modules load nearly all of it lives, and each collection is for nothing (100 ms of CPU).
  // Loading 100,000 backends is a burst of short-lived objects, after which V8 would keep its
  // grown young generation for good: 129 MB resident with it, 99 MB without (and no slower).
  setFlagsFromString('--semi-space-growth-factor=1');
  // Garbage up to a third of what lives. While 100,000 backends are written 230 MB are resident at
  // most, with what V8 would allow 370 MB; such a burst takes more CPU time for it.
  setFlagsFromString('--heap-growing-percent=30');
  process.exitCode = await runAgent(config, createLogger(config.logLevel));
}

const HELP = `
The configuration file may be absent: every knob has a default. Files in services.d
beside it are applied at start and on SIGHUP.

Examples:
  zerohop agent
  zerohop agent --data /tmp/zh --socket /tmp/zh.sock --pin /sys/fs/bpf/try --cgroup /sys/fs/cgroup/try`;

export function registerAgent(program: Command): void {
  program
    .command('agent')
    .description('run the agent in the foreground')
    .addOption(
      option('--config <file>', `configuration (default: ${DEFAULT_CONFIG_PATH}, if it is there)`),
    )
    .addOption(option('--data <dir>', 'where state is kept'))
    .addOption(option('--socket <path>', 'where the API listens'))
    .addOption(option('--cgroup <dir>', 'the cgroup whose sockets see the VIPs'))
    .addOption(option('--pin <dir>', 'where maps and links are pinned, below a bpffs'))
    .addOption(option('--cluster-listen <ip:port>', 'where other members come in'))
    .addOption(option('--cluster-advertise <ip[:port]>', 'what they dial, if that is another'))
    .addOption(option('--cluster-zone <zone>', 'where this host is'))
    .addOption(option('--cluster-name <name>', 'what this member is called (default: host name)'))
    .addOption(option('--no-dns', 'no resolver'))
    .addOption(listOption('--dns-listen <ip[:port]>', 'where the resolver listens; repeatable'))
    .addOption(
      option('--no-dns-kernel', 'the kernel answers no DNS by itself, whatever the file says'),
    )
    .addOption(option('--log-level <level>', 'trace, debug, info, warn or error'))
    .addHelpText('after', HELP)
    .action(run);
}
