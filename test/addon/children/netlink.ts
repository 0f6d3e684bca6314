// Runs in a network namespace of its own: puts the fixture's tc programs onto its loopback, sends one
// packet past them, and prints what it saw. Argument: object file.
import { createSocket } from 'node:dgram';
import {
  BpfError,
  netlinkRequest,
  openObject,
  removeTcProgram,
  setTcProgram,
  tcProgramId,
} from '../../../addon/index.ts';

const [file = ''] = process.argv.slice(2);

function message(type: number, flags: number, ...body: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(16 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  bytes.set(body, 16);
  return bytes;
}

const ifinfo = (index: number, flags: number): number[] => [
  ...Array<number>(4).fill(0),
  index,
  0,
  0,
  0,
  flags,
  0,
  0,
  0,
  flags,
  0,
  0,
  0,
];

const NETLINK_ROUTE = 0;
const [RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK] = [16, 17, 18];
const [REQUEST, ACK, DUMP] = [1, 4, 0x300];

function codeOf(call: () => unknown): string {
  try {
    call();
    return 'none';
  } catch (error) {
    return error instanceof BpfError ? error.code : String(error);
  }
}

async function sendOne(): Promise<void> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => {
    socket.send(Uint8Array.of(1), 9, '127.0.0.1', () => resolve());
  });
  socket.close();
}

const place = { interfaceIndex: 1, direction: 'egress', handle: 1, priority: 1 } as const;
const answer = netlinkRequest(NETLINK_ROUTE, message(RTM_NEWLINK, REQUEST | ACK, ...ifinfo(1, 1)));
const all = netlinkRequest(NETLINK_ROUTE, message(RTM_GETLINK, REQUEST | DUMP, ...ifinfo(0, 0)));
const absent = codeOf(() =>
  netlinkRequest(NETLINK_ROUTE, message(RTM_DELLINK, REQUEST | ACK, ...ifinfo(99, 0))),
);

using loaded = openObject(file).load();
using first = loaded.program('read_globals');
using second = loaded.program('emit');
using counters = loaded.map('counters');
const ran = (): number =>
  Number(
    new DataView(
      (counters.get(Uint8Array.of(3, 0, 0, 0)) ?? new Uint8Array(8)).buffer,
    ).getBigUint64(0, true),
  );

const seen: (number | undefined)[] = [tcProgramId(place)];
setTcProgram(first, place);
seen.push(tcProgramId(place));
await sendOne();
const before = ran();
setTcProgram(second, place);
seen.push(tcProgramId(place));
await sendOne();
const after = ran();
const removed = [removeTcProgram(place), removeTcProgram(place)];
seen.push(tcProgramId(place));
await sendOne();

console.log(
  JSON.stringify({
    // Type and error of the acknowledgement; types of what a dump gave.
    acknowledged: [answer[4], answer[16]],
    dump: [all[4], all[all.length - 16]],
    absent,
    ids: seen,
    programs: [first.info.id, second.info.id],
    ran: [before, after, ran()],
    removed,
    noInterface: codeOf(() => setTcProgram(first, { ...place, interfaceIndex: 99 })),
  }),
);
