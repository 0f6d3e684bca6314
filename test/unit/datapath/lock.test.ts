import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockPins, type Taker } from '../../../src/datapath/io/lock.ts';

const lockModule = new URL('../../../src/datapath/io/lock.ts', import.meta.url).href;

/** What another process that wants the same pins is told; `taken` when it got them. */
function another(pinDir: string, options: { runDir: string; taker?: Taker }): string {
  const program = `
    import { lockPins } from ${JSON.stringify(lockModule)};
    try {
      lockPins(process.argv[1], JSON.parse(process.argv[2])).release();
      console.log('taken');
    } catch (error) {
      console.log([error.message, ...error.problems.map(({ hint }) => hint)].join('\\n'));
    }`;
  const args = ['--input-type=module', '-e', program, pinDir, JSON.stringify(options)];
  return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
}

test('pins are locked against other processes until they are released, and no file is left', () => {
  const dir = mkdtempSync(join(tmpdir(), 'zh-lock-'));
  try {
    const runDir = join(dir, 'run');
    const lock = lockPins(dir, { runDir });
    assert.match(another(dir, { runDir }), new RegExp(`pid ${process.pid}`));
    assert.match(another(dir, { runDir }), /another agent/, 'a refused process broke the lock');
    lock.release();
    assert.equal(another(dir, { runDir }), 'taken');
    assert.deepEqual(readdirSync(runDir), []);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('who is refused is told what he can do: an agent to go elsewhere, detach to stop the agent', () => {
  const dir = mkdtempSync(join(tmpdir(), 'zh-lock-'));
  const runDir = join(dir, 'run');
  const lock = lockPins(dir, { runDir });
  try {
    assert.equal(
      another(dir, { runDir, taker: 'agent' }),
      `another agent (pid ${process.pid}) is running on the pins in ${dir}\n` +
        'stop it first, or give this one a pinDir (--pin) of its own',
    );
    assert.equal(
      another(dir, { runDir, taker: 'detach' }),
      `an agent (pid ${process.pid}) is running on the pins in ${dir}, and would put back what is taken out\n` +
        `stop it first (systemctl stop zerohop; without systemd: kill ${process.pid}), then detach`,
    );
  } finally {
    lock.release();
    rmSync(dir, { recursive: true });
  }
});
