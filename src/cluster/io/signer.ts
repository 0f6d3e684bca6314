/**
 * Gives certificates: to a stranger who proves a join token's secret, once, and
 * to a member who comes for its next one. Runs on every node; only those with
 * the CA's key grant anything.
 *
 * A token is marked as used on disk before the answer leaves: killed in between,
 * the token is lost, and never good twice. Whoever cannot prove the secret
 * learns nothing of the token: unknown and wrong look alike.
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { ProblemError } from '../../state/problem.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import {
  find,
  issue,
  judge,
  markEnded,
  markUsed,
  withdraw,
  type Ledger,
  type LedgerEntry,
} from '../ledger.ts';
import { addressKey, Limiter, type Rate } from '../limiter.ts';
import { NODE_VALIDITY_MS, SKEW_MS, validityFrom } from '../lifetime.ts';
import { drawNodeId } from '../names.ts';
import type { Revocation } from '../revocation.ts';
import {
  ANSWER_BYTES_MAX,
  decodeRequest,
  REQUEST_BYTES_MAX,
  REVOCATIONS_MAX,
  SignWireError,
  type Granted,
  type Refusal,
  type SignAnswer,
  type SignRequest,
} from '../sign-wire.ts';
import { encodeToken, SECRET_BYTES, TOKEN_ID_BYTES } from '../token.ts';
import type { Authority } from './certificates.ts';
import type { Clock } from './clock.ts';
import { fingerprintOfPem, type Authenticated } from './identity.ts';
import type { Arrived } from './listener.ts';
import { SILENT, type ClusterLog } from './log.ts';
import type { Metrics } from './metrics.ts';
import { bindingOf, keyOfSecret, prove, sameProof } from './proof.ts';

export interface SignerLimits {
  /** In all, of those that have proved a token. */
  readonly joins: Rate;
  readonly joinsPerAddress: Rate;
  readonly renewalsPerNode: Rate;
  /** Addresses and nodes remembered for their rates. */
  readonly keysMax: number;
}

/** No certificate lasts longer, whatever a member writes. */
const REVOCATION_MS_MAX = NODE_VALIDITY_MS + 86_400_000;

/** All guesses: a secret of 128 bits needs no limit, but each attempt costs a handshake. */
const SIGNER_LIMITS: SignerLimits = {
  joins: { perSecond: 10, burst: 50 },
  joinsPerAddress: { perSecond: 0.5, burst: 10 },
  renewalsPerNode: { perSecond: 1 / 60, burst: 5 },
  keysMax: 4096,
};

export interface SignerOptions {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly nodeId: string;
  /** undefined where this node has not the CA's key. */
  readonly authority: () => Authority | undefined;
  readonly ledger: Ledger;
  /** Must be on disk when it returns. */
  readonly saveLedger: (ledger: Ledger) => void;
  /** For a new node to begin with; up to PEERS_MAX. */
  readonly peers: () => readonly Peer[];
  readonly revocations: () => readonly Revocation[];
  /** Whether a node is gone for good. */
  readonly isGone: (nodeId: string) => boolean;
  readonly validityMs?: number;
  readonly limits?: Partial<SignerLimits>;
  readonly log?: ClusterLog;
}

export interface IssuedToken {
  readonly token: string;
  /** Of the ledger. */
  readonly id: string;
  readonly expiresAtMs: number;
}

export class Signer {
  readonly #options: SignerOptions;
  readonly #joins: Limiter;
  readonly #joinsPerAddress: Limiter;
  readonly #renewals: Limiter;
  readonly #log: ClusterLog;
  #ledger: Ledger;

  constructor(options: SignerOptions) {
    this.#options = options;
    this.#ledger = options.ledger;
    this.#log = options.log ?? SILENT;
    const limits = { ...SIGNER_LIMITS, ...options.limits };
    this.#joins = new Limiter(limits.joins, 1);
    this.#joinsPerAddress = new Limiter(limits.joinsPerAddress, limits.keysMax);
    this.#renewals = new Limiter(limits.renewalsPerNode, limits.keysMax);
  }

  /** The word alone: see `issue`. */
  issueToken(validForMs: number, signer: boolean): string {
    return this.issue(validForMs, signer).token;
  }

