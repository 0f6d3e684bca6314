/**
 * The kernel's DNS with a server in user space, without an agent. Arguments: cgroup, pin folder,
 * entries of the table, addresses to listen at. Reads orders, a JSON document a line, and answers
 * each with one.
 */
import { createSocket, type Socket } from 'node:dgram';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { BpfMap } from '../../../addon/index.ts';
import type { HostPort } from '../../../src/cluster/address.ts';
import { openCgroup } from '../../../src/datapath/io/cgroup.ts';
import { Pins } from '../../../src/datapath/io/pins.ts';
import { KernelDns } from '../../../src/dns/io/kernel.ts';
import { dnsLayouts } from '../../../src/dns/kernel-abi.ts';
import { RCODE } from '../../../src/dns/numbers.ts';
import { readQuery } from '../../../src/dns/query.ts';
import { refusal } from '../../../src/dns/packet.ts';
import { resolve } from '../../../src/dns/resolver.ts';
import { plainAnswers, type Zone } from '../../../src/dns/zone.ts';
import { createLogger } from '../../../src/telemetry/io/log.ts';
import { patience } from '../../harness/eventually.ts';
import { zoneOf, type Words } from '../../unit/dns/zones.ts';
import { alike } from './dns-alike.ts';
import { everything } from './dns-questions.ts';

export type Order =
  | { readonly do: 'zone'; readonly words: Words }
  | { readonly do: 'everything' }
  | { readonly do: 'alike'; readonly count: number; readonly seed: number }
  /** Changes the zone, and asks in the same turn of the loop. */
  | { readonly do: 'change'; readonly words: Words; readonly names: readonly string[] }
  /** Until the next order two names have one answer after another. */
  | { readonly do: 'churn' }
  /** Closes while check() has asked and waits. */
  | { readonly do: 'interrupt' }
  /** Others fill the table of one entry, so that the next name has no room where it should have. */
  | { readonly do: 'fill' }
  | { readonly do: 'check' | 'status' | 'close' };

const [cgroup = '', pinDir = '', entries = '', ...addresses] = process.argv.slice(2);
const UDP_SIZE_MAX = 1232;
const PROBE_TIMEOUT_MS = 2000 * patience;

const listen = addresses.map((host) => ({ host, port: 53 }));
const served = new Map<string, Socket>();
let zone: Zone = zoneOf({});
let asked = 0;

const pins = new Pins(pinDir);
pins.prepare();
const kernel = KernelDns.start({
  listen,
  udpSizeMax: UDP_SIZE_MAX,
  entriesMax: Number(entries),
  cgroup: openCgroup(cgroup),
  pins,
  isServed: ({ host }) => served.has(host),
  listenChanged,
  log: createLogger('warn'),
  checkIntervalMs: 3_600_000,
  probeTimeoutMs: PROBE_TIMEOUT_MS,
});
if ('unavailable' in kernel) {
  console.log(JSON.stringify(kernel));
  process.exit(0);
}

/** What the server says, asked at `server`; undefined: nothing. */
function answer(message: Uint8Array, server: string): Uint8Array | undefined {
  const read = readQuery(message);
  if (!read.ok) return read.answer;
  const options = {
    transport: 'udp',
    udpSizeMax: UDP_SIZE_MAX,
    // What is left out where not all fits, and where names point to, is no matter of chance then.
    random: () => 0,
    server,
    isRecursionAllowed: true,
  } as const;
  const resolved = resolve(zone, read.query, options);
  if (resolved.kind === 'forward') return refusal(read.query, RCODE.REFUSED, true);
  return resolved.bytes;
}

async function serve({ host, port }: HostPort): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  // Clients of the link asked the address that they know.
  const server = kernel instanceof KernelDns ? kernel.askedAt(host) : host;
  socket.on('message', (message, from) => {
    asked++;
    const reply = answer(message, server);
    if (reply !== undefined) socket.send(reply, from.port, from.address);
  });
  await new Promise<void>((done) => {
    socket.once('error', () => done()); // another program has it
    socket.bind(port, host, () => {
      served.set(host, socket);
      done();
    });
  });
}

