import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const CASES = [
  ['main.ts', ['--goal', 'luck'], /^sim: no goal luck; there are chaos, partitions, .*\n$/],
  ['main.ts', ['--scenario', 'none'], /^sim: no scenario none; there are shape, .*\n$/],
  ['main.ts', ['--goal', 'chaos', '--count', 'many'], /^sim: --count takes a whole number, not /],
  ['main.ts', ['--gaol'], /^sim: Unknown option '--gaol'.*\nusage: npm run sim /],
  ['report.ts', ['--only', 'luck'], /^sim:report: no experiment luck; there are shape, .*\n$/],
  ['report.ts', ['--only', 'failures', '--step', '5 %'], /: no step of failures 5 %; .* 10 %, /],
  ['report.ts', ['--text', '--nodes', '-1'], /^sim:report: Option '--nodes' argument is amb/],
  ['report.ts', ['--text', '--nodes', '1e3'], /^sim:report: --nodes takes a whole .* not 1e3\n$/],
] as const;

function run(file: string, args: readonly string[]): { status: number | null; said: string[] } {
  const path = new URL(file, import.meta.url).pathname;
  const { status, stdout, stderr } = spawnSync(process.execPath, [path, ...args], {
    encoding: 'utf8',
  });
  return { status, said: [stdout, stderr] };
}

for (const [file, args, expected] of CASES) {
  test(`${file} ${args.join(' ')} is told what was wrong, without a stack`, () => {
    const { status, said } = run(file, args);
    assert.equal(said[0], '');
    assert.match(said[1] ?? '', expected);
    assert.doesNotMatch(said[1] ?? '', /\n {4}at /);
    assert.equal(status, 2);
  });
}

for (const file of ['main.ts', 'report.ts']) {
  test(`${file} --help is the usage`, () => {
    const { status, said } = run(file, ['--help']);
    assert.match(said[0] ?? '', /^usage: npm run sim/);
    assert.deepEqual([said[1], status], ['', 0]);
  });
}
