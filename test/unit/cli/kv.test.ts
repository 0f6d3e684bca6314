/** `zerohop kv` as a process, against a replica in memory. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import { cliForTests, type Result } from './kit.ts';

const cli = cliForTests();
const { engine } = cli;
const kv = (...args: string[]): Promise<Result> => cli.run(['kv', ...args]);
const must = (...args: string[]): Promise<string> => cli.must('kv', ...args);

beforeEach(async () => {
  const paths = new Set(engine.kv.read([]).map(({ path }) => path[0] ?? ''));
  for (const path of paths)
    await engine.kv.write(
      (['register', 'set', 'flag', 'counter', 'map'] as const).map((type) => ({
        do: 'delete',
        path: [path],
        type,
      })),
    );
  assert.deepEqual(engine.kv.read([]), []);
});

test('a register is text unless it is said to be JSON', async () => {
  assert.equal(
    await must('set', 'config/motd', 'hello'),
    'register config/motd: (none) → "hello"\n',
  );
  assert.equal(await must('get', 'config/motd'), 'hello\n');
  assert.equal(await must('set', 'config/motd', '5'), 'register config/motd: "hello" → "5"\n');
  assert.equal(
    await must('set', 'config/motd', '5', '--json-value'),
    'register config/motd: "5" → 5\n',
  );
  assert.equal(await must('set', 'config/motd', '5', '--json-value'), 'nothing to change\n');
  assert.equal(
    await must('set', 'config/motd', '{"a": [null, "x"]}', '--json-value'),
    'register config/motd: 5 → {"a":[null,"x"]}\n',
  );
  assert.equal(await must('get', 'config/motd'), '{"a":[null,"x"]}\n');
  assert.equal(
    await must('set', 'config/motd', '--', '-5'),
    'register config/motd: {"a":[null,"x"]} → "-5"\n',
  );
  assert.equal(await must('rm', 'config/motd'), 'register config/motd: "-5" → (none)\n');
});

test('counters, sets and flags from first to last', async () => {
  assert.equal(await must('incr', 'hits'), '1\n');
  assert.equal(await must('incr', 'hits', '--by', '10'), '11\n');
  assert.equal(await must('incr', 'hits', '--by', '-3'), '8\n');
  assert.equal(await must('get', 'hits'), '8\n');
  assert.equal(await must('add', 'team', 'bob', 'ann'), 'set team: (none) → ["ann","bob"]\n');
  assert.equal(await must('get', 'team'), 'ann\nbob\n');
  assert.equal(await must('remove', 'team', 'ann', 'eve'), 'set team: ["ann","bob"] → ["bob"]\n');
  assert.equal(await must('enable', 'beta'), 'flag beta: (none) → enabled\n');
  assert.equal(await must('get', 'beta'), 'enabled\n');
  assert.equal(
    await must('ls'),
    'PATH  TYPE     VALUE\nbeta  flag     enabled\nhits  counter  8\nteam  set      ["bob"]\n',
  );
  assert.equal(await must('disable', 'beta'), 'flag beta: enabled → (none)\n');
  const gone = await kv('get', 'beta');
  assert.deepEqual([gone.code, gone.out, gone.err], [1, '', 'zerohop: there is nothing at beta\n']);
});

test('what is there as two types at once is shown as such, and a type picks one', async () => {
  await must('set', 'a', 'text');
  await must('incr', 'a');
  await must('set', 'a/b', 'below');
  assert.equal(
    await must('get', 'a'),
    'register: "text"\ncounter: 1\nmap: 1 value below (zerohop kv ls a)\n',
  );
  assert.equal(await must('get', 'a', '--type', 'register'), 'text\n');
  assert.equal(await must('get', 'a', '--type', 'counter'), '1\n');
  assert.equal(
    await must('get', 'a', '--type', 'map'),
    'PATH  TYPE      VALUE\na/b   register  "below"\n',
  );
  const none = await kv('get', 'a', '--type', 'set');
  assert.deepEqual([none.code, none.err], [1, 'zerohop: there is no set at a\n']);
  assert.deepEqual((await must('ls', '-q')).trim().split('\n').toSorted(), ['a', 'a/b']);
  const removed = await kv('rm', 'a');
  assert.equal(removed.out, 'register a: "text" → (none)\ncounter a: 1 → (none)\n');
  assert.equal(removed.err, 'a keeps 1 value below it; --type map removes them\n');
  const map = await kv('rm', 'a');
  assert.equal(map.code, 1);
  assert.match(map.err, /a is a map with 1 value below it\n {2}--type map removes them all/);
  assert.equal(await must('rm', 'a', '--type', 'map'), 'register a/b: "below" → (none)\n');
});

test('names with slashes, percent signs, blanks and line ends are written and shown alike', async () => {
  const path = 'a%2Fb/100%25/x%0Ay%20z/ü';
  await must('set', path, 'v');
  assert.deepEqual(
    engine.kv.read([]).map((entry) => entry.path),
    [['a/b', '100%', 'x\ny z', 'ü']],
  );
  assert.equal(await must('ls', '-q'), `${path}\n`);
  assert.equal(await must('get', path), 'v\n');
});

test('several paths are removed together or not at all', async () => {
  await must('set', 'a', '1');
  const half = await kv('rm', 'a', 'b');
  assert.equal(half.code, 1);
  assert.equal(half.err, 'zerohop: there is nothing at b\n');
  assert.equal(await must('get', 'a'), '1\n');
  await must('set', 'b', '2');
  assert.equal(
    await must('rm', 'a', 'b', '--json'),
    `${JSON.stringify(
      {
        changes: [
          { path: ['a'], type: 'register', before: { type: 'register', value: '1' } },
          { path: ['b'], type: 'register', before: { type: 'register', value: '2' } },
        ],
      },
      undefined,
      2,
    )}\n`,
  );
});

const REFUSED: readonly (readonly [string, readonly string[], number, RegExp])[] = [
  ['an empty name', ['get', 'a//b'], 2, /"a\/\/b" is no path[^]*one slash between them/],
  ['a percent sign that escapes nothing', ['set', '100%', 'x'], 2, /"100%" is no path/],
  ['a value that is no JSON', ['set', 'a', '{', '--json-value'], 2, /the value is no JSON/],
  ['a step of nothing', ['incr', 'a', '--by', '0'], 2, /--by "0" is not a whole number/],
  ['half a step', ['incr', 'a', '--by', '1.5'], 2, /--by "1\.5"/],
  ['a type that is none', ['get', 'a', '--type', 'list'], 2, /Allowed choices are register/],
  ['an unknown key', ['get', 'nope'], 1, /there is nothing at nope/],
  ['a set without an element', ['add', 'a'], 2, /missing required argument/],
  ['too large a step', ['incr', 'a', '--by', '5000000000000'], 1, /by is outside/],
  ['a value that is too long', ['set', 'a', 'x'.repeat(70_000)], 1, /at most 65536/],
  ['a path that is too deep', ['get', 'a/'.repeat(16) + 'a'], 1, /is no path/],
];

for (const [what, args, code, expected] of REFUSED) {
  test(`kv: ${what} ends with exit code ${code} and says why`, async () => {
    const result = await kv(...args);
    assert.equal(result.code, code, result.err);
    assert.match(result.err, expected);
    assert.equal(result.out, '');
  });
}

/** Runs `kv watch`, and calls `next` with all that it printed whenever that grew; ends when it answers true. */
async function watch(args: readonly string[], next: (text: string) => boolean): Promise<string> {
  const child = cli.spawn('kv', 'watch', ...args);
  let text = '';
  await new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (next(text)) resolve();
    });
  });
  child.kill('SIGINT');
  await new Promise((resolve) => child.on('close', resolve));
  return text;
}

