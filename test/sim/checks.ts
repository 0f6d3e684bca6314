// What must hold. Anytime: limits, after every single input. Eventually: once faults have ended, one overlay, the
// living known alive, the dead known dead, every broadcast everywhere once. Finally: a node that left has no timer.
import { LIMITS } from '../../src/hyparview-ts/index.ts';
import type { Node } from '../../src/hyparview-ts/index.ts';
import type { Cluster } from './cluster.ts';
import { asymmetries, components, overlay } from './graph.ts';

/** A check that failed: what, with the numbers. */
export class Violation extends Error {}

export function watchLimits(cluster: Cluster): void {
  let inputs = 0;
  cluster.sim.onHandled = ({ index }) => {
    const node = cluster.nodes[index];
    if (node === undefined) return;
    checkSizes(node);
    inputs += 1;
    if (inputs % 16 === 0) checkViews(node);
  };
}

function fail(node: Node, what: string): never {
  throw new Violation(`${node.self.id}: ${what}`);
}

function checkSizes(node: Node): void {
  const { views, config, tree, members } = node;
  if (views.active.size > config.activeMax) fail(node, `active view holds ${views.active.size}`);
  if (views.passive.size > config.passiveMax)
    fail(node, `passive view holds ${views.passive.size}`);
  if (views.pendingCount > 32) fail(node, `${views.pendingCount} requests under way`);
  if (views.knockCount > 32) fail(node, `${views.knockCount} knocks under way`);
  const { seen, cache, cacheBytes } = tree.sizes;
  if (seen > config.seenMax) fail(node, `${seen} ids seen`);
  if (cache > config.cacheMessagesMax) fail(node, `${cache} messages cached`);
  if (cacheBytes > config.cacheBytesMax) fail(node, `${cacheBytes} bytes cached`);
  if (members.states.size > config.statesMax) fail(node, `${members.states.size} states`);
}

function checkViews(node: Node): void {
  const { active, passive } = node.views;
  if (active.has(node.self.id) || passive.has(node.self.id)) fail(node, 'is in its own view');
  for (const { id } of active.peers) {
    if (passive.has(id)) fail(node, `${id} is in both views`);
    if (id.length > LIMITS.idLength) fail(node, 'an id is too long');
  }
}

/** What is still wrong with the cluster; empty when it has settled. */
export function unsettled(cluster: Cluster): string[] {
  const wrong: string[] = [];
  const graph = overlay(cluster);
  const sizes = components(graph);
  if (sizes.length > 1) wrong.push(`the overlay is split: ${sizes.join(', ')}`);
  const oneSided = asymmetries(graph);
  if (oneSided.length > 0) wrong.push(`links with one end: ${oneSided.slice(0, 3).join('; ')}`);
  wrong.push(...missedChances(cluster, graph.nodes));
  if (cluster.config.linkState) wrong.push(...wrongBeliefs(cluster, graph.nodes));
  return wrong;
}

/** Two nodes with room for a link, of which one knows the other, and no link between them. */
function missedChances(cluster: Cluster, living: readonly number[]): string[] {
  const wrong: string[] = [];
  const hasRoom = (index: number): boolean =>
    cluster.node(index).views.active.size < cluster.config.activeMax;
  for (const index of living.filter(hasRoom)) {
    for (const { id } of cluster.node(index).views.passive.peers) {
      const other = cluster.sim.byId.get(id)?.index ?? -1;
      if (cluster.runs(other) && hasRoom(other)) wrong.push(`no link from ${index} to ${other}`);
    }
  }
  return wrong.slice(0, 3);
}

