/**
 * Loaded before each test file of scripts/test (node-test-options.ts): where the seed is settled, in CI or by
 * ZEROHOP_TEST_SEED, the properties of fast-check take it too. Elsewhere each draws its own, and tells it when it fails.
 */
import { isMainThread } from 'node:worker_threads';
import { testSeed } from './random.ts';

const { CI, ZEROHOP_TEST_SEED } = process.env;
if (isMainThread && (CI || ZEROHOP_TEST_SEED !== undefined)) {
  const { configureGlobal, readConfigureGlobal } = await import('fast-check');
  configureGlobal({ ...readConfigureGlobal(), seed: testSeed() | 0 }); // it counts in 32 bits with a sign
}
