/**
 * A zone with a bit of everything, and an endless list of things to send to its server: names that
 * are there and that are not, written in any casing, with all sorts of EDNS, and broken messages.
 * The same seed gives the same list.
 */
import { nameToWire } from '../../../src/dns/names.ts';
import { DOMAIN, zoneOf, type Words } from '../../unit/dns/zones.ts';
import type { Zone } from '../../../src/dns/zone.ts';

const backends = (port: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${port} 10.0.${count}.${i + 1}:80`);

const services: NonNullable<Words['services']> = {
  web: { vips: ['240.0.0.1', 'fd00::1'], ports: ['http=80/tcp'], backends: backends('http', 3) },
  old: { vips: ['240.0.0.2'], ports: ['http=80/tcp'], backends: backends('http', 1) },
  new: { vips: ['fd00::2'], ports: ['http=80/tcp'], backends: ['http [fd01::1]:80'] },
  many: { vips: ['240.0.0.3', '240.0.0.4', '240.0.0.5', 'fd00::3', 'fd00::4'], ports: [] },
  none: { vips: [], ports: [] },
  // 40 do not fit into 512 bytes; the kernel copies both parts of what is given in turn.
  half: { vips: ['240.0.0.6'], ports: ['a=1/udp'], backends: backends('a', 16) },
  more: { vips: ['240.0.0.7'], ports: ['a=1/udp'], backends: backends('a', 17) },
  lots: { vips: ['240.0.0.8'], ports: ['a=1/udp'], backends: backends('a', 40) },
  'with.dots.in-it': { vips: ['240.0.0.9'], ports: [] },
  [`${'l'.repeat(60)}.${'m'.repeat(39)}`]: { vips: ['240.0.0.10'], ports: [] }, // 128 bytes in all
  [`${'l'.repeat(60)}.${'m'.repeat(40)}`]: { vips: ['240.0.0.11'], ports: [] },
};

const records = [
  'www.example.org A 192.0.2.1',
  'www.example.org A 192.0.2.2',
  'www.example.org TXT hello',
  'six.example.org AAAA 2001:db8::1',
  `alias.example.org CNAME web.${DOMAIN}`,
  'out.example.org CNAME elsewhere.example.com',
  'mail.example.org MX 10 mx.example.org',
  'odd\\032name.example.org A 192.0.2.3',
  `web.${DOMAIN} TXT beside`,
  'top A 192.0.2.4',
];

export function everything(): Zone {
  return zoneOf({ services, records, nodes: { n1: { name: 'one', addresses: ['192.0.2.9'] } } });
}

const heads = ['', '_http._tcp.', 'backends.', '_a._udp.', 'x.', 'backends.x.'];

const names: readonly string[] = [
  ...Object.keys(services).flatMap((name) => heads.map((head) => `${head}${name}.${DOMAIN}`)),
  ...new Set(records.map((record) => record.split(' ')[0] ?? '')),
  ...[DOMAIN, 'internal', '', 'ready', 'ns', 'node', 'addr', 'one.node', '10-0-0-1.addr'].map(
    (name) => (name.includes('internal') || name === '' ? name : `${name}.${DOMAIN}`),
  ),
  'nosuch.zerohop.internal',
  'example.org',
  'a.b.c.d.e.f.g',
  'localhost',
  'web',
  '1.0.0.240.in-addr.arpa',
  '9.9.9.240.in-addr.arpa',
  '1.0.0.127.in-addr.arpa',
];

/** Those that have addresses, which is what the kernel answers. */
const plain: readonly string[] = [
  ...Object.keys(services).flatMap((name) => [`${name}.${DOMAIN}`, `backends.${name}.${DOMAIN}`]),
  'www.example.org',
  'six.example.org',
  'odd\\032name.example.org',
  'top',
  `one.node.${DOMAIN}`,
];

export type Random = () => number;

/** Mulberry32, by T. Ettinger: 32 bits of state. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const types = [1, 1, 1, 1, 28, 28, 28, 33, 16, 12, 6, 2, 5, 15, 255, 41, 0, 252, 65, 65_535];
const sizes = [0, 100, 511, 512, 513, 1231, 1232, 1233, 4096, 65_535];

export class Questions {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }

  #chance(oneIn: number): boolean {
    return this.#below(oneIn) === 0;
  }

  /** With id 0. */
  next(): Uint8Array<ArrayBuffer> {
    const isPlain = this.#chance(2);
    const name = (nameToWire(this.#pick(isPlain ? plain : names)) ?? new Uint8Array(1)).map(
      (byte) => (byte >= 97 && byte <= 122 && this.#chance(2) ? byte - 32 : byte),
    );
    const [type, questionClass] = [
      isPlain ? this.#pick([1, 28]) : this.#pick(types),
      this.#chance(30) ? this.#below(256) : 1,
    ];
    const edns = this.#chance(2) ? [] : this.#edns();
    const isTwice = edns.length > 0 && this.#chance(40);
    const rest = [...edns, ...(isTwice ? edns : [])];
    const flags = this.#chance(20) ? this.#below(65_536) : this.#pick([0, 0x100, 0x120, 0x110]);
    const additionals = Number(edns.length > 0) + Number(isTwice);
    const counts = [1, 0, 0, additionals].map((n) => (this.#chance(200) ? this.#below(3) : n));
    const words = [0, flags, ...counts].flatMap((word) => [word >> 8, word & 0xff]);
    const question = [...name, type >> 8, type & 0xff, questionClass >> 8, questionClass & 0xff];
    const message = Uint8Array.from([...words, ...question, ...rest]);
    return this.#chance(15) ? this.#broken(message) : message;
  }

  #edns(): number[] {
    const size = this.#pick(sizes);
    const version = this.#chance(20) ? this.#below(256) : 0;
    const isOk = this.#chance(3) ? 0x80 : 0;
    const options = this.#chance(3) ? this.#options() : [];
    const length = this.#chance(50) ? this.#below(20) : options.length;
    const owner = this.#chance(60) ? [1, 97, 0] : [0];
    const extended = this.#chance(40) ? this.#below(256) : 0;
    const head = [0, 41, size >> 8, size & 0xff, extended, version, isOk, this.#below(2)];
    return [...owner, ...head, length >> 8, length & 0xff, ...options];
  }

  #options(): number[] {
    return Array.from({ length: 1 + this.#below(2) }, () => {
      const value = Array.from({ length: this.#pick([0, 4, 8, 40]) }, () => this.#below(256));
      const length = this.#chance(20) ? this.#below(9) : value.length;
      return [0, this.#pick([3, 8, 10, 12]), 0, length, ...value];
    }).flat();
  }

  #broken(message: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    switch (this.#below(4)) {
      case 0:
        return message.slice(0, this.#below(message.length));
      case 1:
        return Uint8Array.from([
          ...message,
          ...Array.from({ length: 1 + this.#below(9) }, () => this.#below(256)),
        ]);
      case 2: {
        const bytes = message.slice();
        for (let i = 0; i < 3; i++) bytes[2 + this.#below(bytes.length - 2)] = this.#below(256);
        return bytes;
      }
      default: {
        // A pointer, or a label that is too long, in the question.
        const bytes = message.slice();
        bytes[12 + this.#below(Math.max(1, bytes.length - 12))] = this.#pick([0xc0, 0x40, 0x3f, 0]);
        return bytes;
      }
    }
  }
}