test(
  'watch prints old and new values below a path, whichever host made them',
  { timeout: 20_000 },
  async () => {
    await must('set', 'config/motd', 'old');
    const { FakeKv } = await import('../api/fake-kv.ts');
    const other = new FakeKv(2);
    let step = 0;
    const text = await watch(['config', '--initial'], (soFar) => {
      if (soFar.includes('\n') && step === 0) {
        step = 1;
        void engine.kv.write([{ do: 'set', path: ['elsewhere'], value: 1 }]);
        void engine.kv.write([{ do: 'set', path: ['config', 'motd'], value: 'new' }]);
        void other
          .write([{ do: 'add', path: ['config', 'team'], element: 'ann' }])
          .then(() => other.updates.forEach((update) => engine.kv.receive(update)));
      }
      return soFar.split('\n').length > 3;
    });
    assert.equal(
      text,
      'register config/motd: (none) → "old"\n' +
        'register config/motd: "old" → "new"\n' +
        'set config/team: (none) → ["ann"]\n',
    );
  },
);

test('watch --json prints one object a line', { timeout: 20_000 }, async () => {
  await must('incr', 'hits');
  let step = 0;
  const text = await watch(['--json', '--initial'], (soFar) => {
    if (step++ === 0) void engine.kv.write([{ do: 'delete', path: ['hits'], type: 'counter' }]);
    return soFar.split('\n').length > 2;
  });
  assert.deepEqual(
    text
      .trim()
      .split('\n')
      .map((line): unknown => JSON.parse(line)),
    [
      { path: ['hits'], type: 'counter', after: { type: 'counter', value: 1 } },
      { path: ['hits'], type: 'counter', before: { type: 'counter', value: 1 } },
    ],
  );
});

test('completion offers paths, and runs nothing that is in them', async () => {
  await must('set', 'config/motd', 'x');
  await engine.kv.write([
    { do: 'set', path: [`$(touch\${IFS}trapped)`], value: 1 },
    { do: 'set', path: [`\`touch\${IFS}trapped\``], value: 1 },
    { do: 'set', path: ['*'], value: 1 },
  ]);
  assert.equal((await must('ls', '-q')).trim().split('\n').length, 4);
  const words = await cli.complete('kv', 'get', '');
  assert.ok(words.includes('config/motd'), words.join(' '));
  assert.deepEqual(
    words.filter((word) => /[$`*]/.test(word)),
    [],
  );
  assert.ok(!existsSync(join(cli.directory, 'trapped')), 'a name was run');
});
