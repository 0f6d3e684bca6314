import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { BpfError, onLog, openObject, VerifierError } from '../../addon/index.ts';
import { Bench, failsWith, readU64, runChild, u32, u64 } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

test('openObject() lists maps and programs with the sizes and sections of the source', () => {
  using object = openObject(bench.object('kit'));
  assert.equal(object.name, 'kit');
  const hash = object.maps().find(({ name }) => name === 'hash');
  const shape = { type: 'BPF_MAP_TYPE_HASH', keySize: 4, valueSize: 8, maxEntries: 64, flags: 0 };
  assert.deepEqual(hash, { name: 'hash', ...shape });
  const deny = object.programs().find(({ name }) => name === 'deny');
  assert.deepEqual(deny, {
    name: 'deny',
    section: 'cgroup/connect4',
    type: 'BPF_PROG_TYPE_CGROUP_SOCK_ADDR',
    attachType: 'BPF_CGROUP_INET4_CONNECT',
    autoload: true,
  });
});

test('openObject() takes bytes, and a view with an offset, as well as a file', () => {
  const file = readFileSync(bench.object('kit'));
  const shifted = new Uint8Array(file.length + 3);
  shifted.set(file, 3);
  for (const bytes of [new Uint8Array(file), shifted.subarray(3)]) {
    using object = openObject(bytes, { name: 'bytes' });
    assert.equal(object.name, 'bytes');
    object.load().close();
  }
});

test('openObject() names the file that is missing and refuses what is not ELF', () => {
  assert.throws(() => openObject('/nonexistent/x.o'), failsWith('ENOENT', /nonexistent/));
  assert.throws(() => openObject(new Uint8Array(100)), BpfError);
  assert.throws(() => openObject(new Uint8Array(0)), failsWith('ERR_BPF_ARGUMENT'));
  const whole = readFileSync(bench.object('kit'));
  for (let size = 1; size < whole.length; size += 97) {
    assert.throws(() => openObject(whole.subarray(0, size)).close(), BpfError, `cut at ${size}`);
  }
});

test('setGlobal() sets one variable by its name, rodata() the whole section', () => {
  const run = (edit: (object: ReturnType<typeof openObject>) => void): number => {
    using object = openObject(bench.object('kit'));
    edit(object);
    using loaded = object.load();
    using program = loaded.program('read_globals');
    return program.testRun({ dataIn: new Uint8Array(64) }).retval;
  };
  assert.equal(
    run(() => {}),
    7 + 6 + 42,
  );
  assert.equal(
    run((object) => object.setGlobal('limit', u32(100))),
    100 + 6 + 42,
  );
  assert.equal(
    run((object) => object.setGlobal('prefix', Uint8Array.of(0, 0, 1))),
    7 + 1 + 42,
  );
  assert.equal(
    run((object) => {
      object.setGlobal('written', u64(1)); // .data
      object.setGlobal('zeroed', u64(1)); // .bss
      const section = object.rodata();
      section.set(section.get().fill(0));
    }),
    2,
  );
});

test('setGlobal() refuses unknown names and wrong sizes, naming both sizes', () => {
  using object = openObject(bench.object('kit'));
  assert.throws(() => object.setGlobal('nope', u32(1)), failsWith('ERR_BPF_ARGUMENT', /nope/));
  assert.throws(() => object.setGlobal('limit', u64(1)), failsWith('ERR_BPF_ARGUMENT', /4.*8/));
  assert.throws(() => object.rodata('.nope').get(), failsWith('ERR_BPF_ARGUMENT'));
  assert.throws(() => object.rodata('hash').get(), failsWith('ERR_BPF_ARGUMENT', /not a data/));
  const globals = object.globals().map(({ name, section, size }) => `${section} ${name} ${size}`);
  for (const line of ['.rodata limit 4', '.rodata prefix 3', '.data written 8', '.bss zeroed 8']) {
    assert.ok(globals.includes(line), `${line} in ${globals.join()}`);
  }
});

test('setMaxEntries() changes what load() creates', () => {
  using object = openObject(bench.object('kit'));
  object.setMaxEntries('hash', 1000);
  using loaded = object.load();
  using map = loaded.map('hash');
  assert.equal(map.info.maxEntries, 1000);
});

