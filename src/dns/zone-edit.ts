/**
 * The next version of a zone's names: what was touched is taken out and put in again, and
 * a name is there as long as something stands at it or below it. Costs what was
 * touched; the names that a zone has are as if they had been put in at once.
 */
import type { CatalogPort, CatalogService } from '../catalog/catalog.ts';
import { BucketMap, type BucketMapEdit } from '../state/bucket-map.ts';
import { addressOfLabel } from './address-name.ts';
import { Entry } from './entry.ts';
import { isWithin, NAME_BYTES_MAX, parentOf } from './names.ts';
import { heldVips, type Fixed, type Member, type Pointer } from './rows.ts';
import type { UserRecord, ZoneBase } from './rows.ts';

/** As text: without the length of the first label and the root. */
const NAME_CHARS_MAX = NAME_BYTES_MAX - 2;

const NOBODY: Pointer = { services: [], members: [] };

/** Of most addresses there is one service to tell, and its name is enough: there are 20,000. */
export type ShortPointer = string | Pointer;

export function wholePointer(pointer: ShortPointer): Pointer {
  return typeof pointer === 'string' ? { services: [pointer], members: [] } : pointer;
}

function shortPointer(pointer: Pointer): ShortPointer {
  const { services, members } = pointer;
  const [only] = services;
  return only !== undefined && services.length === 1 && members.length === 0 ? only : pointer;
}

function without<T>(list: readonly T[], isIt: (one: T) => boolean): readonly T[] {
  return list.filter((one) => !isIt(one));
}

function undefinedIfEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

const portName = ({ name, protocol }: CatalogPort): string => `_${name}._${protocol}`;

export class ZoneEdit {
  readonly touched = new Set<string>();
  readonly #base: ZoneBase;
  readonly #names: BucketMapEdit<Entry>;
  readonly #pointers: BucketMapEdit<ShortPointer>;
  /** Made by this edit, which alone may write to them. */
  readonly #own = new Set<Entry>();

  constructor(base: ZoneBase, names: BucketMap<Entry>, pointers: BucketMap<ShortPointer>) {
    this.#base = base;
    this.#names = names.edit();
    this.#pointers = pointers.edit();
  }

  build(): { names: BucketMap<Entry>; pointers: BucketMap<ShortPointer> } {
    return { names: this.#names.build(), pointers: this.#pointers.build() };
  }

  fixed(name: string, fixed: Fixed): void {
    this.#write(name, (entry) => {
      entry.write({ fixed });
    });
  }

  /** `before` as the zone has it. */
  service(before: CatalogService | undefined, after: CatalogService | undefined): void {
    if (after !== undefined) this.#putService(after);
    if (before !== undefined) this.#takeService(before, after);
    const [vipsBefore, vipsAfter] = [before, after].map((it) => new Set(it ? heldVips(it) : []));
    const name = before?.name ?? after?.name ?? '';
    for (const vip of vipsAfter ?? [])
      if (vipsBefore?.has(vip) !== true)
        this.#point(vip, (it) => ({ ...it, services: [...it.services, name] }));
    for (const vip of vipsBefore ?? [])
      if (vipsAfter?.has(vip) !== true)
        this.#point(vip, (it) => ({
          ...it,
          services: without(it.services, (one) => one === name),
        }));
  }

  #putService(service: CatalogService): void {
    const name = `${service.name}.${this.#base.domain}`;
    this.#write(name, (entry) => {
      entry.service = service;
    });
    this.#write(`backends.${name}`, (entry) => {
      entry.backendsOf = service;
    });
    for (const port of service.ports)
      this.#write(`${portName(port)}.${name}`, (entry) => {
        entry.port = { service, port };
      });
  }

  /** What `after` has not put in again. */
  #takeService(service: CatalogService, after: CatalogService | undefined): void {
    const name = `${service.name}.${this.#base.domain}`;
    const kept = new Set(after?.ports.map(portName));
    for (const port of service.ports.map(portName))
      if (!kept.has(port))
        this.#write(`${port}.${name}`, (entry) => {
          entry.port = undefined;
        });
    if (after !== undefined) return;
    this.#write(`backends.${name}`, (entry) => {
      entry.backendsOf = undefined;
    });
    this.#write(name, (entry) => {
      entry.service = undefined;
    });
  }

  member(before: Member | undefined, after: Member | undefined): void {
    if (before !== undefined) this.#eachOf(before, (list) => without(list, (it) => it === before));
    if (after !== undefined) this.#eachOf(after, (list) => [...list, after]);
  }

  #eachOf(member: Member, change: (list: readonly Member[]) => readonly Member[]): void {
    for (const name of new Set([member.fullName, `${member.id}.node.${this.#base.domain}`]))
      this.#write(name, (entry) => {
        entry.write({ members: undefinedIfEmpty(change(entry.members ?? [])) });
      });
    for (const address of member.addresses)
      this.#point(address, (it) => ({ ...it, members: change(it.members) }));
  }

  record(before: UserRecord | undefined, after: UserRecord | undefined): void {
    const name = (before ?? after)?.name ?? '';
    this.#write(name, (entry) => {
      const others = without(entry.records ?? [], (it) => it === before);
      const records = undefinedIfEmpty(after === undefined ? others : [...others, after]);
      entry.write({ records });
    });
  }

  #point(address: string, change: (pointer: Pointer) => Pointer): void {
    const pointer = change(wholePointer(this.#pointers.get(address) ?? NOBODY));
    const isGone = pointer.services.length === 0 && pointer.members.length === 0;
    if (isGone) this.#pointers.delete(address);
    else this.#pointers.set(address, shortPointer(pointer));
  }

  #write(name: string, change: (entry: Entry) => void): void {
    if (name.length > NAME_CHARS_MAX) return;
    const entry = this.#writable(name);
    change(entry);
    entry.forget();
    this.touched.add(name);
    this.#release(entry);
  }

  #writable(name: string): Entry {
    const there = this.#names.get(name);
    if (there !== undefined && this.#own.has(there)) return there;
    const entry = there?.copy() ?? new Entry(name, this.#base);
    this.#own.add(entry);
    this.#names.set(name, entry);
    if (there !== undefined) return entry;
    this.touched.add(name);
    const parent = this.#parentOf(name);
    if (parent !== undefined) this.#writable(parent).children += 1;
    if (parent === `addr.${this.#base.domain}`)
      entry.write({ address: addressOfLabel(name.slice(0, name.indexOf('.'))) });
    return entry;
  }

  /** Only names of the domain have one: of others nobody else is to answer for. */
  #parentOf(name: string): string | undefined {
    const { domain } = this.#base;
    return name !== domain && isWithin(name, domain) ? parentOf(name) : undefined;
  }

  /** If nobody holds it, away with it, and with what was there only for its sake. */
  #release(entry: Entry): void {
    if (entry.isHeld) return;
    this.#names.delete(entry.name);
    this.touched.add(entry.name);
    const parentName = this.#parentOf(entry.name);
    if (parentName === undefined) return;
    const parent = this.#writable(parentName);
    parent.children -= 1;
    this.#release(parent);
  }
}
