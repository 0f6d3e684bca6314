import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DnsThread, type DnsQuestion } from '../../addon/index.ts';
import { failsWith, runChild } from './support.ts';

const HOST = '127.0.55.70';
/** An A record of 192.0.2.1 at `a.`. */
const RECORDS = {
  name: Uint8Array.of(1, 0x61, 0),
  type: 1,
  count: 1,
  tail: Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1),
  rotate: 0,
} as const;
const QUESTION = Uint8Array.of(7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x41, 0, 0, 1, 0, 1);
const ANSWER = [7, 9, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0, ...QUESTION.subarray(12), ...RECORDS.tail];

function start(
  t: TestContext,
  onQuestions: (questions: readonly DnsQuestion[]) => void = () => {},
) {
  const options = { udpSizeMax: 1232, boundsUs: [1000], onFailed: assert.fail };
  const thread = new DnsThread({ ...options, onQuestions });
  t.after(() => thread.close());
  return thread;
}

const listenAt = (thread: DnsThread, port = 0): { socket: number; port: number } =>
  thread.listen({ address: HOST, port, isDirect: true, receiveBytes: 65_536, sendBytes: 65_536 });

async function ask(port: number): Promise<number[]> {
  const socket = createSocket('udp4');
  try {
    const heard = once(socket, 'message', { signal: AbortSignal.timeout(20_000) });
    socket.send(QUESTION, port, HOST);
    const [answer] = (await heard) as [Buffer];
    return [...answer];
  } finally {
    socket.close();
  }
}

const entries = (path: string): number => readdirSync(path).length;

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
  thread.set({ ...RECORDS, count: 2, tail: new Uint8Array(32), rotate: 16 });
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
    { count: 3, rotate: 16 },
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
    thread.set(RECORDS);
    assert.deepEqual(await ask(port), ANSWER);
    thread.close();
    thread.close();
  };
  for (let i = 0; i < 5; i++) await round();
  const before = [entries('/proc/self/task'), entries('/proc/self/fd')];
  for (let i = 0; i < 300; i++) await round();
  assert.deepEqual([entries('/proc/self/task'), entries('/proc/self/fd')], before);
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
  const before = [entries('/proc/self/task'), entries('/proc/self/fd')];
  for (let i = 0; i < 20; i++) await round(i);
  assert.deepEqual([entries('/proc/self/task'), entries('/proc/self/fd')], before);
});
