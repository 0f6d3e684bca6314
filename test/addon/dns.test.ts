import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DnsThread, type BpfError, type DnsQuestion } from '../../addon/index.ts';
import { blockUntil, isUnread } from '../harness/dns-thread.ts';
import { eventually } from '../harness/eventually.ts';
import { failsWith, runChild } from './support.ts';

const HOST = '127.0.55.70';
/** An A record of 192.0.2.1 at `a.`. */
const RECORDS = {
  name: Uint8Array.of(1, 0x61, 0),
  type: 1,
  count: 1,
  tail: Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1),
  shuffledBytes: 0,
} as const;
const QUESTION = Uint8Array.of(7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x41, 0, 0, 1, 0, 1);
const ANSWER = [7, 9, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0, ...QUESTION.subarray(12), ...RECORDS.tail];

function start(
  t: TestContext,
  onQuestions: (questions: readonly DnsQuestion[]) => void = () => {},
  onFailed: (socket: number, error: BpfError) => void = assert.fail,
) {
  const options = { udpSizeMax: 1232, boundsUs: [1000], onFailed };
  const thread = new DnsThread({ ...options, onQuestions });
  t.after(() => thread.close());
  return thread;
}

const listenAt = (thread: DnsThread, port = 0): { socket: number; port: number } =>
  thread.listen({ address: HOST, port, isDirect: true, receiveBytes: 65_536, sendBytes: 65_536 });

async function askWith(socket: Socket, port: number, question: Uint8Array): Promise<number[]> {
  const heard = once(socket, 'message', { signal: AbortSignal.timeout(20_000) });
  socket.send(question, port, HOST);
  const [answer] = (await heard) as [Buffer];
  return [...answer];
}

async function ask(port: number): Promise<number[]> {
  const socket = createSocket('udp4');
  try {
    return await askWith(socket, port, QUESTION);
  } finally {
    socket.close();
  }
}

async function client(t: TestContext, port: number): Promise<Socket> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.connect(port, HOST);
  await once(socket, 'connect');
  return socket;
}

const entries = (path: string): number => readdirSync(path).length;
/** A thread that was waited for is a little longer in /proc: pthread_join() is woken before it leaves. */
const tasksAtMost = (count: number): Promise<true> =>
  eventually(`${count} threads at most`, () => entries('/proc/self/task') <= count);

test('what it was taught it answers, with the question as it was written', async (t) => {
  const thread = start(t, () => assert.fail('asked'));
  const { port } = listenAt(thread);
  assert.equal(thread.set(RECORDS), true);
  assert.deepEqual(await ask(port), ANSWER);
  const { answers, answered4, took } = thread.counts();
  assert.deepEqual([answers, answered4, took[0]], [1, 1, 1]);
});

test('what it was not taught comes here, and its answer leaves from where it was asked', async (t) => {
  const seen: unknown[] = [];
  const thread = start(t, (questions) => {
    for (const { message, client, socket, isUnknown, peer } of questions) {
      seen.push([[...message], client, socket, isUnknown]);
      thread.send([{ peer, bytes: Uint8Array.of(1, 2, 3) }]);
    }
  });
  const { socket, port } = listenAt(thread);
  assert.deepEqual(await ask(port), [1, 2, 3]);
  assert.deepEqual(seen, [[[...QUESTION], '127.0.0.1', socket, true]]);
});

test('a set of records replaces that of before; forget() takes all types of a name, clear() everything', (t) => {
  const thread = start(t);
  const count = (): number => thread.counts().answers;
  thread.set(RECORDS);
  thread.set({ ...RECORDS, count: 2, tail: new Uint8Array(32), shuffledBytes: 16 });
  assert.equal(count(), 1);
  thread.set({ ...RECORDS, type: 28 });
  thread.set({ ...RECORDS, name: Uint8Array.of(1, 0x62, 0) });
  assert.equal(count(), 3);
  thread.forget(Uint8Array.of(1, 0x7a, 0, ...RECORDS.name));
  assert.equal(count(), 1);
  for (let i = 0; i < 5000; i++)
    thread.set({ ...RECORDS, name: Uint8Array.of(2, 1 + (i >> 8), i & 0xff, 0) });
  assert.equal(count(), 5001);
  thread.clear();
  assert.equal(count(), 0);
});

