/**
 * The other side of signer.ts: a host that is in no cluster joins one by token,
 * and a member gets its next certificate.
 *
 * A joiner makes two connections. The first asks only for certificates, sends
 * nothing, and finds the CA by the token's fingerprint. The second lets OpenSSL
 * check the server against that CA, as any member does; only then is the secret
 * proved, by a value of no use to anybody else (proof.ts).
 */
import type { X509Certificate } from 'node:crypto';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { ProblemError, type ProblemCode } from '../../state/problem.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import { parseAddress } from '../address.ts';
import { SKEW_MS } from '../lifetime.ts';
import type { Revocation } from '../revocation.ts';
import {
  ANSWER_BYTES_MAX,
  answerOf,
  encodeRequest,
  type Granted,
  type Refusal,
  type SignAnswer,
} from '../sign-wire.ts';
import { decodeToken, type Token } from '../token.ts';
import type { Clock } from './clock.ts';
import {
  authenticate,
  clusterOf,
  contextOf,
  fingerprintOf,
  identityOf,
  TLS_ONLY_13,
  type Identity,
} from './identity.ts';
import { SIGN_PROTOCOL } from './listener.ts';
import { bindingOf, keyOfSecret, prove, sameProof } from './proof.ts';
import { systemRandom, unitOf } from './random.ts';

export interface Joined {
  readonly identity: Identity;
  /** Where the token was for a signer. */
  readonly caKeyPem: string | undefined;
  readonly peers: readonly Peer[];
  readonly revocations: readonly Revocation[];
}

/** The other side waits no longer either (LISTENER_LIMITS). */
const HANDSHAKE_MS = 5000;
const ANSWER_MS = 10_000; // a guess
/** Of both connections with all their attempts: meanwhile this host does nothing else with its cluster. A guess. */
const DEADLINE_MS = 18_000;
/** Of a connection whose handshake is not completed, and the wait before the second; it grows. Guesses. */
const ATTEMPTS_MAX = 3;
const RETRY_MS = 250;
const CHAIN_MAX = 8; // a chain of ours has two

/** Throws ProblemError with what is wrong and what to do, after 18 s at the latest. */
export async function joinCluster(
  address: string,
  word: string,
  clock: Clock,
  unit = unitOf(systemRandom()),
): Promise<Joined> {
  const token = decodeToken(word);
  if (clock.wallMs() > token.expiresAtS * 1000 + SKEW_MS) throw tokenProblem('expired');
  const call = callTo(address, clock, unit);
  const ca = await findAuthority(call, token);
  const clusterId = clusterOf(ca);
  if (clusterId === undefined) throw problem('invalid', `${address} is of no cluster`, 'check it');
  const caPem = pemOf(ca);
  const { createRequest } = await import('./certificates.ts');
  const { keyPem, request } = await createRequest();
  const answer = await exchange(call, { ca: caPem }, (socket) => {
    const server = authenticate(socket, clusterId)?.nodeId;
    if (server !== token.issuer) throw wrongNode(address, server, token.issuer, whereToJoin(token));
    const proof = prove(keyOfSecret(token.secret), bindingOf(socket), request);
    return encodeRequest({ type: 'join', tokenId: token.id, proof, request });
  });
  if ('refused' in answer) throw tokenProblem(answer.refused);
  const { granted } = answer;
  const identity = identityOf(keyPem, granted.certPem, caPem, 'the new certificate');
  const { caKeyPem, peers, revocations } = granted;
  return { identity, caKeyPem, peers, revocations };
}

