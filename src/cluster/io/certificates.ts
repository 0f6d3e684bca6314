/**
 * Makes the cluster's certificates: the CA's, keys and requests of nodes, and
 * what a signer signs. ECDSA on P-256: every TLS stack, OpenSSL in FIPS mode and
 * every TPM has it; Ed25519 was no faster here (README.md). The work is done by
 * WebCrypto and @peculiar/x509; nothing here is cryptography.
 *
 * Loaded only where something is signed or asked for, by a dynamic import: the
 * library costs a quarter of a second and 17 MB.
 *
 * Never takes anything from a request but its public key.
 */
// First, and for its effect: @peculiar/x509 will not load without it.
// oxlint-disable-next-line import/no-unassigned-import
import 'reflect-metadata';
import { createPrivateKey, KeyObject, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { CA_VALIDITY_MS, validityFrom, type Validity } from '../lifetime.ts';
import { uriOf, type NodeName } from '../names.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** RFC 5280, 4.1.2.2: positive and up to 20 bytes; CA/B asks for 64 random bits or more. */
const SERIAL_BYTES = 16;

export interface Authority {
  readonly clusterId: string;
  readonly certPem: string;
  readonly keyPem: string;
}

export async function createAuthority(clusterId: string, nowMs: number): Promise<Authority> {
  const keys = await generateKeys();
  const { notBefore, notAfter } = dates(validityFrom(nowMs, CA_VALIDITY_MS));
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: drawSerial(),
    name: [{ O: ['zerohop'] }, { CN: [`zerohop cluster ${clusterId}`] }],
    notBefore,
    notAfter,
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true), // no CA below it
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      new SubjectAlternativeNameExtension([{ type: 'url', value: `zerohop://${clusterId}` }]),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { clusterId, certPem: `${certificate.toString('pem')}\n`, keyPem: toPem(keys.privateKey) };
}

export interface KeyAndRequest {
  readonly keyPem: string;
  /** PKCS #10 in DER: a public key, and the proof that whoever sends it has the private one. */
  readonly request: Uint8Array;
}

export async function createRequest(): Promise<KeyAndRequest> {
  const keys = await generateKeys();
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=zerohop node',
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { keyPem: toPem(keys.privateKey), request: new Uint8Array(request.rawData) };
}

/** The certificate in PEM. Throws when the request is not one, or its key is not of our kind, or not its sender's. */
export async function signRequest(
  authority: Authority,
  request: Uint8Array,
  name: NodeName,
  validity: Validity,
): Promise<string> {
  const asked = new Pkcs10CertificateRequest(new Uint8Array(request));
  const { name: kind, namedCurve } = asked.publicKey.algorithm as Partial<EcKeyAlgorithm>;
  if (kind !== ALGORITHM.name || namedCurve !== ALGORITHM.namedCurve) {
    throw new Error(`a key for ${kind} ${namedCurve ?? ''}, not for ECDSA P-256`);
  }
  if (!(await asked.verify())) throw new Error('the request is not signed with its own key');
  const ca = new X509Certificate(authority.certPem);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: drawSerial(),
    subject: [{ O: ['zerohop'] }, { CN: [name.nodeId] }],
    issuer: ca.subjectName,
    ...dates(validity),
    signingAlgorithm: ALGORITHM,
    publicKey: asked.publicKey,
    signingKey: await importKey(authority.keyPem),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([{ type: 'url', value: uriOf(name) }], true),
      await SubjectKeyIdentifierExtension.create(asked.publicKey),
      await AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

interface EcKeyAlgorithm {
  readonly name: string;
  readonly namedCurve: string;
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', new Uint8Array(der), ALGORITHM, false, ['sign']);
}

function toPem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function dates({ notBeforeMs, notAfterMs }: Validity): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(notBeforeMs), notAfter: new Date(notAfterMs) };
}

function drawSerial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40; // positive, and of the same length always
  return Buffer.from(bytes).toString('hex');
}
