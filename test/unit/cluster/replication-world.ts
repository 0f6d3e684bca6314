/**
 * Hosts that replicate over a network in memory, with disks and virtual time. Messages take their
 * time, each its own, get lost, and end with the link; a host can die between any two outputs. What
 * a broadcast does is left out: each copy arrives, or does not.
 */
import assert from 'node:assert/strict';
import { Ephemeral } from '../../../src/cluster/ephemeral.ts';
import type {
  ReplicationConfig,
  ReplicationInput,
  ReplicationOutput,
} from '../../../src/cluster/replication-types.ts';
import { Replication } from '../../../src/cluster/replication.ts';
import { below, sfc32, unit, type Random } from '../../../src/hyparview-ts/random.ts';
import { Replica, SHARED, type Saved, type Write } from '../../../src/state/replica/replica.ts';

interface Host {
  readonly id: string;
  replica: Replica;
  replication: Replication;
  saved: Saved;
  life: number;
  readonly links: Set<number>;
  /** What listeners of `changed` hold. */
  seen: Map<string, string>;
  crashAfter: number | undefined;
  wakeAtMs: number | undefined;
}

interface Due {
  readonly atMs: number;
  readonly order: number;
  run(): void;
}

export class Network {
  readonly hosts: Host[] = [];
  readonly acknowledged = new Map<string, { document: string; value: string }>();
  nowMs = 0;
  loss = 0;
  #parted = 0;
  #order = 0;
  #due: Due[] = [];
  readonly #random: Random;
  readonly #config: Partial<ReplicationConfig>;

  constructor(count: number, seed: number, config: Partial<ReplicationConfig> = {}) {
    this.#random = sfc32(seed);
    this.#config = config;
    for (let i = 0; i < count; i++) {
      const saved: Saved = { clock: '', updates: [] };
      this.hosts.push({ ...this.#open(`n${i}`, i, saved, 1), id: `n${i}`, links: new Set() });
    }
    this.relink();
  }

  #open(node: string, index: number, saved: Saved, life: number): Omit<Host, 'id' | 'links'> {
    const replica = Replica.open({ node, writer: 100 + index }, saved);
    const ephemeral = new Ephemeral(node, life);
    const random = sfc32(index, life);
    const replication = new Replication({ replica, ephemeral, random, config: this.#config });
    const seen = mirror(replica);
    return {
      replica,
      replication,
      saved,
      life,
      seen,
      crashAfter: undefined,
      wakeAtMs: undefined,
    };
  }

  host(index: number): Host {
    const host = this.hosts[index % this.hosts.length];
    if (host === undefined) throw new Error('no such host');
    return host;
  }

  /** A ring with chords, but for what is parted. */
  relink(): void {
    const count = this.hosts.length;
    for (let a = 0; a < count; a++)
      for (let b = a + 1; b < count; b++) {
        const apart = Math.min(b - a, count - b + a);
        const isLinked = apart <= 2 && ((this.#parted >> a) & 1) === ((this.#parted >> b) & 1);
        if (isLinked === this.host(a).links.has(b)) continue;
        for (const [one, other] of [
          [a, b],
          [b, a],
        ] as const) {
          const { links } = this.host(one);
          if (isLinked) links.add(other);
          else links.delete(other);
          this.give(one, { type: isLinked ? 'up' : 'down', peer: `n${other}` });
        }
      }
  }

  part(sides: number): void {
    this.#parted = sides;
    this.relink();
  }

  give(index: number, input: ReplicationInput): void {
    const host = this.host(index);
    const wallMs = 1_000_000 + this.nowMs + 70_000 * (index % 3);
    for (const output of host.replication.handle(input, this.nowMs, wallMs)) {
      if (host.crashAfter === 0) return this.crash(index);
      if (host.crashAfter !== undefined) host.crashAfter -= 1;
      this.#do(index, host, output);
    }
  }

  /** Acknowledged, and so never to be lost, if it is on disk. */
  write(index: number, writes: readonly Write[], isUnique: boolean): void {
    const at = index % this.hosts.length;
    const host = this.host(at);
    const { life } = host;
    const done = host.replica.transact(writes, 1_000_000 + this.nowMs);
    this.give(at, { type: 'local', ...done });
    if (!isUnique || host.life !== life) return;
    for (const { document, key, value = '' } of writes) {
      const id = document === 'shared' ? SHARED : host.replica.own;
      this.acknowledged.set(`${id} ${key}`, { document: id, value });
    }
  }

  compact(index: number, document: 'shared' | 'own'): void {
    const at = index % this.hosts.length;
    const { replica } = this.host(at);
    const update = replica.compact(document === 'shared' ? SHARED : replica.own);
    this.give(at, { type: 'local', updates: [update], changed: [] });
  }

  /** kill -9, and back at once with what is on disk. */
  crash(index: number): void {
    const at = index % this.hosts.length;
    const host = this.host(at);
    const links = [...host.links];
    Object.assign(host, this.#open(host.id, at, host.saved, host.life + 1));
    for (const other of links) {
      this.give(other, { type: 'down', peer: host.id });
      this.give(other, { type: 'up', peer: host.id });
      this.give(at, { type: 'up', peer: `n${other}` });
    }
  }

  #do(index: number, host: Host, output: ReplicationOutput): void {
    switch (output.type) {
      case 'store': {
        const ids = new Set(output.whole ? output.updates.map(({ document }) => document) : []);
        const others = host.saved.updates.filter(({ document }) => !ids.has(document));
        host.saved = { clock: output.clock, updates: [...others, ...output.updates] };
        return;
      }
      case 'broadcast':
        for (const to of this.hosts.keys())
          this.#carry(index, to, {
            type: 'broadcast',
            origin: host.id,
            bytes: output.bytes,
          });
        return;
      case 'send':
        this.#carry(index, Number(output.to.slice(1)), {
          type: 'message',
          from: host.id,
          bytes: output.bytes,
        });
        return;
      case 'schedule':
        return this.#wake(index, host, output.atMs);
      case 'changed':
        for (const { document, key, after } of output.changed) {
          if (after === undefined) host.seen.delete(`${document} ${key}`);
          else host.seen.set(`${document} ${key}`, after);
        }
        return;
      case 'facts':
        return;
      case 'notice':
        assert.ok(
          ['epoch', 'clock-ahead', 'gap', 'no-answer'].includes(output.notice.type),
          JSON.stringify(output),
        );
    }
  }

  #wake(index: number, host: Host, atMs: number): void {
    const { life } = host;
    assert.ok(
      atMs > this.nowMs,
      `${host.id} wants a timer ${this.nowMs - atMs} ms ago: no end of it`,
    );
    host.wakeAtMs = atMs;
    this.at(atMs, () => {
      if (host.life === life && host.wakeAtMs === atMs) this.give(index, { type: 'timer' });
    });
  }