/** A member's next certificate with a new key, from a signer at `peer`. Throws ProblemError, after 18 s at the latest. */
export async function renewIdentity(
  identity: Identity,
  peer: Peer,
  clock: Clock,
  unit = unitOf(systemRandom()),
): Promise<{ identity: Identity; granted: Granted }> {
  const { createRequest } = await import('./certificates.ts');
  const { keyPem, request } = await createRequest();
  const answer = await exchange(
    callTo(peer.address, clock, unit),
    { secureContext: contextOf(identity) },
    (socket) => {
      const server = authenticate(socket, identity.clusterId)?.nodeId;
      if (server !== peer.id)
        throw wrongNode(
          peer.address,
          server,
          peer.id,
          'its address is another one now: see `zerohop members`',
        );
      return encodeRequest({ type: 'renew', request });
    },
  );
  if ('refused' in answer) {
    const message = `node ${peer.id} does not renew the certificate: ${answer.refused}`;
    throw problem('unavailable', message, 'another node with the CA key may: see its log');
  }
  const { granted } = answer;
  const next = identityOf(keyPem, granted.certPem, identity.caPem, 'the new certificate');
  if (next.nodeId !== identity.nodeId) {
    throw problem(
      'unavailable',
      `node ${peer.id} sent a certificate of ${next.nodeId}`,
      'look there',
    );
  }
  return { identity: next, granted };
}

/** The first connection: nothing is trusted, and nothing is sent. */
async function findAuthority(call: Call, token: Token): Promise<X509Certificate> {
  return await dial(call, { rejectUnauthorized: false }, (socket, done) => {
    let certificate = socket.getPeerX509Certificate();
    for (let i = 0; certificate !== undefined && i < CHAIN_MAX; i++) {
      if (sameProof(fingerprintOf(certificate), token.caFingerprint)) return done(certificate);
      certificate = certificate.issuerCertificate;
    }
    const message = `${call.address} is not of the cluster that the token is for`;
    const hint =
      'another cluster answers there, or somebody in between; nothing was sent. Check the address';
    throw problem('conflict', message, hint);
  });
}

async function exchange(
  call: Call,
  trust: Pick<ConnectionOptions, 'ca' | 'secureContext'>,
  makeRequest: (socket: TLSSocket) => Uint8Array,
): Promise<SignAnswer> {
  const options = { ...trust, rejectUnauthorized: true, checkServerIdentity: () => undefined };
  return await dial(call, options, (socket, done) => {
    let bytes = Buffer.alloc(0);
    socket.on('data', (more: Buffer) => {
      bytes = Buffer.concat([bytes, more]);
      if (bytes.length > ANSWER_BYTES_MAX + 4) socket.destroy(new Error('its answer is too long'));
    });
    socket.on('end', () => {
      if (bytes.length < 4 || bytes.length !== 4 + bytes.readUInt32BE(0)) {
        return void socket.destroy(new Error('its answer is cut off'));
      }
      try {
        done(answerOf(JSON.parse(bytes.subarray(4).toString())));
      } catch (error) {
        socket.destroy(error instanceof Error ? error : undefined);
      }
      return undefined;
    });
    socket.write(makeRequest(socket));
  });
}

/** Whom to talk to, and until when. */
interface Call {
  readonly address: string;
  readonly clock: Clock;
  readonly unit: () => number;
  readonly endMs: number;
}

function callTo(address: string, clock: Clock, unit: () => number): Call {
  return { address, clock, unit, endMs: clock.now() + DEADLINE_MS };
}

type Use<T> = (socket: TLSSocket, done: (value: T) => void) => void;

/**
 * Calls `use` when the handshake is complete; whatever happens, the socket is gone afterwards. A
 * handshake that is cut off or not answered is tried again: a network that loses packets may need
 * longer for one than the other side waits, and nothing was asked for yet. Not at once: the other
 * side also cuts off who comes when too many do.
 */
async function dial<T>(call: Call, options: ConnectionOptions, use: Use<T>): Promise<T> {
  const { clock, unit, endMs } = call;
  for (let attempt = 1; ; attempt++) {
    const answer = await dialOnce(call, options, use);
    if (!(answer instanceof CutOff)) return answer;
    const waitMs = RETRY_MS * attempt * (0.5 + unit());
    if (attempt === ATTEMPTS_MAX || clock.now() + waitMs >= endMs) throw answer.why;
    await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
  }
}

/** Before the handshake was complete. */
class CutOff {
  readonly why: ProblemError;

  constructor(why: ProblemError) {
    this.why = why;
  }
}

class Silence extends Error {}

