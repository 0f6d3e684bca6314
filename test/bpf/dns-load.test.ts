/** The programs of DNS load, answer and go: what each kernel of the matrix shows. The rest is test/system/dns-kernel*.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelServer, LOOPBACKS, says, web, WEB, webIs } from '../harness/dns-kernel.ts';
import { TestHost } from '../harness/host.ts';
import { question } from '../unit/dns/zones.ts';

/** One process for all questions: on an emulated machine they start slowly. */
const CLIENT = `
import socket, sys
for at, query in zip(sys.argv[1::2], sys.argv[2::2]):
    s = socket.socket(socket.AF_INET6 if ':' in at else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((at, 53))
    s.send(bytes.fromhex(query))
    print(s.recv(512).hex())`;

async function answers(host: TestHost, ...asked: readonly [string, string][]): Promise<string[]> {
  const words = asked.flatMap(([at, name]) => [
    at,
    Buffer.from(question(name, 'A')).toString('hex'),
  ]);
  return (await host.output(['python3', '-c', CLIENT, ...words])).trim().split('\n');
}

test('this kernel answers a name over both families, leaves others to the server, and all of it goes at the end', async () => {
  await using host = await TestHost.create();
  const { server, first } = await KernelServer.start(host);
  assert.deepEqual(first, { state: 'active', entries: 0, left: 0 });
  await server.zone(web);
  const before = await server.status();
  const [over4, over6] = LOOPBACKS;
  const [known4, known6, unknown4] = await answers(
    host,
    [over4, WEB],
    [over6, WEB],
    [over4, `x.${WEB}`],
  );
  for (const answer of [known4, known6]) says({ answer: answer ?? '' }, webIs);
  says({ answer: unknown4 ?? '' }, { answers: [], rcode: 'NXDOMAIN' });
  const { answered4, answered6, unknown, asked } = await server.status();
  assert.deepEqual(
    [answered4, answered6, unknown, asked],
    [before.answered4 + 1, before.answered6 + 1, before.unknown + 1, before.asked + 1],
  );
  await server.obeys({ do: 'close' });
  const [after] = await answers(host, [over4, WEB]);
  says({ answer: after ?? '' }, webIs);
  assert.equal((await server.status()).asked, asked + 1, 'the server answered');
  assert.doesNotMatch(await host.ip('-o', 'link'), /zerohop/);
});

test('without its server this kernel refuses what it does not answer, all of it', async () => {
  await using host = await TestHost.create();
  const { server } = await KernelServer.start(host);
  await server.zone(web);
  server.child.kill();
  await server.child.result();
  for (const at of LOOPBACKS) {
    // More than Linux lets its own refusals through.
    const others = Array.from({ length: 10 }, (): [string, string] => [at, `x.${WEB}`]);
    const [known, ...refused] = await answers(host, [at, WEB], ...others);
    says({ answer: known ?? '' }, webIs);
    assert.equal(refused.length, others.length);
    for (const answer of refused) says({ answer }, { answers: [], rcode: 'REFUSED' });
  }
});
