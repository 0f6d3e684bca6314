// A join token as one word: `zh1_` and base32 of everything a joiner must know to trust a cluster it has never met.
//
//   expiry u32 s │ CA fingerprint 32 │ issuer 16 │ id 8 │ secret 16 │ CRC-32 of what is before 4
//
// Whoever holds the word may join once until it expires; treat it as a password. What is wrong with a word is told as
// exactly as possible, and never with the word in the message.
import { ProblemError } from '../state/problem.ts';
import { base32, base32Length, fromBase32, strangerIn } from './base32.ts';
import { crc32 } from './crc32.ts';
import { NODE_ID_BYTES } from './names.ts';

export const FINGERPRINT_BYTES = 32; // SHA-256
export const TOKEN_ID_BYTES = 8; // names an entry of the issuer's ledger; no secret
export const SECRET_BYTES = 16; // 128 bits: not to be guessed, whatever the rate

const PREFIX = 'zh1_';
const BODY_BYTES = 4 + FINGERPRINT_BYTES + NODE_ID_BYTES + TOKEN_ID_BYTES + SECRET_BYTES;
const TEXT_LENGTH = base32Length(BODY_BYTES + 4);

export interface Token {
  readonly expiresAtS: number;
  /** SHA-256 of the CA's SubjectPublicKeyInfo. */
  readonly caFingerprint: Uint8Array;
  /** The node that made it and alone takes it back: that is how it is used once, with no leader to ask. */
  readonly issuer: string;
  readonly id: Uint8Array;
  readonly secret: Uint8Array;
}

export function encodeToken(token: Token): string {
  const bytes = new Uint8Array(BODY_BYTES + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, token.expiresAtS);
  let at = 4;
  for (const part of [token.caFingerprint, fromBase32(token.issuer), token.id, token.secret]) {
    if (part === undefined) throw new RangeError(`no node id: ${token.issuer}`);
    bytes.set(part, at);
    at += part.length;
  }
  if (at !== BODY_BYTES) throw new RangeError(`a token's body of ${at} bytes`);
  view.setUint32(BODY_BYTES, crc32(bytes.subarray(0, BODY_BYTES)));
  return PREFIX + base32(bytes);
}

export function decodeToken(word: string): Token {
  const text = word.trim().toLowerCase();
  if (!text.startsWith(PREFIX)) throw notOurs(text);
  const body = text.slice(PREFIX.length);
  const stranger = strangerIn(body);
  if (stranger >= 0) {
    const place = `character ${PREFIX.length + stranger + 1} is ${JSON.stringify(body[stranger])}`;
    throw mistyped(`${place}, which no token has`);
  }
  if (body.length !== TEXT_LENGTH) {
    const missing = TEXT_LENGTH - body.length;
    throw mistyped(missing > 0 ? `${missing} characters are missing` : `${-missing} too many`);
  }
  const bytes = fromBase32(body);
  if (bytes === undefined) throw mistyped('its last character cannot be right');
  const view = new DataView(bytes.buffer);
  if (view.getUint32(BODY_BYTES) !== crc32(bytes.subarray(0, BODY_BYTES))) {
    throw mistyped('its checksum does not match');
  }
  let at = 4;
  const next = (length: number): Uint8Array => bytes.slice(at, (at += length));
  return {
    expiresAtS: view.getUint32(0),
    caFingerprint: next(FINGERPRINT_BYTES),
    issuer: base32(next(NODE_ID_BYTES)),
    id: next(TOKEN_ID_BYTES),
    secret: next(SECRET_BYTES),
  };
}

function notOurs(text: string): ProblemError {
  const other = /^zh(\d+)_/.exec(text)?.[1];
  if (other !== undefined) {
    const message = `the join token is of version ${other}, this zerohop knows version 1`;
    return problem(message, 'use the same zerohop here as where the token was made');
  }
  const message = `that is no join token: one begins with ${PREFIX}`;
  return problem(message, 'make one with `zerohop cluster token` on a node of the cluster');
}

function mistyped(what: string): ProblemError {
  return problem(`the join token is mistyped: ${what}`, 'copy it again, all in one piece');
}

function problem(message: string, hint: string): ProblemError {
  return new ProblemError([{ code: 'invalid', message, path: 'token', hint }]);
}