test('reuseMap() shares a map and refuses one of another shape', () => {
  using object = openObject(bench.object('kit'));
  using loaded = object.load();
  using map = loaded.map('hash');
  map.set(u32(1), u64(5));
  using second = openObject(bench.object('kit'));
  second.reuseMap('hash', map);
  using again = second.load().map('hash');
  assert.equal(again.info.id, map.info.id);
  assert.equal(readU64(again.get(u32(1))), 5);
  using other = openObject(bench.object('other'));
  assert.throws(() => other.reuseMap('hash', map), failsWith('ERR_BPF_ARGUMENT', /keySize 4.* 8/));
});

test('setAutoload() leaves a program out, and asking for it says so', () => {
  using object = openObject(bench.object('rejected'));
  object.setAutoload('reads_null', false);
  using loaded = object.load();
  assert.deepEqual(loaded.programNames, ['fine']);
  assert.throws(() => loaded.program('reads_null'), failsWith('ERR_BPF_STATE', /autoload/));
  assert.throws(() => loaded.program('nope'), failsWith('ERR_BPF_ARGUMENT'));
});

test('load() throws a VerifierError with the program, the telling line and the whole log', () => {
  for (const level of [0, 1, 2]) {
    const object = openObject(bench.object('rejected'));
    object.setLogLevel(level);
    assert.throws(
      () => object.load(),
      (error: unknown) => {
        assert.ok(error instanceof VerifierError);
        assert.equal(error.code, 'EACCES');
        assert.equal(error.program, 'reads_null');
        assert.match(error.line, /^R\d invalid mem access 'map_value_or_null'/);
        assert.match(error.log, /processed \d+ insns/);
        assert.ok(error.message.includes(error.line));
        return true;
      },
    );
    assert.equal(object.closed, true);
    assert.throws(() => object.load(), failsWith('ERR_BPF_CLOSED'));
    object.close();
  }
});

test('verifierLog() has what setLogLevel() asked for', () => {
  using object = openObject(bench.object('kit'));
  object.setLogLevel(4);
  using loaded = object.load();
  assert.match(loaded.verifierLog('deny'), /processed \d+ insns/);
  using quiet = openObject(bench.object('kit')).load();
  assert.equal(quiet.verifierLog('deny'), '');
});

test('phases: nothing can be changed after load(), nothing taken out before it', () => {
  const object = openObject(bench.object('kit'));
  const loaded = object.load();
  assert.throws(() => object.setMaxEntries('hash', 1), failsWith('ERR_BPF_STATE'));
  assert.throws(() => object.load(), failsWith('ERR_BPF_STATE'));
  assert.throws(() => object.maps(), failsWith('ERR_BPF_STATE'));
  object.close(); // must not take the loaded object away
  assert.equal(loaded.closed, false);
  loaded.map('hash').close();
  loaded.close();
  loaded.close();
  assert.throws(() => loaded.map('hash'), failsWith('ERR_BPF_CLOSED'));
});

test('maps and programs handed out outlive the object', () => {
  using object = openObject(bench.object('kit'));
  const loaded = object.load();
  using map = loaded.map('counters');
  using program = loaded.program('emit');
  loaded.close();
  map.set(u32(0), u64(9));
  assert.equal(readU64(map.get(u32(0))), 9);
  assert.equal(program.info.type, 'BPF_PROG_TYPE_SCHED_CLS');
  assert.ok(program.info.mapIds.includes(map.info.id));
});

test('onLog() hears libbpf after the call, at its level, until removed', () => {
  const heard: string[] = [];
  const stop = onLog((level, text) => heard.push(`${level} ${text}`), { level: 'debug' });
  openObject(bench.object('kit')).close();
  assert.ok(heard.some((line) => line.startsWith('debug libbpf: ')));
  stop();
  heard.length = 0;
  openObject(bench.object('kit')).close();
  assert.deepEqual(heard, []);
});

test('a log sink that throws becomes an uncaught exception, and the call itself is unharmed', () => {
  const { stdout, status } = runChild('children/uncaught.ts', ['sink', bench.object('kit')]);
  assert.equal(stdout, 'opened\nuncaught: from the sink\n');
  assert.equal(status, 0);
});

test('an error carries what libbpf said, sink or not', () => {
  assert.throws(
    () => openObject(new Uint8Array(64)),
    (error: unknown) => error instanceof BpfError && /elf/i.test(error.detail ?? ''),
  );
});
