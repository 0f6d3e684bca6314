/** The programs of DNS load, answer and go: what each kernel of the matrix shows. The rest is test/system/dns-kernel*.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, KernelServer, LOOPBACKS, says, web, WEB, webIs } from '../harness/dns-kernel.ts';
import { TestHost } from '../harness/host.ts';

test('this kernel answers a name over both families, leaves others to the server, and all of it goes at the end', async () => {
  await using host = await TestHost.create();
  const { server, first } = await KernelServer.start(host);
  assert.deepEqual(first, { state: 'active', entries: 0, left: 0 });
  await server.zone(web);
  const before = await server.status();
  for (const at of LOOPBACKS) says(await ask(host, WEB, 'A', { at }), webIs);
  says(await ask(host, `x.${WEB}`), { answers: [], rcode: 'NXDOMAIN' });
  const { answered4, answered6, unknown, asked } = await server.status();
  assert.deepEqual(
    [answered4, answered6, unknown, asked],
    [before.answered4 + 1, before.answered6 + 1, before.unknown + 1, before.asked + 1],
  );
  await server.obeys({ do: 'close' });
  says(await ask(host, WEB), webIs);
  assert.equal((await server.status()).asked, asked + 1, 'the server answered');
  assert.doesNotMatch(await host.ip('-o', 'link'), /zerohop/);
});
