/** Down after two looks in a row that were refused, up as soon as somebody is seen. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Watch, type Answer } from '../../../src/health/watch.ts';

/** What is really there at a look. */
type Truth = 'listener' | 'forwarded' | 'nobody';

const answerOf = (truth: Truth): Answer => (truth === 'nobody' ? 'refused' : 'answered');

/** One look at endpoints named by their place in the list; answers whom it connected to. */
function look(watch: Watch, truths: readonly Truth[]): string[] {
  const asked = watch.begin(truths.map((truth, i) => [`${i}`, truth === 'listener'] as const));
  watch.end(new Map(asked.map((key) => [key, answerOf(truths[Number(key)] ?? 'nobody')] as const)));
  return asked;
}

const truth = fc.constantFrom<Truth>('listener', 'forwarded', 'nobody');
const history = fc.integer({ min: 1, max: 5 }).chain((size) =>
  fc.array(fc.array(truth, { minLength: size, maxLength: size }), {
    minLength: 1,
    maxLength: 40,
  }),
);

test('an endpoint is down if and only if it was refused in the last two looks at it, or since it went down', () => {
  fc.assert(
    fc.property(history, (looks) => {
      const watch = new Watch({ restLooks: 1, probesMax: 1000 });
      looks.forEach((truths, n) => {
        look(watch, truths);
        truths.forEach((now, i) => {
          const before = looks[n - 1]?.[i];
          // The first look of all needs no second; who is down stays so until seen.
          const wasDown = looks
            .slice(0, n + 1)
            .map((each) => each[i])
            .join(' ')
            .match(/(?:^|nobody )nobody(?: nobody)*$/);
          assert.equal(watch.down().has(`${i}`), wasDown !== null, `look ${n}, ${before}, ${now}`);
        });
      });
    }),
  );
});

test('within the limit of connections, and with rests, nobody is down who was seen, and everybody is found in time', () => {
  const options = { probesMax: 4, restLooks: 3 };
  fc.assert(
    fc.property(history, fc.array(truth, { minLength: 1, maxLength: 12 }), (looks, last) => {
      const watch = new Watch(options);
      for (const truths of looks) {
        const asked = look(watch, truths);
        assert.ok(asked.length <= options.probesMax);
        truths.forEach((now, i) => {
          if (now === 'listener') assert.ok(!watch.down().has(`${i}`));
          if (now === 'listener') assert.ok(!asked.includes(`${i}`));
        });
      }
      // What stays as it is long enough is known: 12 endpoints, each twice, a rest before.
      for (let n = 0; n < 12 * 2 + options.restLooks; n++) look(watch, last);
      const dead = last.flatMap((now, i) => (now === 'nobody' ? [`${i}`] : []));
      assert.deepEqual([...watch.down()].toSorted(), dead.toSorted());
    }),
  );
});

test('of very many that are down some are asked in each look, in turn, and those that are not yet go first', () => {
  const watch = new Watch({ probesMax: 8 });
  const dead = Array.from({ length: 20 }, (): Truth => 'nobody');
  for (let n = 0; n < 20; n++) look(watch, dead);
  assert.equal(watch.down().size, 20);
  const asked = Array.from({ length: 10 }, () => look(watch, dead));
  for (const one of asked) assert.equal(one.length, 2);
  assert.equal(new Set(asked.flat()).size, 20);
  const more = [...dead, ...Array.from({ length: 6 }, (): Truth => 'nobody')];
  look(watch, more);
  look(watch, more);
  assert.equal(watch.down().size, 26);
});

test('who answers without a listener is connected to only now and then, until it loses one', () => {
  const watch = new Watch({ restLooks: 10 });
  const asked = Array.from({ length: 21 }, () => look(watch, ['forwarded']).length);
  assert.equal(asked.filter((count) => count === 1).length, 3);
  look(watch, ['listener']);
  assert.deepEqual(look(watch, ['nobody']), ['0']);
  assert.deepEqual(look(watch, ['nobody']), ['0']);
  assert.deepEqual([...watch.down()], ['0']);
});

test('who was down at the first look stays so, however many misses others need', () => {
  const watch = new Watch({ misses: 3 });
  look(watch, ['nobody', 'listener']);
  assert.deepEqual([...watch.down()], ['0']);
  look(watch, ['nobody', 'nobody']);
  look(watch, ['nobody', 'nobody']);
  assert.deepEqual([...watch.down()], ['0']);
  look(watch, ['nobody', 'nobody']);
  assert.deepEqual([...watch.down()], ['0', '1']);
});

test('what is looked at no more is forgotten', () => {
  const watch = new Watch();
  look(watch, ['nobody']);
  assert.equal(watch.down().size, 1);
  look(watch, []);
  assert.equal(watch.down().size, 0);
  look(watch, ['nobody']);
  assert.equal(watch.down().size, 0);
});