  /** A new token, whose word is shown once and not kept. Throws ProblemError. */
  issue(validForMs: number, signer: boolean): IssuedToken {
    const authority = this.#options.authority();
    if (authority === undefined) {
      const message = 'this node cannot make join tokens: it has not the CA key of the cluster';
      const hint =
        'make the token on a node that has it: the first one, or one that joined as signer';
      throw new ProblemError([{ code: 'unavailable', message, hint }]);
    }
    const nowMs = this.#options.clock.wallMs();
    const expiresAtS = Math.floor((nowMs + validForMs) / 1000);
    const id = randomBytes(TOKEN_ID_BYTES);
    const secret = randomBytes(SECRET_BYTES);
    const key = Buffer.from(keyOfSecret(secret)).toString('hex');
    const entry = { id: id.toString('hex'), key, expiresAtMs: expiresAtS * 1000, signer };
    const ledger = issue(this.#ledger, entry, nowMs);
    if (ledger === undefined) {
      const message = `${this.#ledger.length} join tokens are open, no more are made`;
      const hint = 'withdraw some, or wait until they expire';
      throw new ProblemError([{ code: 'limit', message, hint }]);
    }
    this.#save(ledger);
    const caFingerprint = fingerprintOfPem(authority.certPem);
    const issuer = this.#options.nodeId;
    const token = encodeToken({ expiresAtS, caFingerprint, issuer, id, secret });
    return { token, id: entry.id, expiresAtMs: entry.expiresAtMs };
  }

  /** Without keys: for people to look at. */
  tokens(): readonly Omit<LedgerEntry, 'key'>[] {
    return this.#ledger.map(({ id, expiresAtMs, signer, used }) => {
      return { id, expiresAtMs, signer, ...(used !== undefined && { used }) };
    });
  }

  /** False when there is none that is unused. */
  withdrawToken(id: string): boolean {
    const left = withdraw(this.#ledger, id);
    if (left.length === this.#ledger.length) return false;
    this.#save(left);
    return true;
  }

  /** Now and then: what has ended stays so when the clock is set back. */
  look(): void {
    const ledger = markEnded(this.#ledger, this.#options.clock.wallMs());
    if (ledger === undefined) return;
    this.#ledger = ledger; // whatever the disk says: it is refused from now on
    try {
      this.#options.saveLedger(ledger);
    } catch (error) {
      this.#log.warn({ error }, 'that a join token has ended cannot be written down');
    }
  }

  /** The taker of `zerohop-sign/1`. */
  take(arrived: Arrived): void {
    const { socket, peer } = arrived;
    let bytes = Buffer.alloc(0);
    const heard = (more: Buffer): void => {
      if (bytes.length + more.length > REQUEST_BYTES_MAX) return void socket.destroy();
      bytes = Buffer.concat([bytes, more]);
      let asked: SignRequest | undefined;
      try {
        asked = decodeRequest(bytes);
      } catch (error) {
        if (!(error instanceof SignWireError)) throw error;
        return void socket.destroy();
      }
      if (asked === undefined) return undefined;
      socket.off('data', heard);
      // Not before: a joiner's first look asks nothing. What a handshake costs is limited by the listener.
      if (!this.#mayAsk(arrived)) {
        this.#options.metrics['cluster_join_requests_total.limited'] += 1;
        return answerWith(arrived, { refused: 'limited' });
      }
      void this.#answer(socket, peer, asked).then((answer) => answerWith(arrived, answer));
      return undefined;
    };
    socket.on('data', heard);
    return undefined;
  }

  #mayAsk({ peer, address }: Arrived): boolean {
    const now = this.#options.clock.now();
    if (peer !== undefined) return this.#renewals.take(peer.nodeId, now);
    return this.#joinsPerAddress.take(addressKey(address), now);
  }

  async #answer(
    socket: TLSSocket,
    peer: Authenticated | undefined,
    asked: SignRequest,
  ): Promise<SignAnswer> {
    const { metrics } = this.#options;
    const kind = asked.type === 'join' ? 'cluster_join_requests_total' : 'cluster_renewals_total';
    const who = peer?.nodeId ?? socket.remoteAddress;
    let answer: SignAnswer;
    try {
      if (asked.type === 'join') answer = await this.#join(bindingOf(socket), asked);
      else if (peer === undefined) answer = { refused: 'request' };
      else answer = await this.#renew(peer, asked.request);
    } catch (error) {
      this.#log.warn({ who, error }, 'signing a certificate failed');
      answer = { refused: 'failed' };
    }
    if ('granted' in answer) metrics[`${kind}.granted`] += 1;
    else if (asked.type === 'join' && answer.refused === 'limited')
      metrics['cluster_join_requests_total.limited'] += 1;
    else {
      metrics[`${kind}.refused`] += 1;
      this.#log.warn({ who, why: answer.refused }, `a ${asked.type} was refused`);
    }
    return answer;
  }

  async #join(
    binding: Uint8Array,
    asked: Extract<SignRequest, { type: 'join' }>,
  ): Promise<SignAnswer> {
    const id = Buffer.from(asked.tokenId).toString('hex');
    const entry = find(this.#ledger, id);
    // Some key for tokens that are unknown, so that they take as long.
    const key = entry === undefined ? randomBytes(32) : Buffer.from(entry.key, 'hex');
    const isProved = sameProof(prove(key, binding, asked.request), asked.proof);
    if (entry === undefined || !isProved) return { refused: 'unknown' };
    const verdict = judge(entry, this.#options.clock.wallMs());
    if (verdict !== 'good') return { refused: verdict };
    // What is for all is for those with a token: no stranger uses it up.
    if (!this.#joins.take('', this.#options.clock.now())) return { refused: 'limited' };
    const nodeId = drawNodeId(randomFillSync);
    const granted = await this.#grant(asked.request, nodeId, entry.signer, this.#toTell());
    if (!('granted' in granted)) return granted;
    // From here to the disk without a pause: of two that come at once, one is too late.
    const nowMs = this.#options.clock.wallMs();
    const now = judge(find(this.#ledger, id), nowMs);
    if (now !== 'good') return { refused: now };
    this.#save(markUsed(this.#ledger, id, nodeId, nowMs));
    this.#log.info({ node: nodeId, token: id, signer: entry.signer }, 'a node joined by token');
    return granted;
  }

  async #renew({ nodeId }: Authenticated, request: Uint8Array): Promise<SignAnswer> {
    const { revocations, isGone } = this.#options;
    const isOut = isGone(nodeId) || revocations().some(({ id }) => id === nodeId);
    if (isOut) return { refused: 'request' };
    return await this.#grant(request, nodeId, false, []); // it has the state, with all of them
  }

  async #grant(
    request: Uint8Array,
    nodeId: string,
    signer: boolean,
    revocations: readonly Revocation[],
  ): Promise<{ granted: Granted } | { refused: Refusal }> {
    const { authority: ask, clock, validityMs, peers } = this.#options;
    const authority = ask();
    if (authority === undefined) return { refused: 'no-signer' };
    const { signRequest } = await import('./certificates.ts');
    const validity = validityFrom(clock.wallMs(), validityMs ?? NODE_VALIDITY_MS);
    const name = { clusterId: authority.clusterId, nodeId };
    let certPem: string;
    try {
      certPem = await signRequest(authority, request, name, validity);
    } catch {
      return { refused: 'request' };
    }
    const granted = {
      certPem,
      caPem: authority.certPem,
      ...(signer && { caKeyPem: authority.keyPem }),
      peers: peers(),
      revocations,
    };
    // Before a token is used up for it.
    if (bytesOf({ granted }).length > ANSWER_BYTES_MAX) throw new Error('the answer is too long');
    return { granted };
  }

  /** Of the revocations for a new host: all are in the state, which it gets soon, and would not fit in here for ever. */
  #toTell(): Revocation[] {
    const nowMs = this.#options.clock.wallMs();
    const endOf = ({ revokedAtMs, untilMs }: Revocation): number =>
      Math.min(untilMs, revokedAtMs + REVOCATION_MS_MAX);
    return this.#options
      .revocations()
      .filter((one) => endOf(one) + SKEW_MS >= nowMs)
      .sort((a, b) => b.revokedAtMs - a.revokedAtMs)
      .slice(0, REVOCATIONS_MAX)
      .map((one) => ({ ...one, reason: '' }));
  }

  #save(ledger: Ledger): void {
    this.#options.saveLedger(ledger); // throws: then what is in memory is what is on disk still
    this.#ledger = ledger;
  }
}

function bytesOf(answer: SignAnswer): Buffer {
  return Buffer.from(JSON.stringify(answer));
}

function answerWith({ socket, settled }: Arrived, answer: SignAnswer): void {
  const json = bytesOf(answer);
  if (json.length > ANSWER_BYTES_MAX) return void socket.destroy();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length);
  // The deadline of the handshake is for the answer too: who does not read it is cut.
  socket.once('close', settled);
  socket.end(Buffer.concat([length, json]));
  return undefined;
}
