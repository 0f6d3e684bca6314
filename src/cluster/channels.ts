// The logical channels of a connection. A message goes out in chunks, and between two chunks whatever is more urgent
// goes first: failure news never waits for a large payload. Numbers are on the wire and are never given again.
import type { Priority } from '../hyparview-ts/index.ts';

export const CHANNELS = [
  { name: 'control', rank: 0, messageBytesMax: 4096 }, // hello, keepalive, end
  { name: 'overlay-urgent', rank: 1, messageBytesMax: 4_194_304 }, // hyparview-ts: LIMITS.frameBytes
  { name: 'overlay', rank: 2, messageBytesMax: 4_194_304 },
  { name: 'overlay-bulk', rank: 3, messageBytesMax: 4_194_304 },
  { name: 'state', rank: 2, messageBytesMax: 4_194_304 },
  { name: 'state-bulk', rank: 3, messageBytesMax: 16_777_216 }, // a snapshot for a new node
] as const;

export type Channel = (typeof CHANNELS)[number]['name'];

/** From this rank on, what does not fit the queue is refused; before it, the peer is dropped as too slow. */
export const BULK_RANK = 3;

export const CONTROL = 0;

const NUMBER = new Map<Channel, number>(CHANNELS.map(({ name }, number) => [name, number]));

export function channelNumber(channel: Channel): number {
  return NUMBER.get(channel) ?? 0;
}

export const CHANNEL_OF_PRIORITY: Readonly<Record<Priority, Channel>> = {
  urgent: 'overlay-urgent',
  normal: 'overlay',
  bulk: 'overlay-bulk',
};
