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
type Made = Map<number, Rrset | null>;

export class Entry implements Facts {
  readonly name: string;
  readonly base: ZoneBase;
  /** The edit that may write to it. */
  readonly edit: object | undefined;
  /** Names right below it. */
  children = 0;
  service: CatalogService | undefined = undefined;
  port: { readonly service: CatalogService; readonly port: CatalogPort } | undefined = undefined;
  backendsOf: CatalogService | undefined = undefined;
  fixed: Fixed | undefined = undefined;
  members: readonly Member[] | undefined = undefined;
  address: string | undefined = undefined;
  pointer: Pointer | undefined = undefined;
  records: readonly UserRecord[] | undefined = undefined;
  /** What most questions are about. */
  #a: Rrset | null | undefined = undefined;
  #aaaa: Rrset | null | undefined = undefined;
  #others: Made | undefined = undefined;

  constructor(name: string, base: ZoneBase, edit?: object) {
    this.name = name;
    this.base = base;
    this.edit = edit;
  }

  /** For an edit to write to. */
  copy(edit: object): Entry {
    const entry = new Entry(this.name, this.base, edit);
    entry.children = this.children;
    entry.service = this.service;
    entry.port = this.port;
    entry.backendsOf = this.backendsOf;
    entry.fixed = this.fixed;
    entry.members = this.members;
    entry.address = this.address;
    entry.pointer = this.pointer;
    entry.records = this.records;
    entry.#a = this.#a;
    entry.#aaaa = this.#aaaa;
    entry.#others = this.#others;
    return entry;
  }

  /** To be called when a fact was written. */
  forget(): void {
    this.#a = undefined;
    this.#aaaa = undefined;
    this.#others = undefined;
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
    if (type === TYPE.A) {
      if (this.#a === undefined) this.#a = this.#make('A');
      return this.#a ?? undefined;
    }
    if (type === TYPE.AAAA) {
      if (this.#aaaa === undefined) this.#aaaa = this.#make('AAAA');
      return this.#aaaa ?? undefined;
    }
    const zoneType = zoneTypeOf(type);
    if (zoneType === undefined) return undefined;
    this.#others ??= new Map();
    let made = this.#others.get(type);
    if (made === undefined) {
      made = this.#make(zoneType);
      this.#others.set(type, made);
    }
    return made ?? undefined;
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
