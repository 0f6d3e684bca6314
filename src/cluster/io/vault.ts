/**
 * What a node keeps of its cluster, in DATA/cluster (0700):
 *
 *   node.pem    key, certificate and the CA's certificate: one file, since they change together
 *   ca-key.pem  the CA's key, on signers only
 *   tokens      the ledger of the join tokens that this node made
 *   joining     what is still to be done of a join, from before `node.pem` is written
 *
 * Where `node.pem` is the node is a member. `joining` is removed before it: no start goes on with a
 * join that failed.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { isLedger, type Ledger } from '../ledger.ts';
import { ProblemError } from '../../state/problem.ts';
import type { Peer } from '../../hyparview-ts/index.ts';
import type { Rebase } from '../../state/replica/rebase.ts';
import { peerOf } from '../sign-wire.ts';
import type { Authority } from './certificates.ts';
import {
  readSecret,
  removeSecret,
  removeUnfinished,
  secretDirectory,
  writeSecret,
} from './files.ts';
import { identityOf, type Identity } from './identity.ts';

const PEM_BLOCK = /-----BEGIN ([A-Z ]+)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n/g;

/** What a start needs to go on with it. */
export interface Joining {
  /** What becomes of this host's own records. */
  readonly shared: Rebase['shared'];
  readonly seeds: readonly Peer[];
}

export class Vault {
  readonly directory: string;
  readonly #node: string;
  readonly #caKey: string;
  readonly #tokens: string;
  readonly #joining: string;

  /** Makes DATA/cluster where it is missing. To be opened by one process, the agent, only. */
  constructor(dataDirectory: string) {
    this.directory = join(dataDirectory, 'cluster');
    secretDirectory(this.directory);
    removeUnfinished(this.directory);
    this.#node = join(this.directory, 'node.pem');
    this.#caKey = join(this.directory, 'ca-key.pem');
    this.#tokens = join(this.directory, 'tokens');
    this.#joining = join(this.directory, 'joining');
  }

  /** undefined when this node is in no cluster. */
  identity(): Identity | undefined {
    const text = readSecret(this.#node);
    if (text === undefined) return undefined;
    const blocks = [...text.matchAll(PEM_BLOCK)].map(([block]) => block);
    const [key = '', certificate = '', ca = ''] = blocks;
    return identityOf(key, certificate, ca, this.#node);
  }

  saveIdentity({ keyPem, certPem, caPem }: Pick<Identity, 'keyPem' | 'certPem' | 'caPem'>): void {
    identityOf(keyPem, certPem, caPem, this.#node); // nothing is written that would not be read
    writeSecret(this.#node, keyPem + certPem + caPem);
  }

  /** What a signer signs with; undefined on other nodes. */
  authority(): Authority | undefined {
    const keyPem = readSecret(this.#caKey);
    const identity = this.identity();
    if (keyPem === undefined || identity === undefined) return undefined;
    if (!new X509Certificate(identity.caPem).checkPrivateKey(createPrivateKey(keyPem))) {
      const message = `${this.#caKey} is the key of another cluster`;
      const hint = 'move it away: this node is then no signer any more';
      throw new ProblemError([{ code: 'store', message, path: this.#caKey, hint }]);
    }
    return { clusterId: identity.clusterId, certPem: identity.caPem, keyPem };
  }

  saveAuthorityKey(keyPem: string): void {
    writeSecret(this.#caKey, keyPem);
  }

  ledger(): Ledger {
    const text = readSecret(this.#tokens);
    if (text === undefined) return [];
    const ledger: unknown = JSON.parse(text);
    if (isLedger(ledger)) return ledger;
    const message = `${this.#tokens} was written by another zerohop`;
    const hint = 'move it away: tokens made here before are then refused; make new ones';
    throw new ProblemError([{ code: 'store', message, path: this.#tokens, hint }]);
  }

  saveLedger(ledger: Ledger): void {
    writeSecret(this.#tokens, `${JSON.stringify(ledger)}\n`);
  }

  /** A join that this host died in: with a certificate it is to be gone on with, else forgotten. */
  joining(): Joining | undefined {
    const text = readSecret(this.#joining);
    if (text === undefined) return undefined;
    const { shared, seeds } = JSON.parse(text) as Joining;
    return { shared, seeds: seeds.map(peerOf) };
  }

  saveJoining({ shared, seeds }: Joining): void {
    writeSecret(this.#joining, `${JSON.stringify({ shared, seeds })}\n`);
  }

  joined(): void {
    removeSecret(this.#joining);
  }

  /** Leaves the cluster: nothing of it can be used again. Throws where a file stays; the others are gone then. */
  forget(): void {
    const failures: unknown[] = [];
    const attempt = (remove: () => void): void => {
      try {
        remove();
      } catch (error) {
        failures.push(error);
      }
    };
    for (const file of [this.#joining, this.#node, this.#caKey, this.#tokens])
      attempt(() => removeSecret(file));
    attempt(() => removeUnfinished(this.directory));
    if (failures.length > 0) throw failures[0];
  }
}
