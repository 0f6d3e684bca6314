/**
 * The compiler against the rules: what judge() finds in the tables is what
 * evaluate() reads in README.md. ZEROHOP_TEST_SEED=N begins with the policy of
 * that seed; a failure names its own.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classifyPath } from '../../../src/acl/automaton.ts';
import {
  compileAcl,
  NO_NUMBERING,
  updateEndpoints,
  type Compiled,
} from '../../../src/acl/compile.ts';
import {
  evaluate,
  evaluateIngress,
  type Evaluation,
  type World,
} from '../../../src/acl/evaluate.ts';
import { judge, judgeIngress, type Finding } from '../../../src/acl/judge.ts';
import type { AclTables } from '../../../src/acl/tables.ts';
import { protocolNumber } from '../../../src/datapath/abi.ts';
import { parseIp, type IpBytes } from '../../../src/net/ip.ts';
import { Dice, testSeed } from '../../harness/random.ts';
import {
  changedServices,
  randomDestination,
  randomSource,
  randomSubject,
  randomWorld,
} from './worlds.ts';

const POLICIES = 100_000;
const CONNECTIONS = 3;
const PACKETS = 2;
const limits = { aclRules: 16_384, aclEntries: 262_144, aclGlobs: 32_768 };

function ipOf(text: string): IpBytes {
  const ip = parseIp(text);
  assert.ok(ip, text);
  return ip;
}

function compiled(world: World): Compiled {
  const made = compileAcl({ ...world, numbering: NO_NUMBERING, limits });
  assert.deepEqual(
    made.problems.filter((problem) => problem.fatal),
    [],
  );
  return made;
}

/** Undefined if they agree. */
function disagreement(tables: AclTables, found: Finding, said: Evaluation): string | undefined {
  if (found.verdict !== said.verdict) return `${found.verdict} instead of ${said.verdict}`;
  const nameOf = (number: number): string => tables.rules.get(number)?.name ?? `number ${number}`;
  if (found.rule === 0 ? said.decidedBy.length > 0 : !said.decidedBy.includes(nameOf(found.rule)))
    return `${found.verdict} by ${nameOf(found.rule)} instead of ${said.decidedBy.join(' or ')}`;
  const allowing = said.rules.filter((rule) => rule.action === 'allow' && rule.selects);
  if (
    found.allow === 0 ? allowing.length > 0 : !allowing.some((r) => r.rule === nameOf(found.allow))
  )
    return `counted for ${nameOf(found.allow)} instead of ${allowing.map((r) => r.rule).join(' or ')}`;
  return undefined;
}

const seen = new Map<string, number>();
function count(what: string): void {
  seen.set(what, (seen.get(what) ?? 0) + 1);
}

function checkConnection(dice: Dice, world: World, tables: AclTables): void {
  const subject = randomSubject(dice);
  const destination = randomDestination(dice, world.services);
  const { cgroup, uid, gids } = subject;
  const [gid = 0, ...others] = gids;
  const held = cgroup === undefined ? undefined : classifyPath(tables.automaton, cgroup);
  const protocol =
    destination.protocol === 'other' ? dice.pick([1, 132]) : protocolNumber[destination.protocol];
  const found = judge(
    tables,
    { cgroup: held, uid, gid, groups: others },
    { ip: ipOf(destination.address), port: destination.port, protocol },
  );
  const said = evaluate(world, subject, destination);
  const wrong = disagreement(tables, found, said);
  assert.equal(wrong, undefined, JSON.stringify({ wrong, subject, destination, said }));
  count(said.verdict);
  if (said.rules.length > 1) count('several rules');
  if (said.why.includes('to a group')) count('denied as a datagram to a group');
  if (held?.overflow === true) count('more selectors than fit');
  if (said.verdict === 'deny' && said.decidedBy.length === 0) count('denied by default');
}

function checkPacket(dice: Dice, world: World, tables: AclTables): void {
  const source = randomSource(dice);
  const { port, protocol } = randomDestination(dice, world.services);
  if (protocol === 'other') return;
  const found = judgeIngress(tables, ipOf(source), { port, protocol: protocolNumber[protocol] });
  const said = evaluateIngress(world, source, { port, protocol });
  const wrong = disagreement(tables, found, said);
  assert.equal(wrong, undefined, JSON.stringify({ wrong, source, port, protocol, said }));
  count(`ingress ${said.verdict}`);
}

function checkPolicy(seed: number): void {
  const dice = new Dice(seed);
  const world = randomWorld(dice);
  let made = compiled(world);
  const check = (now: World): void => {
    for (let i = 0; i < CONNECTIONS; i++) checkConnection(dice, now, made.tables);
    for (let i = 0; i < PACKETS; i++) checkPacket(dice, now, made.tables);
  };
  try {
    check(world);
    if (dice.below(4) > 0) return;
    // Backends come and go: the tables are brought up to date, not made anew.
    const { services, touched } = changedServices(dice, world.services);
    const next = { ...world, services };
    made = updateEndpoints(made, services, touched);
    check(next);
    count('updated');
  } catch (error) {
    const { rules, localAddresses, defaultAction } = world;
    const services = [...world.services.values()];
    const shown = JSON.stringify({ rules, services, localAddresses, defaultAction }, undefined, 1);
    throw new Error(`ZEROHOP_TEST_SEED=${seed} of ${shown}`, { cause: error });
  }
}

const first = testSeed();

test(`${POLICIES} random policies: the tables give the verdicts that the rules do`, () => {
  for (let i = 0; i < POLICIES; i++) checkPolicy((first + i) >>> 0);
  // The dice met what they are there for.
  const wanted: Readonly<Record<string, number>> = {
    allow: 0.2,
    deny: 0.1,
    audit: 0.02,
    'several rules': 0.1,
    'denied by default': 0.02,
    'ingress allow': 0.2,
    'ingress deny': 0.02,
    'ingress audit': 0.003,
    updated: 0.2,
    'denied as a datagram to a group': 0.001,
    'more selectors than fit': 0.005,
  };
  for (const [what, share] of Object.entries(wanted)) {
    const times = seen.get(what) ?? 0;
    assert.ok(times >= POLICIES * share, `${what}: ${times} times`);
  }
});
