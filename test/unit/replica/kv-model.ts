/**
 * The key-value store as a list of operations, each with those it knew of. A put counts until an
 * operation on the same thing that knew it is known; what is then left is read by the rule of its
 * type. No keys, no stamps but for registers, no documents.
 */
import type { KvField, KvOperation, KvType, KvValue, Path } from '../../../src/state/replica/kv.ts';

export interface Op {
  readonly id: number;
  readonly host: number;
  readonly operation: KvOperation;
  readonly knew: ReadonlySet<number>;
  /** Later in time is larger; of operations made at once, the host's number decides. */
  readonly at: number;
  /** Of an increment: all that this host has counted. */
  readonly total: number;
}

export type Leaf = Exclude<KvType, 'map'>;

const typeOf: Record<KvOperation['do'], Leaf | undefined> = {
  set: 'register',
  add: 'set',
  remove: 'set',
  enable: 'flag',
  disable: 'flag',
  increment: 'counter',
  delete: undefined,
};

const startsWith = (path: Path, prefix: Path): boolean =>
  prefix.every((name, i) => path[i] === name);

/** Whether `by` takes the place of what `put` says, or ends it. */
function touches(by: Op, put: Op): boolean {
  const [b, p] = [by.operation, put.operation];
  const type = typeOf[p.do];
  const samePath = b.path.length === p.path.length && startsWith(p.path, b.path);
  if (b.do === 'delete') {
    if (b.type === 'map') return p.path.length > b.path.length && startsWith(p.path, b.path);
    return samePath && b.type === type;
  }
  if (!samePath || typeOf[b.do] !== type) return false;
  if ('element' in b && 'element' in p) return b.element === p.element;
  return type !== 'counter' || by.host === put.host;
}

export class KvModel {
  readonly ops = new Map<number, Op>();

  learn(op: Op): void {
    this.ops.set(op.id, op);
  }

  alive(): Op[] {
    const all = [...this.ops.values()];
    const isPut = ({ operation }: Op): boolean =>
      !['remove', 'disable', 'delete'].includes(operation.do);
    return all.filter(
      (put) => isPut(put) && !all.some((by) => by.knew.has(put.id) && touches(by, put)),
    );
  }

  /** What this host has counted so far. */
  part(host: number, path: Path): number {
    const mine = this.alive().find(
      ({ host: of, operation }) =>
        of === host && operation.do === 'increment' && operation.path.join('/') === path.join('/'),
    );
    return mine?.total ?? 0;
  }

  all(alive = this.alive(), depth = 0): readonly KvField[] {
    const groups = Map.groupBy(
      alive,
      ({ operation: { path, do: what } }) =>
        `${path[depth] ?? ''} ${path.length === depth + 1 ? (typeOf[what] ?? '') : 'map'}`,
    );
    return [...groups]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([group, ops]) => {
        const [name = '', type = ''] = group.split(' ');
        return { name, value: this.#value(type as KvType, ops, depth) };
      });
  }

  #value(type: KvType, ops: Op[], depth: number): KvValue {
    switch (type) {
      case 'map':
        return { type, fields: this.all(ops, depth + 1) };
      case 'flag':
        return { type, enabled: true };
      case 'counter':
        return { type, value: ops.reduce((sum, { total }) => sum + total, 0) };
      case 'set': {
        const elements = ops.flatMap(({ operation }) =>
          'element' in operation ? [operation.element] : [],
        );
        return { type, elements: [...new Set(elements)].toSorted() };
      }
      case 'register': {
        const [last] = ops.toSorted((a, b) => b.at - a.at || b.host - a.host);
        if (last?.operation.do !== 'set') throw new Error('no register');
        return { type, value: last.operation.value };
      }
    }
  }
}
