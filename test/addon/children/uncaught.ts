// What a callback throws must come out as an uncaught exception. Arguments: sink|ring, object file.
import { onLog, openObject, RingBuffer } from '../../../addon/index.ts';

const [what, file = ''] = process.argv.slice(2);
process.on('uncaughtException', (error) => console.log(`uncaught: ${error.message}`));

if (what === 'sink') {
  const stop = onLog(
    () => {
      stop();
      throw new Error('from the sink');
    },
    { level: 'debug' },
  );
  openObject(file).close();
  console.log('opened');
} else {
  const loaded = openObject(file).load();
  let seen = 0;
  const ring = new RingBuffer(loaded.map('events'), () => {
    seen++;
    if (seen === 3) ring.close();
    throw new Error(`from record ${seen}`);
  });
  loaded.program('emit').testRun({ dataIn: new Uint8Array(64), repeat: 5 });
}
