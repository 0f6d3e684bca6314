/**
 * `zerohop dns install` and `uninstall`: points this host at the resolver, and
 * back. Reads the configuration; no agent is needed.
 */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { DEFAULT_CONFIG_PATH } from '../config/defaults.ts';
import type { InstallReport } from '../dns/io/install.ts';
import { listOption, option } from './options.ts';
import { note, print, printJson } from './output.ts';

interface UninstallOptions {
  readonly dryRun?: true;
  readonly json?: true;
}

interface InstallOptions extends UninstallOptions {
  readonly config?: string;
  readonly dnsListen?: readonly string[];
  readonly all?: true;
}

function tell(report: InstallReport, { dryRun, json }: UninstallOptions): void {
  if (json === true) {
    printJson(report);
    return;
  }
  for (const step of report.steps) print(`${dryRun === true ? 'would do: ' : 'done: '}${step}`);
  if (report.steps.length === 0) print('nothing to change');
  for (const warning of report.warnings) note(`zerohop: warning: ${warning}`);
}

async function install(options: InstallOptions): Promise<void> {
  const { loadConfig } = await import('../config/io/load.ts');
  const { dns, vipCidr4, vipPrefix6 } = loadConfig({
    path: resolve(options.config ?? DEFAULT_CONFIG_PATH),
    required: options.config !== undefined,
    overrides: { dns: { listen: options.dnsListen && [...options.dnsListen] } },
  });
  const { install: pointHere } = await import('../dns/io/install.ts');
  const report = await pointHere({
    listen: dns.listen,
    domain: dns.domain,
    pools: { v4: vipCidr4, v6: vipPrefix6 },
    upstreams: dns.upstreams,
    all: options.all === true,
    dryRun: options.dryRun === true,
  });
  if (!dns.enabled)
    note(
      'zerohop: warning: dns.enabled is false: nobody answers there until it is true and the agent restarted',
    );
  tell(report, options);
}

async function uninstall(options: UninstallOptions): Promise<void> {
  const { uninstall: pointBack } = await import('../dns/io/install.ts');
  tell(await pointBack({ dryRun: options.dryRun === true }), options);
}

/** Whether this host asks the resolver, in words. */
export async function installedText(): Promise<string> {
  const { installed } = await import('../dns/io/install.ts');
  const { methods, problem } = installed();
  if (problem !== undefined) return problem;
  return methods.length === 0
    ? 'does not ask it: `zerohop dns install`'
    : `asks it, by ${methods.join(' and ')}`;
}

const INSTALL_HELP = `
With systemd-resolved only names of the zone are asked of the agent, with --all every name;
otherwise the agent goes first in what /etc/resolv.conf names. The servers that are there
stay: if the agent is down, they answer at once. Doing it again changes nothing. What of this
host's own settings stands in the way (DNSSEC=, DNSOverTLS=, nsswitch.conf, later drop-ins)
is told.

Examples:
  zerohop dns install --dry-run
  zerohop dns install
  zerohop dns uninstall`;

export function registerDnsInstall(dns: Command): void {
  dns
    .command('install')
    .description('point this host at the resolver; what it asks now stays as its fallback')
    .addOption(
      option('--config <file>', `configuration (default: ${DEFAULT_CONFIG_PATH}, if it is there)`),
    )
    .addOption(
      listOption('--dns-listen <ip[:port]>', 'where the agent listens, if its options say so'),
    )
    .addOption(option('--all', 'ask it for every name, also beside systemd-resolved'))
    .addOption(option('--dry-run', 'say what would change, and change nothing'))
    .addOption(option('--json', 'print one JSON document'))
    .addHelpText('after', INSTALL_HELP)
    .action(install);
  dns
    .command('uninstall')
    .description('point this host back at what it asked before')
    .addOption(option('--dry-run', 'say what would change, and change nothing'))
    .addOption(option('--json', 'print one JSON document'))
    .action(uninstall);
}
