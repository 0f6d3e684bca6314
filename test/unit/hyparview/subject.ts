/** Drives one node of hyparview-ts by hand, and reads what it sends. Never opens a socket. */
import { Names, Node, sfc32 } from '../../../src/hyparview-ts/index.ts';
import type { Config, Message, MessageOf, Output, Peer } from '../../../src/hyparview-ts/index.ts';

export const peer = (id: string, address = `${id}:1`): Peer => ({ id, address, zone: 'z' });

export class Subject {
  readonly names = new Names();
  readonly node: Node;
  now = 0;

  constructor(config: Partial<Config> = {}, seed = 3) {
    const { names } = this;
    const random = sfc32(seed);
    this.node = new Node({ self: peer('self'), random, incarnation: 1, config, names });
    this.node.handle({ type: 'start', known: [] }, 0);
  }

  receive(from: string | Peer, message: Message): Output[] {
    const who = typeof from === 'string' ? peer(from) : from;
    return this.node.handle({ type: 'received', from: who, message }, this.now);
  }

  link(...ids: string[]): void {
    for (const id of ids) this.receive(id, { type: 'neighbor', high: true });
  }

  /** Fires what is due until `until`; every ping to one of `answering` is answered. */
  run(until: number, ...answering: string[]): Output[] {
    const outputs: Output[] = [];
    for (;;) {
      const due = this.node.snapshot().timers.filter(({ atMs }) => atMs <= until);
      const first = due.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (first === undefined) break;
      this.now = Math.max(this.now, first.atMs);
      const step = this.node.handle({ type: 'timer', key: first.key }, this.now);
      outputs.push(...step);
      for (const { to, message } of sent(step, 'ping')) {
        if (!answering.includes(to)) continue;
        const { nonce, digest } = message;
        outputs.push(...this.receive(to, { type: 'pong', nonce, incarnation: 1, digest }));
      }
    }
    this.now = until;
    return outputs;
  }
}

/** The messages of one type among the outputs. */
export function sent<T extends Message['type']>(
  outputs: readonly Output[],
  type: T,
): { to: string; message: MessageOf<T> }[] {
  const found: { to: string; message: MessageOf<T> }[] = [];
  for (const output of outputs) {
    if (output.type !== 'send' || output.message.type !== type) continue;
    found.push({ to: output.to.id, message: output.message as MessageOf<T> });
  }
  return found;
}
