// Measures of an overlay: components, degrees, clustering, path lengths. Plain breadth-first search over arrays.
import { sample } from '../../src/hyparview-ts/random.ts';
import type { Random } from '../../src/hyparview-ts/random.ts';
import type { Cluster } from './cluster.ts';

export interface Graph {
  readonly nodes: readonly number[];
  readonly links: readonly (readonly number[])[];
}

/** Who names whom; only living nodes, both as ends and as starts. */
export function overlay(cluster: Cluster): Graph {
  const nodes = cluster.living();
  const links: number[][] = [];
  for (const index of nodes) {
    links[index] = cluster.neighbours(index).filter((other) => cluster.runs(other));
  }
  return { nodes, links };
}

export function distances(graph: Graph, from: number): Map<number, number> {
  const found = new Map([[from, 0]]);
  let front = [from];
  for (let distance = 1; front.length > 0; distance++) {
    const next: number[] = [];
    for (const node of front) {
      for (const other of graph.links[node] ?? []) {
        if (found.has(other)) continue;
        found.set(other, distance);
        next.push(other);
      }
    }
    front = next;
  }
  return found;
}

/** Sizes of the components, largest first; links are taken both ways. */
export function components(graph: Graph): number[] {
  const both: number[][] = [];
  for (const node of graph.nodes) {
    for (const other of graph.links[node] ?? []) {
      (both[node] ??= []).push(other);
      (both[other] ??= []).push(node);
    }
  }
  const seen = new Set<number>();
  const sizes: number[] = [];
  for (const node of graph.nodes) {
    if (seen.has(node)) continue;
    const found = distances({ nodes: graph.nodes, links: both }, node);
    for (const other of found.keys()) seen.add(other);
    sizes.push(found.size);
  }
  return sizes.sort((a, b) => b - a);
}

/** Directed links without their way back, as "from to". */
export function asymmetries(graph: Graph): string[] {
  const wrong: string[] = [];
  for (const node of graph.nodes) {
    for (const other of graph.links[node] ?? []) {
      if (!(graph.links[other] ?? []).includes(node)) wrong.push(`${node} ${other}`);
    }
  }
  return wrong;
}

/** Watts and Strogatz's coefficient: of the pairs among a node's neighbours, how many are linked, averaged. */
export function clustering(graph: Graph): number {
  let sum = 0;
  for (const node of graph.nodes) {
    const neighbours = graph.links[node] ?? [];
    if (neighbours.length < 2) continue;
    let linked = 0;
    for (const a of neighbours) {
      for (const b of neighbours) if (a !== b && (graph.links[a] ?? []).includes(b)) linked += 1;
    }
    sum += linked / (neighbours.length * (neighbours.length - 1));
  }
  return sum / Math.max(1, graph.nodes.length);
}

/** The mean shortest path from `count` random nodes to all. */
export function meanPath(graph: Graph, random: Random, count: number): number {
  let sum = 0;
  let pairs = 0;
  for (const from of sample(random, graph.nodes, count)) {
    for (const distance of distances(graph, from).values()) {
      sum += distance;
      if (distance > 0) pairs += 1;
    }
  }
  return sum / Math.max(1, pairs);
}

/** How many nodes have each in-degree; index is the degree. */
export function inDegrees(graph: Graph): number[] {
  const degree: number[] = [];
  for (const node of graph.nodes) degree[node] ??= 0;
  for (const node of graph.nodes) {
    for (const other of graph.links[node] ?? []) degree[other] = (degree[other] ?? 0) + 1;
  }
  const histogram: number[] = [];
  for (const node of graph.nodes) {
    const d = degree[node] ?? 0;
    histogram[d] = (histogram[d] ?? 0) + 1;
  }
  return Array.from(histogram, (count) => count ?? 0);
}
