/**
 * A name of the zone: who is behind it, and the records made of that when
 * somebody asks. Written to only while the edit that made it goes on; records
 * that were made stay right, as they depend on the facts alone.
 */
import { addressOfLabel } from './address-name.ts';
import type { CatalogPort, CatalogService } from '../catalog/catalog.ts';
import { TYPE, zoneTypeOf, type ZoneType } from './numbers.ts';
import { isInhabited, rowsOf } from './rows.ts';
import type { Facts, Fixed, Member, Pointer, Row, UserRecord, ZoneBase } from './rows.ts';
import { makeRrset, type Rrset } from './rrset.ts';

/** Undefined: not made yet; null: there is none. */
interface Made {
  /** What most questions are about. */
  a: Rrset | null | undefined;
  aaaa: Rrset | null | undefined;
  others: Map<number, Rrset | null> | undefined;
}

type Rare = Pick<Facts, 'fixed' | 'members' | 'address' | 'pointer' | 'records'>;

const NOTHING_RARE: Rare = {
  fixed: undefined,
  members: undefined,
  address: undefined,
  pointer: undefined,
  records: undefined,
};

/** There are four for each service: what few of them have is aside. */
export class Entry implements Facts {
  readonly name: string;
  readonly base: ZoneBase;
  /** Names right below it. */
  children = 0;
  service: CatalogService | undefined = undefined;
  port: { readonly service: CatalogService; readonly port: CatalogPort } | undefined = undefined;
  backendsOf: CatalogService | undefined = undefined;
  #rare = NOTHING_RARE;
  #made: Made | undefined = undefined;

  constructor(name: string, base: ZoneBase) {
    this.name = name;
    this.base = base;
  }

  get fixed(): Fixed | undefined {
    return this.#rare.fixed;
  }

  get members(): readonly Member[] | undefined {
    return this.#rare.members;
  }

  get address(): string | undefined {
    return this.#rare.address;
  }

  get pointer(): Pointer | undefined {
    return this.#rare.pointer;
  }

  get records(): readonly UserRecord[] | undefined {
    return this.#rare.records;
  }

  /** Of what few names have. */
  write(rare: Partial<Rare>): void {
    this.#rare = { ...this.#rare, ...rare };
  }

  /** For an edit to write to. */
  copy(): Entry {
    const entry = new Entry(this.name, this.base);
    entry.children = this.children;
    entry.service = this.service;
    entry.port = this.port;
    entry.backendsOf = this.backendsOf;
    entry.#rare = this.#rare;
    // Right for both as long as neither forgets it.
    entry.#made = this.#made;
    return entry;
  }

  /** To be called when a fact was written. */
  forget(): void {
    this.#made = undefined;
  }

  /** Whether something stands here: it is more than a way to longer names. */
  get isInhabited(): boolean {
    return isInhabited(this);
  }

  /** Whether somebody put something here or below: it is not only thought of for its address. */
  get isHeld(): boolean {
    return (
      this.children > 0 ||
      this.service !== undefined ||
      this.port !== undefined ||
      this.backendsOf !== undefined ||
      this.fixed !== undefined ||
      this.members !== undefined ||
      this.records !== undefined
    );
  }

  /** Which of the zone's own names this is to whoever asks: not if a service has the name. */
  get own(): Fixed | undefined {
    return this.service === undefined && this.backendsOf === undefined ? this.fixed : undefined;
  }

  rrset(type: number): Rrset | undefined {
    this.#made ??= { a: undefined, aaaa: undefined, others: undefined };
    const made = this.#made;
    if (type === TYPE.A) {
      if (made.a === undefined) made.a = this.#make('A');
      return made.a ?? undefined;
    }
    if (type === TYPE.AAAA) {
      if (made.aaaa === undefined) made.aaaa = this.#make('AAAA');
      return made.aaaa ?? undefined;
    }
    const zoneType = zoneTypeOf(type);
    if (zoneType === undefined) return undefined;
    made.others ??= new Map();
    let set = made.others.get(type);
    if (set === undefined) {
      set = this.#make(zoneType);
      made.others.set(type, set);
    }
    return set ?? undefined;
  }

  /** The same; what is made for it is not kept: of who has it made of all names at once. */
  rrsetOnce(type: number): Rrset | undefined {
    const made = this.#made;
    const kept =
      type === TYPE.A ? made?.a : type === TYPE.AAAA ? made?.aaaa : made?.others?.get(type);
    if (kept !== undefined) return kept ?? undefined;
    const zoneType = zoneTypeOf(type);
    return zoneType === undefined ? undefined : (this.#make(zoneType) ?? undefined);
  }

  get cname(): Rrset | undefined {
    return this.records === undefined ? undefined : this.rrset(TYPE.CNAME);
  }

  rows(type: ZoneType): Row[] {
    return rowsOf(this, type, this.base);
  }

  #make(type: ZoneType): Rrset | null {
    const end = `.addr.${this.base.domain}`;
    const addressOfTarget = (name: string): string | undefined =>
      name.endsWith(end) ? addressOfLabel(name.slice(0, -end.length)) : undefined;
    const rows = this.rows(type).filter((row) => row.hidden === undefined);
    return makeRrset(type, rows, addressOfTarget) ?? null;
  }
}
