/** scripts/demo.ts, which checks its own claims: to its end, and cut short. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Child } from '../harness/child.ts';
import { checkout } from '../harness/host.ts';

function demo(): Child {
  return new Child([process.execPath, 'scripts/demo.ts'], { cwd: checkout, input: '' });
}

test('the demo shows what it says, and cleans up', async () => {
  const { code, stdout, stderr } = await demo().result(60_000);
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /^All as it should be/m);
  assert.equal(stderr, '');
});

test('the demo stopped by Ctrl-C in the middle of a step leaves nothing', async () => {
  const child = demo();
  await child.says(/^3\. Requests/m, 30_000);
  const { code, stdout } = await child.stop('SIGINT');
  assert.equal(code, 130, stdout);
  assert.match(stdout, /^nothing of it is left/m);
});
