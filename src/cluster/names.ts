// How clusters and nodes are named, and how a certificate says both: one URI in the manner of SPIFFE (SPIFFE-ID.md, 2),
// `zerohop://CLUSTER/node/NODE`. Ids are drawn by whoever signs, never chosen by the node: nobody can ask for the name
// of somebody else.
import { base32, base32Length, fromBase32 } from './base32.ts';

const CLUSTER_ID_BYTES = 10;
export const NODE_ID_BYTES = 16;

const CLUSTER_ID = new RegExp(`^[a-z2-7]{${base32Length(CLUSTER_ID_BYTES)}}$`);
const NODE_ID = new RegExp(`^[a-z2-7]{${base32Length(NODE_ID_BYTES)}}$`);

export interface NodeName {
  readonly clusterId: string;
  readonly nodeId: string;
}

/** `random` fills what it is given with random bytes. */
export function drawClusterId(random: (bytes: Uint8Array) => void): string {
  return draw(random, CLUSTER_ID_BYTES);
}

export function drawNodeId(random: (bytes: Uint8Array) => void): string {
  return draw(random, NODE_ID_BYTES);
}

function draw(random: (bytes: Uint8Array) => void, length: number): string {
  const bytes = new Uint8Array(length);
  random(bytes);
  return base32(bytes);
}

export function isNodeId(text: string): boolean {
  return NODE_ID.test(text) && fromBase32(text) !== undefined;
}

export function isClusterId(text: string): boolean {
  return CLUSTER_ID.test(text) && fromBase32(text) !== undefined;
}

export function uriOf({ clusterId, nodeId }: NodeName): string {
  return `zerohop://${clusterId}/node/${nodeId}`;
}

/** Only the exact text that `uriOf` makes is a name. */
export function nameOfUri(uri: string): NodeName | undefined {
  const [, clusterId, nodeId] = /^zerohop:\/\/([a-z2-7]+)\/node\/([a-z2-7]+)$/.exec(uri) ?? [];
  if (clusterId === undefined || nodeId === undefined) return undefined;
  return isClusterId(clusterId) && isNodeId(nodeId) ? { clusterId, nodeId } : undefined;
}

/**
 * From a certificate's subject alternative names as Node prints them: one URI and nothing beside it. Node quotes
 * anything with a comma in it (CVE-2021-44532), so one name cannot pose as two.
 */
export function nameOfAltNames(text: string | undefined): NodeName | undefined {
  return text?.startsWith('URI:') === true ? nameOfUri(text.slice('URI:'.length)) : undefined;
}
