import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lsmReattaches } from '../../../src/datapath/io/features.ts';

test('before Linux 5.13 a BPF LSM program that was detached stays detached', () => {
  const kernels = ['5.10.0-46-cloud-amd64', '5.12.19', '5.13.0', '6.1.0-56', '7.2.13+deb14-amd64'];
  assert.deepEqual(
    kernels.map((kernel) => lsmReattaches(kernel)),
    [false, false, true, true, true],
  );
});