test('as the table grows every name stays, with its own records; what is forgotten is asked here', async (t) => {
  const nobody = Uint8Array.of(9);
  const thread = start(t, (questions) =>
    thread.send(questions.map(({ peer }) => ({ peer, bytes: nobody }))),
  );
  const { port } = listenAt(thread);
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  const COUNT = 1500;
  const nameOf = (i: number): Uint8Array =>
    Uint8Array.of(4, ...Buffer.from(`${i}`.padStart(4, '0')), 0);
  const tailOf = (i: number): Uint8Array =>
    Uint8Array.of(...RECORDS.tail.subarray(0, 14), i >> 8, i & 0xff);
  const told = async (i: number): Promise<number[]> => {
    const question = [...QUESTION.subarray(0, 12), ...nameOf(i), 0, 1, 0, 1];
    return (await askWith(socket, port, Uint8Array.from(question))).slice(-2);
  };
  for (let i = 0; i < COUNT; i++) {
    assert.ok(thread.set({ ...RECORDS, name: nameOf(i), tail: tailOf(i) }));
    // Those that were there first, and last.
    for (const old of [i >> 1, i])
      if (i % 100 === 0) assert.deepEqual(await told(old), [old >> 8, old & 0xff]);
  }
  for (let i = 0; i < COUNT; i += 2) thread.forget(nameOf(i));
  assert.equal(thread.counts().answers, COUNT / 2);
  for (let i = 0; i < COUNT; i++)
    assert.deepEqual(await told(i), i % 2 === 0 ? [9] : [i >> 8, i & 0xff], `${i}`);
});

test('of a full table no new name is taken, but what is there is replaced', async (t) => {
  const thread = start(t, () => assert.fail('asked'));
  const { port } = listenAt(thread);
  const FULL = 1 << 18;
  thread.set(RECORDS);
  for (let i = 1; i < FULL; i++)
    thread.set({ ...RECORDS, name: Uint8Array.of(3, i & 0xff, (i >> 8) & 0xff, i >> 16, 0) });
  assert.equal(thread.counts().answers, FULL);
  assert.equal(thread.set({ ...RECORDS, name: Uint8Array.of(1, 0x62, 0) }), false);
  assert.equal(thread.set({ ...RECORDS, type: 28 }), false);
  const tail = RECORDS.tail.with(15, 2);
  assert.equal(thread.set({ ...RECORDS, tail }), true);
  assert.deepEqual((await ask(port)).slice(-1), [2]);
  assert.equal(thread.counts().answers, FULL);
  thread.forget(RECORDS.name);
  assert.equal(thread.set({ ...RECORDS, type: 28 }), true);
});

test('after each clear() nothing of before is answered, whatever is still to be freed', async (t) => {
  const nobody = Uint8Array.of(9);
  const thread = start(t, (questions) =>
    thread.send(questions.map(({ peer }) => ({ peer, bytes: nobody }))),
  );
  const { port } = listenAt(thread);
  for (let round = 0; round < 20; round++) {
    thread.set(RECORDS);
    for (let i = 0; i < 2000; i++)
      thread.set({ ...RECORDS, name: Uint8Array.of(2, 1 + (i >> 8), i & 0xff, 0) });
    if (round % 3 === 0) assert.deepEqual(await ask(port), ANSWER);
    thread.clear();
    assert.equal(thread.counts().answers, 0);
    if (round % 2 === 0) assert.deepEqual(await ask(port), [...nobody]);
  }
});

test('a socket that cannot be read any more is told of once, and what waits behind it stays bounded', async (t) => {
  const failed: [number, string][] = [];
  let asked = 0;
  const thread = start(
    t,
    (questions) => (asked += questions.length),
    (socket, error) => failed.push([socket, error.code]),
  );
  const sockets = (): string[] =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
      } catch {
        return false; // that of readdir() itself
      }
    });
  const before = new Set(sockets());
  const broken = listenAt(thread);
  const fd = Number(sockets().find((one) => !before.has(one)) ?? assert.fail('no socket'));
  const good = listenAt(thread);
  // The child keeps the socket alive, while here another file has its number.
  const child = spawn('sleep', ['60'], { stdio: [fd, 'ignore', 'ignore'] });
  t.after(() => child.kill());
  await once(child, 'spawn');
  closeSync(fd);
  const opened: number[] = [];
  while (opened.at(-1) !== fd) opened.push(openSync('/dev/null', 'r'));
  const poke = await client(t, broken.port);
  const socket = await client(t, good.port);
  poke.send(QUESTION);
  const total = 5000;
  const size = 4096;
  for (let i = 0; i < total; i++) {
    socket.send(QUESTION);
    // No faster than it reads: nothing is lost in between.
    if (i % 100 === 99) blockUntil('them to be read', () => !isUnread(good.port));
  }
  blockUntil('the oldest to be dropped', () => thread.counts().unread >= total - size + 1);
  assert.equal(thread.counts().unread, total - size + 1, 'one place is that of the failure');
  await eventually('all of them', () => asked === size - 1);
  assert.deepEqual(failed, [[broken.socket, 'ENOTSOCK']]);
  thread.unlisten(broken.socket);
  for (const one of opened) if (one !== fd) closeSync(one);
});

