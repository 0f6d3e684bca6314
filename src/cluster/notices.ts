/** What replication noticed, in words for whoever runs the cluster. Says nothing itself. */
import type { ReplicationNotice } from './replication-types.ts';

export interface Explained {
  readonly level: 'debug' | 'info' | 'warn';
  readonly message: string;
  readonly fields: object;
}

export function explain(notice: ReplicationNotice, from: string): Explained {
  const peer = from === '' ? {} : { peer: from };
  switch (notice.type) {
    case 'own-history':
      return {
        level: 'warn',
        message:
          "another member knows writes of this host that its own disk does not have: this host's " +
          'data directory was set back (a restored backup or snapshot?). Leave the cluster and join again',
        fields: { ...peer, document: notice.document, writes: notice.writes },
      };
    case 'clock-ahead':
      return {
        level: 'warn',
        message:
          'a member wrote with a clock that is far ahead of this one: of two writes at once its own ' +
          'would win. Compare the clocks of the hosts (timedatectl)',
        fields: { ...peer, writer: notice.writer, aheadSeconds: Math.round(notice.aheadMs / 1000) },
      };
    case 'refused':
      return {
        level: 'warn',
        message:
          'an update from another member was refused, nothing of it was taken: it is of another ' +
          'version, over a limit, or its sender is broken',
        fields: { ...peer, document: notice.document, reason: notice.reason },
      };
    case 'garbage':
      return {
        level: 'warn',
        message: 'a member sent bytes that are no message; a connection that brings them is ended',
        fields: { ...peer, reason: notice.reason },
      };
    case 'gap':
      return {
        level: 'info',
        message: 'updates came without those they build on; the document is asked for anew',
        fields: { ...peer, document: notice.document },
      };
    case 'epoch':
      return {
        level: 'debug',
        message: 'a document was written afresh by a member, and taken over',
        fields: { ...peer, document: notice.document, epoch: notice.epoch.number },
      };
    case 'no-answer':
      return {
        level: 'debug',
        message: 'a neighbour did not answer in time; the document is asked for elsewhere',
        fields: { ...peer, document: notice.document },
      };
    case 'fact-refused':
      return {
        level: 'warn',
        message: 'a fact of this host (health, load) is not told to others: there are too many',
        fields: { key: notice.key },
      };
  }
}
