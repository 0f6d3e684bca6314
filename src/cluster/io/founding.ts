/** Founds a cluster: its CA, and the first node's certificate. Nothing is written here: see vault.ts. */
import { randomFillSync } from 'node:crypto';
import { NODE_VALIDITY_MS, validityFrom } from '../lifetime.ts';
import { drawClusterId, drawNodeId } from '../names.ts';
import type { Authority } from './certificates.ts';
import type { Clock } from './clock.ts';
import { identityOf, type Identity } from './identity.ts';

export interface Founded {
  readonly authority: Authority;
  readonly identity: Identity;
}

export async function foundCluster(clock: Clock, validityMs = NODE_VALIDITY_MS): Promise<Founded> {
  const { createAuthority, createRequest, signRequest } = await import('./certificates.ts');
  const clusterId = drawClusterId(randomFillSync);
  const authority = await createAuthority(clusterId, clock.wallMs());
  const { keyPem, request } = await createRequest();
  const name = { clusterId, nodeId: drawNodeId(randomFillSync) };
  const validity = validityFrom(clock.wallMs(), validityMs);
  const certPem = await signRequest(authority, request, name, validity);
  return {
    authority,
    identity: identityOf(keyPem, certPem, authority.certPem, 'the new certificate'),
  };
}