/** As the agent's server does. */
async function listenChanged(more: readonly HostPort[]): Promise<void> {
  const wanted = [...listen, ...more];
  for (const [host, socket] of served) {
    if (wanted.some((at) => at.host === host)) continue;
    socket.close();
    served.delete(host);
  }
  for (const at of wanted) if (!served.has(at.host)) await serve(at);
}

const CHURNED = ['one', 'two'] as const;
const ANSWERS = 8;
const ADDRESSES = 28; // as many as fit
const CHANGES_A_TURN = 20;

let churning = new AbortController();
let changes = 0;

/** The m-th answer of the first name and the n-th of the second: all addresses in 240.1.m.0/24, in 240.2.n.0/24. */
function churned(...answers: readonly [number, number]): Zone {
  const services = answers.map((answer, i) => {
    const vips = Array.from({ length: ADDRESSES }, (_, at) => `240.${i + 1}.${answer}.${at + 1}`);
    return [CHURNED[i], { vips }] as const;
  });
  return zoneOf({ services: Object.fromEntries(services) });
}

/** What is replaced leaves its element to the next answer, of the same name or the other. */
async function churn(kernelDns: KernelDns, end: AbortSignal): Promise<void> {
  const names = CHURNED.map((name) => `${name}.zerohop.internal`);
  const zones = Array.from({ length: ANSWERS ** 2 }, (_, i) => {
    const next = churned(Math.floor(i / ANSWERS), i % ANSWERS);
    return { next, entries: names.map((name) => [...plainAnswers(next, [name])]) };
  });
  changes = 0;
  while (!end.aborted) {
    for (let i = 0; i < CHANGES_A_TURN; i++) {
      const { next = zone, entries = [] } = zones[Math.floor(Math.random() * zones.length)] ?? {};
      zone = next;
      for (const [at, name] of names.entries()) kernelDns.apply([name], entries[at] ?? []);
      changes += names.length;
    }
    await nextTurn();
  }
}

async function obey(kernelDns: KernelDns, order: Order): Promise<unknown> {
  switch (order.do) {
    case 'everything':
    case 'zone':
      zone = order.do === 'zone' ? zoneOf(order.words) : everything();
      kernelDns.apply(undefined, plainAnswers(zone));
      await kernelDns.check();
      return kernelDns.status();
    case 'change':
      zone = zoneOf(order.words);
      kernelDns.apply(order.names, plainAnswers(zone, order.names));
      return kernelDns.status();
    case 'alike': {
      const before = kernelDns.counters();
      const known = new Set([...plainAnswers(zone)].map(({ name, type }) => `${name} ${type}`));
      const found = await alike(order, addresses, known, answer);
      const after = kernelDns.counters();
      const counted = Object.entries(after).map(([key, count]) => [
        key,
        count - before[key as keyof typeof before],
      ]);
      return { ...found, ...Object.fromEntries(counted) };
    }
    case 'churn':
      churning = new AbortController();
      void churn(kernelDns, churning.signal);
      return kernelDns.status();
    case 'check':
      await kernelDns.check();
      return kernelDns.status();
    case 'fill': {
      using table = BpfMap.openPinned(pins.map('zh_dns_names'));
      const { key, answer: value } = dnsLayouts;
      table.set(new Uint8Array(key.bytes), new Uint8Array(value.bytes));
      return kernelDns.status();
    }
    case 'interrupt': {
      const check = kernelDns.check().then(() => 'ended');
      await sleep(PROBE_TIMEOUT_MS / 20);
      kernelDns.close();
      return { check: await Promise.race([check, sleep(PROBE_TIMEOUT_MS / 2, 'goes on')]) };
    }
    case 'status':
      return { ...kernelDns.status(), ...kernelDns.counters(), asked, changes };
    case 'close':
      kernelDns.close();
      return kernelDns.status();
  }
}

await listenChanged(kernel.listen);
await kernel.enable();
console.log(JSON.stringify(kernel.status()));
for await (const line of createInterface({ input: process.stdin })) {
  churning.abort();
  console.log(JSON.stringify(await obey(kernel, JSON.parse(line) as Order)));
}
process.exit(0);
