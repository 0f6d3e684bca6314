/**
 * Where one host's kernel sends one VIP: a few lookups in its pinned maps, so
 * that many hosts can be asked every few milliseconds. Follows the way of
 * bpf/balance.h: VIP → service → its slots → backends.
 */
import { BpfMap } from '../../addon/index.ts';
import {
  decodeBackend,
  decodeService,
  decodeSlot,
  decodeU32,
  encodeU32,
  encodeVipKey,
  noSuchPort,
  protocolNumber,
} from '../../src/datapath/abi.ts';
import { formatEndpoint, formatIp, parseIp } from '../../src/net/ip.ts';
import type { TestHost } from './host.ts';
import { mapPath } from './maps.ts';

const NEVER = 0;
const ALWAYS = 0xffffffff;

export class VipWatch implements Disposable {
  readonly #maps = new DisposableStack();
  readonly #vips: BpfMap;
  readonly #services: BpfMap;
  readonly #slots: BpfMap;
  readonly #backends: BpfMap;
  readonly #key: Uint8Array;
  #set = '';
  #seen: readonly string[] | undefined;

  constructor(host: TestHost, vip: string, port: number) {
    const open = (name: string): BpfMap => this.#maps.use(BpfMap.openPinned(mapPath(host, name)));
    this.#vips = open('zh_vips');
    this.#services = open('zh_services');
    this.#slots = open('zh_slots');
    this.#backends = open('zh_backends');
    const addr = parseIp(vip);
    if (addr === undefined) throw new Error(`${vip} is no address`);
    this.#key = encodeVipKey({ addr, port, protocol: protocolNumber.tcp });
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
  }

  /** ADDR:PORT of each backend that connects are sent to, sorted; undefined where this is no VIP. */
  read(): readonly string[] | undefined {
    for (;;) {
      const index = this.#vips.get(this.#key);
      if (index === undefined || decodeU32(index) === noSuchPort) return undefined;
      const set = this.#setOf(index);
      if (set === this.#set) return this.#seen;
      const seen = this.#members(index);
      // A set that was replaced while it was read is read again.
      if (this.#setOf(index) !== set) continue;
      this.#set = set;
      this.#seen = seen;
      return seen;
    }
  }

  #setOf(index: Uint8Array): string {
    const { base, count, gen } = decodeService(this.#entry(this.#services, index));
    return `${decodeU32(index)} ${base} ${count} ${gen}`;
  }

  #members(index: Uint8Array): readonly string[] {
    const { base, count } = decodeService(this.#entry(this.#services, index));
    const ids = new Set<number>();
    for (let i = 0; i < count; i++) {
      const { backend, alias, threshold } = decodeSlot(
        this.#entry(this.#slots, encodeU32(base + i)),
      );
      if (threshold !== NEVER) ids.add(backend);
      if (threshold !== ALWAYS) ids.add(alias);
    }
    return [...ids]
      .map((id) => {
        const { addr, port } = decodeBackend(this.#entry(this.#backends, encodeU32(id)));
        return formatEndpoint(formatIp(addr), port);
      })
      .toSorted();
  }

  #entry(map: BpfMap, key: Uint8Array): Uint8Array {
    const value = map.get(key);
    if (value === undefined) throw new Error(`${map.info.name} has no entry ${decodeU32(key)}`);
    return value;
  }
}