function dialOnce<T>(
  { address, clock, endMs }: Call,
  options: ConnectionOptions,
  use: Use<T>,
): Promise<T | CutOff> {
  const { host, port } = parseAddress(address);
  return new Promise<T | CutOff>((resolve, reject) => {
    let isEstablished = false;
    const socket = connect({
      host,
      port,
      ...TLS_ONLY_13,
      ALPNProtocols: [SIGN_PROTOCOL],
      ...options,
    });
    const within = (limitMs: number): (() => void) => {
      const leftMs = endMs - clock.now();
      const toldMs = leftMs < limitMs ? DEADLINE_MS : limitMs;
      const silence = new Silence(`no answer in ${toldMs / 1000} s`);
      return clock.after(Math.min(leftMs, limitMs), () => socket.destroy(silence));
    };
    let stop = within(HANDSHAKE_MS);
    const fail = (error: unknown): void => {
      const why = explain(address, error);
      const isCutOff =
        error instanceof Silence || (error as NodeJS.ErrnoException).code === 'ECONNRESET';
      if (isCutOff && !isEstablished) resolve(new CutOff(why));
      else reject(why);
    };
    socket.on('error', fail);
    socket.on('close', () => {
      stop();
      fail(new Error('the connection was closed'));
    });
    socket.once('secureConnect', () => {
      isEstablished = true;
      stop();
      stop = within(ANSWER_MS);
      try {
        if (socket.alpnProtocol !== SIGN_PROTOCOL) throw new Error('it is no zerohop agent');
        use(socket, (value) => {
          resolve(value);
          socket.destroy();
        });
      } catch (error) {
        reject(error instanceof ProblemError ? error : explain(address, error));
        socket.destroy();
      }
    });
  });
}

function pemOf(certificate: X509Certificate): string {
  return certificate.toString();
}

function explain(address: string, error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code ?? '') {
    case 'ECONNREFUSED':
      return problem('unavailable', `nobody listens at ${address}`, 'is the agent there running?');
    case 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL':
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
      return problem(
        'unavailable',
        `what listens at ${address} is no zerohop agent`,
        'check the port',
      );
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID': {
      const when = code === 'CERT_HAS_EXPIRED' ? 'has ended' : 'is not valid yet';
      return problem(
        'unavailable',
        `the certificate of ${address} ${when}`,
        'compare the clocks of both hosts',
      );
    }
    case 'CERT_SIGNATURE_FAILURE':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'SELF_SIGNED_CERT_IN_CHAIN': {
      const hint = 'somebody may be in between; nothing was sent. Check the address';
      return problem('conflict', `${address} only pretends to be of the cluster`, hint);
    }
    default:
      return problem('unavailable', `cannot talk to ${address}: ${message}`, 'its log may say why');
  }
}

function whereToJoin({ issuer }: Token): string {
  return (
    'a token works only at the node that made it: take the address that `zerohop cluster token` ' +
    `printed with it, or that \`zerohop members\` on any member shows for ${issuer}`
  );
}

function wrongNode(
  address: string,
  found: string | undefined,
  wanted: string,
  hint: string,
): ProblemError {
  const message = `${address} is node ${found ?? 'without a name'}, not ${wanted}`;
  return problem('conflict', message, hint);
}

const REFUSED: Readonly<Record<Refusal, readonly [message: string, hint: string]>> = {
  unknown: [
    'the join token is not known there',
    'it was withdrawn, or expired long ago: make a new one with `zerohop cluster token`',
  ],
  used: [
    'the join token was used before',
    'a token is good for one node: make a new one. If it was not you who used it, look at `zerohop members`',
  ],
  expired: ['the join token has expired', 'make a new one with `zerohop cluster token`'],
  limited: [
    'too many hosts are joining just now',
    'wait a minute and do it again; the token is unused',
  ],
  'no-signer': ['that node has not the CA key any more', 'make a token on one that has it'],
  request: ['the certificate request was refused', "the agent's log there says why"],
  failed: ['signing the certificate failed there', "the agent's log there says why"],
};

function tokenProblem(refusal: Refusal): ProblemError {
  const [message, hint] = REFUSED[refusal];
  return problem(
    refusal === 'limited' || refusal === 'failed' ? 'unavailable' : 'conflict',
    message,
    hint,
  );
}

function problem(code: ProblemCode, message: string, hint: string): ProblemError {
  return new ProblemError([{ code, message, hint }]);
}
