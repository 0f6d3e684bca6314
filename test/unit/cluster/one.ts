/** One host's replication, for tests that give it its inputs by hand. */
import { Ephemeral } from '../../../src/cluster/ephemeral.ts';
import type {
  ReplicationConfig,
  ReplicationInput,
  ReplicationOutput,
} from '../../../src/cluster/replication-types.ts';
import {
  decodeReplication,
  encodeReplication,
  type ReplicationMessage,
} from '../../../src/cluster/replication-wire.ts';
import { Replication } from '../../../src/cluster/replication.ts';
import { sfc32 } from '../../../src/hyparview-ts/random.ts';
import { Replica, type Update } from '../../../src/state/replica/replica.ts';

export const WALL = 1_000_000;

export class One {
  readonly replica: Replica;
  readonly replication: Replication;

  constructor(node: string, updates: readonly Update[] = [], config?: Partial<ReplicationConfig>) {
    this.replica = Replica.open({ node, writer: 900 + node.length }, { clock: '', updates });
    this.replication = new Replication({
      replica: this.replica,
      ephemeral: new Ephemeral(node, 1),
      random: sfc32(1),
      config: { compareMs: 1e9, ...config },
    });
  }

  give(input: ReplicationInput, nowMs: number): ReplicationOutput[] {
    return this.replication.handle(input, nowMs, WALL + nowMs);
  }

  tell(from: string, message: ReplicationMessage, nowMs: number): ReplicationOutput[] {
    return this.give({ type: 'message', from, bytes: encodeReplication(message) }, nowMs);
  }

  write(key: string, value: string, nowMs: number): ReplicationOutput[] {
    const writes = [{ document: 'shared' as const, key, value: JSON.stringify(value) }];
    return this.give({ type: 'local', ...this.replica.transact(writes, WALL + nowMs) }, nowMs);
  }
}

export function sent(outputs: readonly ReplicationOutput[]): ReplicationMessage[] {
  return outputs.flatMap((output) => {
    if (output.type !== 'send') return [];
    const message = decodeReplication(output.bytes);
    return message === undefined ? [] : [message];
  });
}

/** How many updates each broadcast holds. */
export function batches(outputs: readonly ReplicationOutput[]): number[] {
  return outputs.flatMap((output) => {
    const message = output.type === 'broadcast' ? decodeReplication(output.bytes) : undefined;
    return message?.type === 'updates' ? [message.updates.length] : [];
  });
}
