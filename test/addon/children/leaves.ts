// Opens everything and leaves it open. Arguments: object file, how to end.
import { setTimeout as wait } from 'node:timers/promises';
import { enableStats, openObject, RingBuffer } from '../../../addon/index.ts';

const [file = '', how] = process.argv.slice(2);
const unloaded = openObject(file);
const loaded = openObject(file).load();
const kept = [unloaded, loaded, loaded.map('hash'), loaded.program('deny'), enableStats()];
const ring = new RingBuffer(loaded.map('events'), () => {}, { unref: how === 'end' });
loaded.program('emit').testRun({ dataIn: new Uint8Array(64), repeat: 5000 });
await wait(1);
Object.assign(globalThis, { kept, ring });
if (how === 'exit') process.exit(0);
if (how === 'throw') throw new Error('on purpose');
