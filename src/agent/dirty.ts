/**
 * What is in the snapshot and not yet in the kernel: names of services, rules. Of
 * the services, also those that the tables had no room for when that was tried last.
 */
import type { AclRecord } from '../state/records.ts';
import type { Viewed } from '../state/replica/view.ts';

export class Dirty {
  readonly services = new Set<string>();
  /** Of these services, the ones that did not fit. */
  readonly unfit = new Set<string>();
  /** Whether the rules are others than those in force. */
  isAcl = false;
  readonly #acls = new Map<string, AclRecord>();

  get isAny(): boolean {
    return this.services.size > 0 || this.isAcl;
  }

  /** Those that are worth a try. */
  get fitting(): string[] {
    return [...this.services].filter((name) => !this.unfit.has(name));
  }

  mark({ touched, aclsChanged, changes }: Viewed): void {
    this.add(touched);
    if (!aclsChanged) return;
    this.isAcl = true;
    for (const change of changes) {
      if (change.kind === 'put-acl') this.#acls.set(change.acl.name, change.acl);
      else if (change.kind === 'remove-acl') this.#acls.delete(change.name);
    }
  }

  add(services: Iterable<string>): void {
    for (const name of services) {
      this.services.add(name);
      this.unfit.delete(name);
    }
  }

  settle(services: Iterable<string>): void {
    for (const name of services) {
      this.services.delete(name);
      this.unfit.delete(name);
    }
  }

  takeAcls(): ReadonlyMap<string, AclRecord> {
    const acls = new Map(this.#acls);
    this.#acls.clear();
    this.isAcl = false;
    return acls;
  }

  giveBackAcls(acls: ReadonlyMap<string, AclRecord>): void {
    for (const [name, acl] of acls) if (!this.#acls.has(name)) this.#acls.set(name, acl);
    this.isAcl = true;
  }

  /** All of it is in the kernel, or about to be. */
  clear(): void {
    this.settle([...this.services]);
    this.takeAcls();
  }
}
