/**
 * Who this node is on the wire, and who a peer is: keys and certificates in PEM,
 * checked to belong together, as TLS contexts; and names out of certificates
 * that OpenSSL has verified.
 *
 * Never says who a peer is from anything but its verified certificate.
 */
import { constants, createHash, createPrivateKey, getFips, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { ProblemError } from '../../state/problem.ts';
import type { Validity } from '../lifetime.ts';
import { isClusterId, nameOfAltNames } from '../names.ts';

export interface Identity extends Validity {
  readonly clusterId: string;
  readonly nodeId: string;
  /** As Node prints it: upper-case hex. */
  readonly serial: string;
  readonly keyPem: string;
  readonly certPem: string;
  readonly caPem: string;
}

/** A peer whose certificate this cluster's CA signed. */
export interface Authenticated {
  readonly nodeId: string;
  readonly serial: string;
  readonly notAfterMs: number;
}

/** Throws ProblemError, naming `path`, when the three do not belong together. */
export function identityOf(keyPem: string, certPem: string, caPem: string, path: string): Identity {
  const ca = parse(caPem, path, "the cluster's certificate");
  const certificate = parse(certPem, path, "this node's certificate");
  const clusterId = clusterOf(ca);
  if (clusterId === undefined) throw broken(path, 'the CA certificate names no cluster');
  const name = nameOfAltNames(certificate.subjectAltName);
  if (name === undefined) throw broken(path, 'the certificate names no node');
  if (name.clusterId !== clusterId || !certificate.verify(ca.publicKey)) {
    throw broken(path, `the certificate is not signed by cluster ${clusterId}`);
  }
  if (!keyMatches(certificate, keyPem)) {
    throw broken(path, 'key and certificate do not belong together');
  }
  return {
    ...name,
    serial: certificate.serialNumber,
    keyPem,
    certPem,
    caPem,
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
  };
}

export function clusterOf(ca: X509Certificate): string | undefined {
  const id = /^URI:zerohop:\/\/([a-z2-7]+)$/.exec(ca.subjectAltName ?? '')?.[1];
  return id !== undefined && isClusterId(id) ? id : undefined;
}

/** What a token holds: SHA-256 of the SubjectPublicKeyInfo (as in RFC 7469, 2.4). */
export function fingerprintOf(certificate: X509Certificate): Uint8Array {
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest();
}

export function fingerprintOfPem(pem: string): Uint8Array {
  return fingerprintOf(new X509Certificate(pem));
}

function parse(pem: string, path: string, what: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw broken(path, `${what} cannot be read`, error);
  }
}

function keyMatches(certificate: X509Certificate, keyPem: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    return false;
  }
}

function broken(path: string, what: string, cause?: unknown): ProblemError {
  const hint =
    'put back the file from a backup, or move it away and join the cluster again with a new token';
  return new ProblemError([{ code: 'store', message: `${path}: ${what}`, path, hint }], { cause });
}

/**
 * TLS 1.3 and nothing else. No session is ever resumed: what a resumed session
 * says of a certificate was checked when it was made, and a node may have been
 * revoked since. SSL_OP_NO_TICKET keeps tickets in the server's memory, where
 * Node holds none unless asked to.
 *
 * Of curves and signatures only the cheap ones that we use: else a stranger has a server reckon on
 * P-521, 7 ms a handshake. OpenSSL in FIPS mode has no X25519.
 */
export const TLS_ONLY_13 = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ecdhCurve: getFips() === 1 ? 'P-256' : 'X25519:P-256',
  sigalgs: 'ecdsa_secp256r1_sha256',
} as const;

export function contextOf({ keyPem, certPem, caPem }: Identity): SecureContext {
  return createSecureContext(contextOptionsOf({ keyPem, certPem, caPem }));
}

export function contextOptionsOf({
  keyPem,
  certPem,
  caPem,
}: Pick<Identity, 'keyPem' | 'certPem' | 'caPem'>) {
  return {
    key: keyPem,
    // The CA too: a joiner finds it by the fingerprint in its token.
    cert: certPem + caPem,
    ca: caPem,
    secureOptions: constants.SSL_OP_NO_TICKET,
    ...TLS_ONLY_13,
  };
}

/** The name in a certificate that OpenSSL has found good (`socket.authorized`), if it is of this cluster. */
export function authenticate(socket: TLSSocket, clusterId: string): Authenticated | undefined {
  if (!socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? undefined : memberOf(certificate, clusterId);
}

function memberOf(certificate: X509Certificate, clusterId: string): Authenticated | undefined {
  const name = nameOfAltNames(certificate.subjectAltName);
  if (name === undefined || name.clusterId !== clusterId || certificate.ca) return undefined;
  const { serialNumber, validToDate } = certificate;
  return { nodeId: name.nodeId, serial: serialNumber, notAfterMs: validToDate.getTime() };
}
