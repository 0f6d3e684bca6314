/**
 * How a joiner shows that it has a token's secret without sending it: an HMAC
 * with a key made of the secret, over the request and a value that only the two
 * ends of this very TLS connection know (RFC 8446, 7.5; RFC 9266 in spirit). It
 * is of no use on another connection, nor for another request.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

export const PROOF_BYTES = 32;
const LABEL = 'EXPORTER-zerohop-join';

/** What the issuer keeps in the place of the secret. */
export function keyOfSecret(secret: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, '', 'zerohop join key v1', 32));
}

/** Equal at both ends of a connection, and nowhere else. */
export function bindingOf(socket: TLSSocket): Uint8Array {
  return socket.exportKeyingMaterial(32, LABEL, Buffer.alloc(0));
}

export function prove(key: Uint8Array, binding: Uint8Array, request: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(binding).update(request).digest();
}

/** In a time that does not depend on where they differ. */
export function sameProof(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
