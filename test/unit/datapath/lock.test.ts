import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockPins } from '../../../src/datapath/io/lock.ts';

const lockModule = new URL('../../../src/datapath/io/lock.ts', import.meta.url).href;

/** What another process that wants the same pins is told; `taken` when it got them. */
function another(pinDir: string, runDir: string): string {
  const program = `
    import { lockPins } from ${JSON.stringify(lockModule)};
    try {
      lockPins(...process.argv.slice(1)).release();
      console.log('taken');
    } catch (error) {
      console.log(error.message);
    }`;
  const args = ['--input-type=module', '-e', program, pinDir, runDir];
  return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
}

test('pins are locked against other processes until they are released, and no file is left', () => {
  const dir = mkdtempSync(join(tmpdir(), 'zh-lock-'));
  try {
    const run = join(dir, 'run');
    const lock = lockPins(dir, run);
    assert.match(another(dir, run), new RegExp(`pid ${process.pid}`));
    assert.match(another(dir, run), /another agent/, 'a refused process broke the lock');
    lock.release();
    assert.equal(another(dir, run), 'taken');
    assert.deepEqual(readdirSync(run), []);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
