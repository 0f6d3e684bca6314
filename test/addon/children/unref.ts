// Leaves an unreferenced ring buffer open; the process must end by itself. Argument: object file.
import { openObject, RingBuffer } from '../../../addon/index.ts';

const loaded = openObject(process.argv[2] ?? '').load();
new RingBuffer(loaded.map('events'), () => {}, { unref: true }).ref().unref();
