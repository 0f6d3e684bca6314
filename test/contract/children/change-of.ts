/** The change that makes a revision: known beforehand, so that it can be looked for after a crash. */
import type { Change } from '../../../src/state/records.ts';

/** Backends rotate over 200 addresses, each weight telling the revision that wrote it. */
export function changeOf(revision: number): Change {
  if (revision === 1) {
    const ports = [{ name: 'http', port: 80, protocol: 'tcp' as const }];
    return { kind: 'put-service', service: { name: 'web', vips: ['240.0.0.1'], ports } };
  }
  const address = `10.0.0.${1 + (revision % 200)}`;
  return {
    kind: 'put-backend',
    backend: {
      service: 'web',
      portName: 'http',
      address,
      port: 80,
      weight: revision % 65_536,
      state: 'active',
    },
  };
}
