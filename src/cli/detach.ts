/** `zerohop detach`: takes the programs and maps out of the kernel, for good. */
import type { Command } from 'commander';
import { DEFAULT_PIN_DIR } from '../config/defaults.ts';
import { option } from './options.ts';
import { print } from './output.ts';

async function detach({ pin }: { readonly pin: string }): Promise<void> {
  const { existsSync } = await import('node:fs');
  const { Pins } = await import('../datapath/io/pins.ts');
  const { removeKernelDns } = await import('../dns/io/kernel.ts');
  const { lockPins } = await import('../datapath/io/lock.ts');
  if (!existsSync(pin)) {
    print(`nothing is pinned in ${pin}`);
    return;
  }
  const lock = lockPins(pin, { taker: 'detach' });
  try {
    const pins = new Pins(pin);
    removeKernelDns(pins);
    pins.remove();
    print(
      `removed the programs and maps of ${pin}: VIPs no longer work, access rules no longer hold, connections go on`,
    );
  } finally {
    lock.release();
  }
}

export function registerDetach(program: Command): void {
  program
    .command('detach')
    .description('take everything out of the kernel; the agent must be stopped, stored state stays')
    .addOption(option('--pin <dir>', "the agent's pin folder").default(DEFAULT_PIN_DIR))
    .action(detach);
}
