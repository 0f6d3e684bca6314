/** Tables brought up to date: equal to those made anew, and written in an order that hides every half. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classifyPath } from '../../../src/acl/automaton.ts';
import {
  compileAcl,
  NO_NUMBERING,
  tablesBetween,
  updateEndpoints,
  type Compiled,
} from '../../../src/acl/compile.ts';
import { evaluate, type World } from '../../../src/acl/evaluate.ts';
import { judge, judgeIngress, type Finding } from '../../../src/acl/judge.ts';
import { countWrites, diffGeneration, type Step, type Table } from '../../../src/acl/plan.ts';
import type { AclTables } from '../../../src/acl/tables.ts';
import type { CatalogService } from '../../../src/catalog/catalog.ts';
import { protocolNumber } from '../../../src/datapath/abi.ts';
import { parseIp } from '../../../src/net/ip.ts';
import { Dice, testSeed } from '../../harness/random.ts';
import { changedServices, randomDestination, randomSubject, randomWorld } from './worlds.ts';

const limits = { aclRules: 16_384, aclEntries: 262_144, aclGlobs: 32_768 };
const POLICIES = 1500;
const first = testSeed();

function compile(world: World): Compiled {
  return compileAcl({ ...world, numbering: NO_NUMBERING, limits });
}

interface Change {
  readonly dice: Dice;
  readonly world: World;
  readonly services: ReadonlyMap<string, CatalogService>;
  readonly before: Compiled;
  readonly between: AclTables;
  readonly after: Compiled;
}

function everyChange(check: (change: Change) => void): void {
  for (let i = 0; i < POLICIES; i++) {
    const seed = (first + i) >>> 0;
    const dice = new Dice(seed);
    const world = randomWorld(dice);
    const { services, touched } = changedServices(dice, world.services);
    const before = compile(world);
    try {
      const between = tablesBetween(before, services, touched);
      const after = updateEndpoints(before, services, touched);
      check({ dice, world, services, before, between, after });
    } catch (error) {
      throw new Error(`ZEROHOP_TEST_SEED=${seed}`, { cause: error });
    }
  }
}

const TABLES = ['matches', 'sources', 'dests', 'cidrs'] as const;

function plain(tables: AclTables): unknown {
  const sorted = (map: ReadonlyMap<string, unknown>): unknown =>
    [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { flags: tables.flags, ...Object.fromEntries(TABLES.map((t) => [t, sorted(tables[t])])) };
}

test('tables brought up to date are those that are made anew, and the old ones stay as they were', () => {
  let differ = 0;
  everyChange(({ world, services, before, after }) => {
    const old = plain(compile(world).tables);
    assert.deepEqual(plain(before.tables), old);
    assert.deepEqual(plain(after.tables), plain(compile({ ...world, services }).tables));
    if (after.tables.dests !== before.tables.dests) differ += 1;
    // And back again.
    const back = updateEndpoints(after, world.services, [
      ...services.keys(),
      ...world.services.keys(),
    ]);
    assert.deepEqual(plain(back.tables), old);
  });
  assert.ok(differ > POLICIES / 4, `${differ} changes changed anything`);
});

type Judge = (tables: AclTables) => Finding;

function randomJudges(
  dice: Dice,
  tables: AclTables,
  services: ReadonlyMap<string, CatalogService>,
): Judge[] {
  return Array.from({ length: 6 }, () => {
    const subject = randomSubject(dice);
    const { address, port, protocol } = randomDestination(dice, services);
    const ip = parseIp(address);
    assert.ok(ip);
    const number = protocol === 'other' ? 1 : protocolNumber[protocol];
    if (dice.below(4) === 0)
      return (now: AclTables) => judgeIngress(now, ip, { port, protocol: number });
    const cgroup = classifyPath(tables.automaton, subject.cgroup ?? '/');
    const task = { cgroup, uid: subject.uid, gid: subject.gids[0] ?? 0, groups: [] };
    return (now: AclTables) => judge(now, task, { ip, port, protocol: number });
  });
}

type Held = { [T in Table]: Map<string, unknown> };

/** The tables as the kernel would have them after each single write. */
function* played(
  start: AclTables,
  held: Held,
  steps: readonly Step[],
  dice: Dice,
): Generator<AclTables> {
  const now = (): AclTables => ({ ...start, ...held }) as AclTables;
  for (const step of steps) {
    const writes: [string, unknown][] =
      'set' in step ? [...step.set] : step.drop.map((key) => [key, undefined]);
    // In any order.
    for (; writes.length > 0;) {
      const [write] = writes.splice(dice.below(writes.length), 1);
      const [key, entry] = write as [string, unknown];
      // A fresh map: judge() remembers the prefix lengths of one.
      const table = new Map(held[step.table]);
      if (entry === undefined) table.delete(key);
      else table.set(key, entry);
      held[step.table] = table;
      yield now();
    }
  }
}

function heldOf(tables: AclTables): Held {
  return {
    matches: new Map(tables.matches),
    sources: new Map(tables.sources),
    dests: new Map(tables.dests),
    cidrs: new Map(tables.cidrs),
  };
}

test('after every single write each verdict is the one before or the one after, never a third', () => {
  let writes = 0;
  everyChange(({ dice, world, services, before, between, after }) => {
    const { additions, removals } = diffGeneration(before.tables, between, after.tables);
    const held = heldOf(before.tables);
    for (const [steps, from, to] of [
      [additions, before.tables, between],
      [removals, between, after.tables],
    ] as const) {
      const known = dice.below(2) === 0 ? services : world.services;
      const judges = randomJudges(dice, before.tables, known).map((ask) => {
        const allowed = [ask(from), ask(to)].map((finding) => JSON.stringify(finding));
        return { ask, allowed };
      });
      for (const now of played(before.tables, held, steps, dice)) {
        writes += 1;
        for (const { ask, allowed } of judges) {
          const verdict = JSON.stringify(ask(now));
          assert.ok(allowed.includes(verdict), `${verdict} instead of ${allowed.join(' or ')}`);
        }
      }
    }
    assert.deepEqual(plain({ ...before.tables, ...held } as AclTables), plain(after.tables));
  });
  assert.ok(writes > POLICIES, `${writes} writes`);
});

test('while services change, old and new backends are protected', () => {
  everyChange(({ dice, world, services, between }) => {
    const both = new Map(world.services);
    for (const [name, service] of services) {
      const old = both.get(name);
      both.set(
        name,
        old === undefined ? service : { ...old, ports: [...old.ports, ...service.ports] },
      );
    }
    for (let i = 0; i < 4; i++) {
      const subject = randomSubject(dice);
      const destination = randomDestination(dice, both);
      const { address, port, protocol } = destination;
      if (protocol === 'other') continue;
      const [gid = 0, ...others] = subject.gids;
      const path = subject.cgroup;
      const cgroup = path === undefined ? undefined : classifyPath(between.automaton, path);
      const ip = parseIp(address) ?? new Uint8Array(16);
      const task = { cgroup, uid: subject.uid, gid, groups: others };
      const found = judge(between, task, { ip, port, protocol: protocolNumber[protocol] });
      const said = evaluate({ ...world, services: both }, subject, destination);
      assert.equal(found.verdict, said.verdict, JSON.stringify({ subject, destination, said }));
    }
  });
});

test('no change is no write', () => {
  everyChange(({ before: { tables } }) => {
    const { additions, removals } = diffGeneration(tables, tables, tables);
    assert.equal(countWrites([...additions, ...removals]), 0);
  });
});
