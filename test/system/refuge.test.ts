/**
 * Linux 5.10 to 5.17 have no bpf_set_retval: there the programs send a refused
 * caller to a closed port of loopback. The same programs, told that this kernel
 * is such a one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openObject } from '../../addon/index.ts';
import { buildCatalog } from '../../src/catalog/catalog.ts';
import { hooks } from '../../src/datapath/hooks.ts';
import { KernelTables } from '../../src/datapath/io/kernel.ts';
import { objectPath } from '../../src/datapath/io/object.ts';
import { Reconciler } from '../../src/datapath/io/reconciler.ts';
import { ask, steps } from '../harness/clients.ts';
import { smallMaps } from '../harness/config.ts';
import { TestHost } from '../harness/host.ts';
import { languages } from '../harness/programs.ts';
import { VIP4, VIP6 } from '../harness/services.ts';

/** One service without backends, TCP port 80 and UDP port 53. */
const catalog = buildCatalog({
  revision: 1,
  services: new Map([
    [
      'empty',
      {
        name: 'empty',
        vips: [VIP4, VIP6],
        ports: [
          { name: 'web', port: 80, protocol: 'tcp' },
          { name: 'dns', port: 53, protocol: 'udp' },
        ],
      },
    ],
  ]),
  backends: new Map(),
  acls: new Map(),
});

/** Attaches the programs to the host's cgroup without an agent; they go with the returned stack. */
function attachOldWay(host: TestHost): DisposableStack {
  const stack = new DisposableStack();
  const open = openObject(objectPath());
  open.setGlobal('zh_have_set_retval', Uint8Array.of(0));
  const object = stack.adopt(open.load(), (loaded) => loaded.close());
  const kernel = stack.adopt(new KernelTables((name) => object.map(name)), (maps) => maps.close());
  const options = { limits: smallMaps, inVipRange: () => true };
  new Reconciler(kernel, options, () => performance.now()).prepareWhole(catalog).apply();
  for (const hook of hooks) {
    const program = object.program(hook.program);
    stack.adopt(program.attachCgroup(host.cgroup), (link) => link.close());
    program.close();
  }
  return stack;
}

test('without bpf_set_retval too, every client sees ECONNREFUSED and never EPERM', async () => {
  await using host = await TestHost.create();
  using _programs = attachOldWay(host);
  for (const vip of [VIP4, VIP6, `::ffff:${VIP4}`]) {
    const family = vip === VIP4 ? 4 : 6;
    for (const how of ['connect', 'nonblock', 'uring', 'fastopen']) {
      const [refused] = await steps(host, family, 'tcp', `${how}=${vip},80`);
      assert.equal(refused?.error, 'ECONNREFUSED', `${how} ${vip}`);
    }
    await Promise.all(
      languages.map(async (language) => {
        const { error } = await ask(host, language, 'tcp', vip, 80);
        assert.equal(error, 'ECONNREFUSED', `${language} ${vip}`);
      }),
    );
    // connect() of UDP has no packet to be refused: the first answer says it.
    const [connected, said] = await steps(host, family, 'udp', `connect=${vip},53`, 'say=x');
    assert.equal(connected?.error, undefined);
    assert.equal(said?.error, 'ECONNREFUSED');
    const [sent] = await steps(host, family, 'udp', `sendto=${vip},53`);
    assert.equal(sent?.error, undefined, 'a datagram into the void');
  }
});