test('records that no answer can be made of are refused', (t) => {
  const thread = start(t);
  const wrong = [
    { name: new Uint8Array() },
    { name: Uint8Array.of(1, 0x61) },
    { name: Uint8Array.of(64, ...new Uint8Array(64), 0) },
    { name: new Uint8Array(300).fill(1) },
    { tail: new Uint8Array() },
    { tail: new Uint8Array(4097) },
    { count: 0 },
    { count: 3, shuffledBytes: 16 },
  ];
  for (const one of wrong)
    assert.equal(thread.set({ ...RECORDS, ...one }), false, JSON.stringify(one));
  assert.equal(thread.counts().answers, 0);
});

test('an address that is taken, that nobody has, or that is none, is an error with its name', (t) => {
  const thread = start(t);
  const { port } = listenAt(thread);
  assert.throws(() => listenAt(thread, port), failsWith('EADDRINUSE', /127\.0\.55\.70 port \d/));
  const at = (address: string) => (): unknown =>
    thread.listen({ address, port: 0, isDirect: true, receiveBytes: 1, sendBytes: 1 });
  assert.throws(at('192.0.2.7'), failsWith('EADDRNOTAVAIL'));
  assert.throws(at('localhost'), failsWith('ERR_BPF_ARGUMENT'));
  const closed = start(t);
  closed.close();
  assert.throws(() => listenAt(closed), failsWith('ERR_BPF_CLOSED'));
  assert.equal(closed.counts().answers, 0, 'the counts of the end stay');
});

test('an address is free when unlisten() returns, also under load, and the others go on', async (t) => {
  const thread = start(t);
  thread.set(RECORDS);
  const kept = listenAt(thread);
  const { socket: first, port } = listenAt(thread);
  let socket = first;
  const load = createSocket('udp4');
  t.after(() => load.close());
  load.connect(port, HOST);
  await once(load, 'connect');
  load.on('error', () => {});
  for (let i = 0; i < 300; i++) {
    for (let n = 0; n < 50; n++) load.send(QUESTION);
    assert.equal(thread.unlisten(socket), true);
    assert.equal(thread.unlisten(socket), false);
    ({ socket } = listenAt(thread, port));
  }
  assert.deepEqual(await ask(kept.port), ANSWER);
  assert.deepEqual(await ask(port), ANSWER);
});

test('300 of them, opened, asked and closed, leave no thread and no descriptor behind', async (t) => {
  const round = async (): Promise<void> => {
    const thread = start(t);
    const { port } = listenAt(thread);
    listenAt(thread);
    assert.throws(() => listenAt(thread, port), failsWith('EADDRINUSE'));
    const file = openSync('/dev/null', 'r'); // has the number that was that socket's
    thread.set(RECORDS);
    assert.deepEqual(await ask(port), ANSWER);
    thread.clear();
    thread.close();
    thread.close();
    closeSync(file);
  };
  for (let i = 0; i < 5; i++) await round();
  const [tasks, files] = [entries('/proc/self/task'), entries('/proc/self/fd')];
  for (let i = 0; i < 300; i++) await round();
  await tasksAtMost(tasks);
  assert.equal(entries('/proc/self/fd'), files);
});

test('a process that exits with one open and asked exits well, and one that closed it ends by itself', () => {
  for (const how of ['exit', 'throw', 'close']) {
    const child = runChild('children/dns.ts', [how]);
    assert.equal(child.signal, null);
    assert.equal(child.status, how === 'throw' ? 1 : 0, child.stderr);
  }
});

test('workers that are terminated with one open and asked take nothing with them', async () => {
  const script = fileURLToPath(new URL('children/dns.ts', import.meta.url));
  const round = async (i: number): Promise<void> => {
    const worker = new Worker(script, { workerData: 'endless' });
    await once(worker, 'message');
    await new Promise((done) => setTimeout(done, (i * 7) % 40));
    await worker.terminate();
  };
  await round(0);
  const [tasks, files] = [entries('/proc/self/task'), entries('/proc/self/fd')];
  for (let i = 0; i < 20; i++) await round(i);
  await tasksAtMost(tasks);
  assert.equal(entries('/proc/self/fd'), files);
});
