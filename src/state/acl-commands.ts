/**
 * What a command does to access rules, beside the services that they name.
 * A rule may come before its service: that is worth a warning, no more.
 */
import { inPools, type VipPools } from '../catalog/vips.ts';
import type { Document } from './documents.ts';
import type { Draft } from './draft.ts';
import type { Problem } from './problem.ts';
import type { AclRecord, ServicePort, StateSnapshot } from './records.ts';
import { didYouMean } from './suggest.ts';

export interface AclWork {
  readonly draft: Draft;
  readonly pools: VipPools;
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

/** That there is no such rule, and which one may have been meant. */
export function unknownAcl(names: Iterable<string>, name: string): Problem {
  const known = [...names];
  const otherwise =
    known.length === 0
      ? 'there is none yet: `zerohop apply` adds them'
      : '`zerohop acl ls` shows them';
  return {
    code: 'not-found',
    message: `there is no rule "${name}"`,
    hint: didYouMean(name, known, otherwise),
  };
}

/** The part of a rule's target that is missing, in words; undefined if all is there. */
function missing(
  rule: AclRecord,
  portsOf: (service: string) => readonly ServicePort[] | undefined,
): 'service' | 'port' | undefined {
  if (rule.to.kind !== 'service') return undefined;
  const { service, portName } = rule.to;
  const ports = portsOf(service);
  if (ports === undefined) return 'service';
  return portName === undefined || ports.some((port) => port.name === portName)
    ? undefined
    : 'port';
}

export class AclCommands {
  readonly #work: AclWork;
  /** Rules put by this command, and where they were. */
  readonly #put = new Map<string, string>();

  constructor(work: AclWork) {
    this.#work = work;
  }

  put(rule: AclRecord, path: string): void {
    this.#put.set(rule.name, path);
    this.#work.draft.putAcl(rule);
    this.#warnOfVips(rule, path);
  }

  remove(name: string): void {
    const { draft, problems } = this.#work;
    if (draft.acl(name) === undefined) {
      problems.push(
        unknownAcl(
          [...draft.acls()].map((rule) => rule.name),
          name,
        ),
      );
    } else {
      draft.removeAcl(name);
    }
  }

  apply(documents: readonly Document[]): void {
    const seen = new Map<string, number>();
    for (const [index, document] of documents.entries()) {
      if (document.kind !== 'acl') continue;
      const { kind: _, ...rule } = document;
      const first = seen.get(rule.name);
      if (first === undefined) {
        seen.set(rule.name, index);
        this.put(rule, `documents[${index}]`);
      } else {
        this.#work.problems.push({
          code: 'conflict',
          message: `rule "${rule.name}" is described twice`,
          path: `documents[${index}].name`,
          hint: `first in documents[${first}]`,
        });
      }
    }
  }

  /** Of rules put now, and of those that just lost what they name. */
  warnOfMissingServices(before: StateSnapshot): void {
    const { draft } = this.#work;
    const portsNow = (name: string): readonly ServicePort[] | undefined =>
      draft.service(name)?.ports;
    for (const [name, path] of this.#put) {
      const rule = draft.acl(name);
      if (rule !== undefined) this.#warnIfMissing(rule, missing(rule, portsNow), path);
    }
    const written = new Set(draft.writtenServices());
    if (written.size === 0) return;
    for (const rule of draft.acls()) {
      if (this.#put.has(rule.name)) continue;
      if (rule.to.kind !== 'service' || !written.has(rule.to.service)) continue;
      const was = missing(rule, (name) => before.services.get(name)?.ports);
      const is = missing(rule, portsNow);
      if (was === undefined && is !== undefined) this.#warnThatGone(rule, is);
    }
  }

  #warnIfMissing(rule: AclRecord, what: 'service' | 'port' | undefined, path: string): void {
    if (what === undefined || rule.to.kind !== 'service') return;
    const { draft, warnings } = this.#work;
    const { service, portName = '' } = rule.to;
    const field = `to.${what}`;
    const later = 'it protects nothing until there is one';
    const known =
      what === 'service'
        ? [...draft.services()].map(({ name }) => name)
        : (draft.service(service)?.ports ?? []).map(({ name }) => name);
    warnings.push({
      code: 'not-found',
      message:
        what === 'service'
          ? `rule "${rule.name}" names service "${service}", and there is none`
          : `rule "${rule.name}" names port "${portName}" of "${service}", which has none of that name`,
      path: path === '' ? field : `${path}.${field}`,
      hint: didYouMean(what === 'service' ? service : portName, known, later),
    });
  }

  #warnThatGone(rule: AclRecord, what: 'service' | 'port'): void {
    if (rule.to.kind !== 'service') return;
    const { service, portName = '' } = rule.to;
    const thing =
      what === 'service' ? `service "${service}"` : `port "${portName}" of "${service}"`;
    this.#work.warnings.push({
      code: 'not-found',
      message: `rule "${rule.name}" names ${thing}, which is gone: it protects nothing now`,
      hint: `what listened there is open to whom no other rule stops; \`zerohop acl rm ${rule.name}\` removes the rule`,
    });
  }

  /** A connection to a VIP is judged as the backend that it leads to. */
  #warnOfVips(rule: AclRecord, path: string): void {
    if (rule.to.kind !== 'cidr') return;
    const first = rule.to.cidr.slice(0, rule.to.cidr.indexOf('/'));
    if (!inPools(this.#work.pools, first)) return;
    this.#work.warnings.push({
      code: 'invalid',
      message: `rule "${rule.name}" names ${rule.to.cidr}, where VIPs live: connections to a VIP are judged as its backends`,
      path: path === '' ? 'to.cidr' : `${path}.to.cidr`,
      hint: 'name the service instead: `to: {service: NAME}`',
    });
  }
}