function wrongBeliefs(cluster: Cluster, living: readonly number[]): string[] {
  const wrong: string[] = [];
  for (const index of living) {
    const { members, self } = cluster.node(index);
    for (const { peer, index: other } of cluster.sim.hosts) {
      if (other === index) continue;
      const standing = members.standing(peer.id);
      const isRight = cluster.runs(other) ? standing === 'alive' : standing !== 'alive';
      if (!isRight) wrong.push(`${self.id} holds ${peer.id} for ${standing}`);
      if (wrong.length >= 3) return wrong;
      if (cluster.runs(other)) {
        const path = members.path(peer.id);
        const ends = path.at(-1) === peer.id && cluster.node(index).views.active.has(path[0] ?? '');
        if (!ends) wrong.push(`${self.id} has no path to ${peer.id}: ${path.join(' ')}`);
      }
    }
  }
  return wrong;
}

/** Runs on until settled; throws when that takes longer than `withinMs`. */
export function settle(cluster: Cluster, withinMs: number): number {
  const { sim } = cluster;
  const start = sim.now;
  for (;;) {
    const wrong = unsettled(cluster);
    if (wrong.length === 0) return sim.now - start;
    if (sim.now - start >= withinMs) {
      throw new Violation(`not settled after ${withinMs} ms: ${wrong.join('; ')}`);
    }
    sim.runUntil(sim.now + 1000);
  }
}

/** Broadcasts from these nodes reach every living node once. */
export function checkBroadcasts(cluster: Cluster, from: readonly number[], withinMs: number): void {
  const before = new Set(cluster.deliveries.keys());
  for (const index of from) cluster.broadcast(index);
  cluster.sim.runUntil(cluster.sim.now + withinMs);
  for (const [number, delivery] of cluster.deliveries) {
    if (before.has(number)) continue;
    const missed = [...delivery.targets].filter((t) => !delivery.got.has(t) && cluster.runs(t));
    if (missed.length > 0) throw new Violation(`${delivery.id} did not reach ${missed.join(', ')}`);
  }
}

export function checkOnce(cluster: Cluster): void {
  for (const { id, twice } of cluster.deliveries.values()) {
    if (twice > 0) throw new Violation(`${id} was delivered twice, ${twice} times`);
  }
}

/** Work that passes: none may be left when nothing happens any more. */
const PASSING = [
  'missing',
  'announcing',
  'outbox',
  'wanted',
  'unrouted',
  'doubtful',
  'goneElsewhere',
] as const;

/** What is under way gets done: each of these is empty now and then, for all that X-BOT still changes. */
export function checkQuiet(cluster: Cluster): void {
  const { sim } = cluster;
  const end = sim.now + 20_000;
  for (const index of cluster.living()) {
    const node = cluster.node(index);
    for (const what of PASSING) {
      while (node.snapshot().sizes[what] > 0) {
        if (sim.now >= end) fail(node, `at rest, with ${node.snapshot().sizes[what]} ${what}`);
        sim.runUntil(sim.now + 50);
      }
    }
  }
}

/** The dead are forgotten, by those too that heard of them when they were long dead. */
export function checkForgotten(cluster: Cluster): void {
  const { sim, config } = cluster;
  sim.runUntil(sim.now + 1.1 * config.forgetMs + 2 * config.rejoinMs);
  const living = new Set(cluster.living().map((index) => cluster.host(index).peer.id));
  for (const index of cluster.living()) {
    const node = cluster.node(index);
    for (const { state } of node.members.states.all()) {
      const { id } = state.origin;
      if (!living.has(id)) fail(node, `remembers ${id}, which is dead for long`);
    }
  }
}

/** Everybody leaves, one after the other: none may keep a timer or a link. */
export function checkEnd(cluster: Cluster): void {
  for (const index of cluster.living()) {
    const node = cluster.node(index);
    const host = cluster.host(index);
    cluster.give(index, { type: 'leave' });
    if (host.timers.size > 0) fail(node, `left, with timers ${[...host.timers.keys()].join(', ')}`);
    if (node.snapshot().active.length > 0) fail(node, 'left, with links');
    cluster.leave(index);
    cluster.sim.runUntil(cluster.sim.now + 100);
  }
}
