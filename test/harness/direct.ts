/** The programs and tables of a host without an agent: what is in the kernel is what the test says. */
import { openObject } from '../../addon/index.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { hooks } from '../../src/datapath/hooks.ts';
import { KernelTables } from '../../src/datapath/io/kernel.ts';
import { objectPath } from '../../src/datapath/io/object.ts';
import { Reconciler } from '../../src/datapath/io/reconciler.ts';
import { smallMaps } from './config.ts';
import type { TestHost } from './host.ts';

export interface Direct extends Disposable {
  /** Makes the tables those of another catalog. */
  apply(catalog: Catalog): void;
}

/** Attaches the programs to the host's cgroup; they go with what is returned. */
export function attachDirectly(
  host: TestHost,
  catalog: Catalog,
  globals: Readonly<Record<string, Uint8Array>> = {},
): Direct {
  const stack = new DisposableStack();
  const open = openObject(objectPath());
  for (const [name, bytes] of Object.entries(globals)) open.setGlobal(name, bytes);
  const object = stack.adopt(open.load(), (loaded) => loaded.close());
  const kernel = stack.adopt(new KernelTables((name) => object.map(name)), (maps) => maps.close());
  const options = { limits: smallMaps, inVipRange: () => true };
  const reconciler = new Reconciler(kernel, options, () => performance.now());
  const apply = (wanted: Catalog): void => reconciler.prepareWhole(wanted).apply();
  apply(catalog);
  for (const hook of hooks) {
    const program = object.program(hook.program);
    stack.adopt(program.attachCgroup(host.cgroup), (link) => link.close());
    program.close();
  }
  return { apply, [Symbol.dispose]: () => stack.dispose() };
}
