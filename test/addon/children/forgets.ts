// Forgets one map and closes another; the collector must warn of the first only. Needs --expose-gc.
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { BpfMap } from '../../../addon/index.ts';

const shape = { type: 'hash', keySize: 4, valueSize: 4, maxEntries: 1 };

function openMaps(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('bpf-map');
    } catch {
      return false; // the directory's own
    }
  }).length;
}

(() => {
  BpfMap.create({ ...shape, name: 'forgotten' });
  BpfMap.create({ ...shape, name: 'orderly' }).close();
})();
for (let i = 0; i < 50 && openMaps() > 0; i++) {
  globalThis.gc?.();
  await wait(10);
}
if (openMaps() > 0) process.exitCode = 1;