  #carry(from: number, to: number, input: ReplicationInput): void {
    if (unit(this.#random) < this.loss) return;
    const lives = [this.host(from).life, this.host(to).life];
    this.at(this.nowMs + 1 + below(this.#random, 50), () => {
      const isParted = ((this.#parted >> from) & 1) !== ((this.#parted >> to) & 1);
      if (isParted || this.host(to).life !== lives[1]) return;
      if (input.type === 'message' && this.host(from).life !== lives[0]) return;
      this.give(to, input);
    });
  }

  at(atMs: number, run: () => void): void {
    this.#order += 1;
    this.#due.push({ atMs, order: this.#order, run });
  }

  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      const next = this.#due.reduce<Due | undefined>(
        (best, due) =>
          best === undefined ||
          due.atMs < best.atMs ||
          (due.atMs === best.atMs && due.order < best.order)
            ? due
            : best,
        undefined,
      );
      if (next === undefined || next.atMs > untilMs) break;
      this.#due.splice(this.#due.indexOf(next), 1);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
    }
    this.nowMs = untilMs;
  }

  /** All say the same, their disks too, and nothing acknowledged is missing. */
  check(): void {
    const [first] = this.hosts.map(({ replica }) => valuesOf(replica));
    for (const [i, { id, replica, seen, saved }] of this.hosts.entries()) {
      assert.deepEqual(valuesOf(replica), first, id);
      assert.deepEqual(Object.fromEntries(seen), first, `${id}, its listeners`);
      const stored = Replica.open({ node: id, writer: 100 + i }, saved);
      assert.deepEqual(valuesOf(stored), first, `${id}, its disk`);
      for (const [name, { document, value }] of this.acknowledged)
        assert.equal(replica.get(document, name.slice(document.length + 1)), value, name);
    }
  }
}

export function mirror(replica: Replica): Map<string, string> {
  const values = new Map<string, string>();
  for (const id of replica.documents())
    for (const { key } of replica.winners(id))
      values.set(`${id} ${key}`, replica.get(id, key) ?? '?');
  return values;
}

function valuesOf(replica: Replica): Record<string, string> {
  return Object.fromEntries(mirror(replica));
}
