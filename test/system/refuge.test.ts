/**
 * Linux 5.10 to 5.17 have no bpf_set_retval: there the programs send a refused
 * caller to a closed port of loopback. The same programs, told that this kernel
 * is such a one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCatalog } from '../../src/catalog/catalog.ts';
import { ask, steps } from '../harness/clients.ts';
import { attachDirectly } from '../harness/direct.ts';
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
  records: new Map(),
});

test('without bpf_set_retval too, every client sees ECONNREFUSED and never EPERM', async () => {
  await using host = await TestHost.create();
  using _direct = attachDirectly(host, catalog, { zh_have_set_retval: Uint8Array.of(0) });
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
