import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { netlinkRequest, openObject, setTcProgram, tcProgramId } from '../../addon/index.ts';
import { Bench, failsWith } from './support.ts';

const bench = new Bench();
after(() => bench.clean());

const child = fileURLToPath(new URL('children/netlink.ts', import.meta.url));

interface Seen {
  readonly acknowledged: readonly number[];
  readonly dump: readonly number[];
  readonly absent: string;
  readonly ids: readonly (number | null)[];
  readonly programs: readonly [number, number];
  readonly ran: readonly number[];
  readonly removed: readonly boolean[];
  readonly noInterface: string;
}

test('tc programs run where they are set, one takes the place of another, and go when removed; netlink answers whole', () => {
  const args = ['--net', process.execPath, child, bench.object('kit')];
  const seen = JSON.parse(execFileSync('unshare', args, { encoding: 'utf8' })) as Seen;
  assert.deepEqual(seen.acknowledged, [2, 0], 'NLMSG_ERROR with no error');
  assert.equal(seen.dump[0], 16, 'RTM_NEWLINK');
  assert.equal(seen.absent, 'ENODEV');
  const [first, second] = seen.programs;
  assert.deepEqual(seen.ids, [null, first, second, null]);
  // Of the second alone, and only while it was there: the datagram, and the ICMP that refuses it.
  assert.deepEqual(seen.ran, [0, 2, 2]);
  assert.deepEqual(seen.removed, [true, false]);
  assert.equal(seen.noInterface, 'ENODEV');
});

test('messages that the kernel would not answer, and places that are none, are refused', () => {
  const message = new Uint8Array(32);
  const view = new DataView(message.buffer);
  const refused = (why: RegExp): void =>
    assert.throws(() => netlinkRequest(0, message), failsWith('ERR_BPF_ARGUMENT', why));
  assert.throws(
    () => netlinkRequest(0, message.subarray(0, 15)),
    failsWith('ERR_BPF_ARGUMENT', /16 to 65536 bytes/),
  );
  refused(/length that its header says/);
  view.setUint32(0, 32, true);
  refused(/acknowledgement or a dump/);
  using loaded = openObject(bench.object('kit')).load();
  using program = loaded.program('emit');
  const place = { interfaceIndex: 1, direction: 'egress', handle: 1, priority: 1 } as const;
  const sideways = { ...place, direction: 'sideways' as 'egress' };
  assert.throws(() => setTcProgram(program, sideways), failsWith('ERR_BPF_ARGUMENT', /sideways/));
  const high = { ...place, priority: 65_536 };
  assert.throws(() => tcProgramId(high), failsWith('ERR_BPF_ARGUMENT', /priority/));
});
