// One of several worker threads. `orderly` does its work and reports; `endless` never stops by
// itself.
import { setImmediate as turn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { BpfError, BpfMap, onLog, openObject, RingBuffer } from '../../../addon/index.ts';

const report = parentPort?.postMessage.bind(parentPort);
const { object: file, mode } = workerData as { object: string; mode: string };
const packet = { dataIn: new Uint8Array(64), repeat: 50 };
const keys = new Uint8Array(Uint32Array.from({ length: 64 }, (_, i) => i).buffer);
const name = `w${Math.trunc(Math.random() * 1e6)}`;

async function orderly(): Promise<void> {
  const lines: string[] = [];
  onLog((_level, text) => lines.push(text), { level: 'debug' });
  const loaded = openObject(file, { name }).load();
  const foreign = lines.filter((line) => /\bw\d+\b/.test(line) && !line.includes(name));
  const seen = { records: 0 };
  const ring = new RingBuffer(loaded.map('events'), () => seen.records++);
  const emit = loaded.program('emit');
  for (let i = 0; i < 10; i++) {
    emit.testRun(packet);
    await turn();
  }
  while (seen.records < 500) await turn();
  let verifier = false;
  try {
    openObject(new Uint8Array(64));
  } catch (error) {
    verifier = error instanceof BpfError;
  }
  report?.({ ...seen, foreignLines: foreign.length, verifier });
  ring.close();
  loaded.close();
}

async function endless(): Promise<void> {
  const shape = { type: 'hash', keySize: 4, valueSize: 8, maxEntries: 64 };
  report?.('running');
  for (;;) {
    const loaded = openObject(file, { name }).load();
    const emit = loaded.program('emit');
    const ring = new RingBuffer(loaded.map('events'), () => BpfMap.create({ ...shape, name }));
    emit.testRun(packet);
    const map = loaded.map('hash');
    map.setBatch(keys, new Uint8Array(512));
    map.dump();
    await turn();
    if (Math.random() < 0.9) {
      ring.close();
      loaded.close();
    }
  }
}

await (mode === 'orderly' ? orderly() : endless());
