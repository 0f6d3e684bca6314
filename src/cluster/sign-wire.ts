// What is said on `zerohop-sign/1`: one request, one answer. A stranger's request is parts of fixed length up to the
// proof, and only after that is found good is anything in it parsed.
//
//   join:   1 │ token id 8 │ proof 32 │ length u16 │ certificate request
//   renew:  2 │ length u16 │ certificate request          (from a member, known by its certificate)
//   answer: length u32 │ JSON
import { encodePeer } from '../hyparview-ts/codec.ts';
import type { Peer } from '../hyparview-ts/index.ts';
import type { Revocation } from './revocation.ts';
import { TOKEN_ID_BYTES } from './token.ts';

const JOIN = 1;
const RENEW = 2;
const PROOF_BYTES = 32;
export const CSR_BYTES_MAX = 2048; // one with a P-256 key has 200
export const REQUEST_BYTES_MAX = 1 + TOKEN_ID_BYTES + PROOF_BYTES + 2 + CSR_BYTES_MAX;
export const ANSWER_BYTES_MAX = 1_048_576;
export const PEERS_MAX = 64; // hyparview-ts: LIMITS.seeds
export const REVOCATIONS_MAX = 4096; // a guess: half of ANSWER_BYTES_MAX, without reasons

export type SignRequest =
  | {
      readonly type: 'join';
      readonly tokenId: Uint8Array;
      readonly proof: Uint8Array;
      readonly request: Uint8Array;
    }
  | { readonly type: 'renew'; readonly request: Uint8Array };

export const REFUSALS = [
  'unknown',
  'used',
  'expired',
  'limited',
  'no-signer',
  'request',
  'failed',
] as const;
export type Refusal = (typeof REFUSALS)[number];

export interface Granted {
  readonly certPem: string;
  readonly caPem: string;
  /** The CA's key, for a node that is to sign too. */
  readonly caKeyPem?: string;
  readonly peers: readonly Peer[];
  readonly revocations: readonly Revocation[];
}

export type SignAnswer = { readonly refused: Refusal } | { readonly granted: Granted };

export class SignWireError extends Error {
  override readonly name = 'SignWireError';
}

export function encodeRequest(asked: SignRequest): Uint8Array {
  const head = asked.type === 'join' ? [...asked.tokenId, ...asked.proof] : [];
  const { length } = asked.request;
  if (length === 0 || length > CSR_BYTES_MAX)
    throw new SignWireError(`a request of ${length} bytes`);
  const kind = asked.type === 'join' ? JOIN : RENEW;
  return Uint8Array.from([kind, ...head, length >>> 8, length & 0xff, ...asked.request]);
}

/** undefined as long as more must come. */
export function decodeRequest(bytes: Uint8Array): SignRequest | undefined {
  const [kind] = bytes;
  if (kind === undefined) return undefined;
  if (kind !== JOIN && kind !== RENEW) throw new SignWireError(`no request of kind ${kind}`);
  const fixed = 1 + (kind === JOIN ? TOKEN_ID_BYTES + PROOF_BYTES : 0);
  const [high, low] = bytes.subarray(fixed, fixed + 2);
  if (high === undefined || low === undefined) return undefined;
  const length = high * 256 + low;
  if (length === 0 || length > CSR_BYTES_MAX)
    throw new SignWireError(`a request of ${length} bytes`);
  const end = fixed + 2 + length;
  if (bytes.length < end) return undefined;
  if (bytes.length > end) throw new SignWireError(`${bytes.length - end} bytes too many`);
  const request = bytes.slice(fixed + 2, end);
  if (kind === RENEW) return { type: 'renew', request };
  const tokenId = bytes.slice(1, 1 + TOKEN_ID_BYTES);
  return { type: 'join', tokenId, proof: bytes.slice(1 + TOKEN_ID_BYTES, fixed), request };
}

/** Of JSON from a server that is known to be of the cluster; checked all the same. */
export function answerOf(value: unknown): SignAnswer {
  const { refused, granted } = record(value);
  if (granted === undefined) {
    return { refused: REFUSALS.find((one) => one === refused) ?? 'failed' };
  }
  const { certPem, caPem, caKeyPem, peers, revocations } = record(granted);
  if (typeof certPem !== 'string' || typeof caPem !== 'string') {
    throw new SignWireError('an answer without certificates');
  }
  return {
    granted: {
      certPem,
      caPem,
      ...(typeof caKeyPem === 'string' && { caKeyPem }),
      peers: list(peers, PEERS_MAX).map(peerOf),
      revocations: list(revocations, REVOCATIONS_MAX).map(revocationOf),
    },
  };
}

export function peerOf(value: unknown): Peer {
  const { id, address, zone } = record(value);
  if (typeof id !== 'string' || typeof address !== 'string' || typeof zone !== 'string') {
    throw new SignWireError('a peer without id, address and zone');
  }
  encodePeer({ id, address, zone }); // throws when it could not be spoken of
  return { id, address, zone };
}

function revocationOf(value: unknown): Revocation {
  const { kind, id, revokedAtMs, untilMs, reason } = record(value);
  const isKind = kind === 'node' || kind === 'serial';
  if (!isKind || typeof id !== 'string' || typeof reason !== 'string') {
    throw new SignWireError('a revocation of nothing');
  }
  return { kind, id, revokedAtMs: Number(revokedAtMs), untilMs: Number(untilMs), reason };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function list(value: unknown, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max) throw new SignWireError('a list is missing');
  return value as readonly unknown[];
}
