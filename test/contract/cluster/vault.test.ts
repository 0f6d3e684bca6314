/** Keys and certificates on a real disk: whole or refused, closed to others, and the reason told. */
import assert from 'node:assert/strict';
import fs, {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, mock, test } from 'node:test';
import { readSecret, writeSecret } from '../../../src/cluster/io/files.ts';
import { Vault } from '../../../src/cluster/io/vault.ts';
import { ProblemError } from '../../../src/state/problem.ts';
import { TestCluster } from './kit.ts';

const root = mkdtempSync(join(tmpdir(), 'zerohop-vault-'));
after(() => rmSync(root, { recursive: true, force: true }));
const cluster = await TestCluster.found();
const other = await TestCluster.found();

let directories = 0;
function fresh(): string {
  const path = join(root, `data-${directories++}`);
  mkdirSync(path, { mode: 0o700 });
  return path;
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ProblemError, String(error));
    assert.notEqual(error.problems[0]?.hint, undefined);
    return error.message.replaceAll(root, '');
  }
  return 'taken';
}

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

test('a data directory without a cluster has no identity, no authority and an empty ledger', () => {
  const vault = new Vault(fresh());
  assert.equal(vault.identity(), undefined);
  assert.equal(vault.authority(), undefined);
  assert.deepEqual(vault.ledger(), []);
  assert.equal(mode(vault.directory), '700');
});

test('what is saved is read back, in files that are closed to others and leave no rest', () => {
  const data = fresh();
  const vault = new Vault(data);
  const entry = { id: 'a', key: 'b', expiresAtMs: 1, signer: false };
  vault.saveAuthorityKey(cluster.authority.keyPem);
  vault.saveLedger([entry]);
  vault.saveIdentity(cluster.founder);
  const again = new Vault(data);
  assert.deepEqual(again.identity(), cluster.founder);
  assert.deepEqual(again.authority(), cluster.authority);
  assert.deepEqual(again.ledger(), [entry]);
  const files = readdirSync(vault.directory).sort();
  assert.deepEqual(files, ['ca-key.pem', 'node.pem', 'tokens']);
  for (const file of files) assert.equal(mode(join(vault.directory, file)), '600');
  again.forget();
  assert.deepEqual(readdirSync(vault.directory), []);
});

test('what a killed write left behind is gone when the vault is opened, and when all is forgotten', () => {
  const data = fresh();
  const vault = new Vault(data);
  const left = (): void => {
    for (const name of ['ca-key.pem.0123456789ab.new', 'node.pem.ba9876543210.new'])
      writeFileSync(join(vault.directory, name), cluster.authority.keyPem, { mode: 0o600 });
  };
  vault.saveIdentity(cluster.founder);
  writeFileSync(join(vault.directory, 'overlay.json.new'), '{}'); // somebody else's
  left();
  const again = new Vault(data);
  assert.deepEqual(readdirSync(vault.directory).sort(), ['node.pem', 'overlay.json.new']);
  left();
  again.forget();
  assert.deepEqual(readdirSync(vault.directory), ['overlay.json.new']);
});

test('a file that cannot be removed keeps no other from being forgotten: least of all the unfinished join', () => {
  for (const stuck of ['node.pem', 'joining']) {
    const vault = new Vault(fresh());
    vault.saveJoining({ shared: 'drop', seeds: [] });
    vault.saveIdentity(cluster.founder);
    vault.saveAuthorityKey(cluster.authority.keyPem);
    vault.saveLedger([]);
    const path = join(vault.directory, stuck);
    rmSync(path);
    mkdirSync(path, { mode: 0o700 }); // is not removed as a file is
    assert.throws(() => vault.forget(), { code: 'ERR_FS_EISDIR' });
    assert.deepEqual(readdirSync(vault.directory), [stuck]);
  }
});

test('an unfinished join is forgotten before the identity: dying in between leaves a member, not a join', () => {
  const vault = new Vault(fresh());
  vault.saveJoining({ shared: 'drop', seeds: [] });
  vault.saveIdentity(cluster.founder);
  const removed: string[] = [];
  const { rmSync: remove } = fs;
  const faked = mock.method(fs, 'rmSync', (path: string, options: object) => {
    removed.push(basename(path));
    remove(path, options);
  });
  syncBuiltinESMExports();
  try {
    vault.forget();
  } finally {
    faked.mock.restore();
    syncBuiltinESMExports();
  }
  assert.deepEqual(removed.slice(0, 2), ['joining', 'node.pem']);
});

test('an umask that opens files to others changes nothing', () => {
  const old = process.umask(0);
  try {
    const vault = new Vault(fresh());
    vault.saveIdentity(cluster.founder);
    assert.equal(mode(vault.directory), '700');
    assert.equal(mode(join(vault.directory, 'node.pem')), '600');
  } finally {
    process.umask(old);
  }
});

test('files and directories that others may read are refused, with what to do', () => {
  const data = fresh();
  const vault = new Vault(data);
  vault.saveIdentity(cluster.founder);
  const file = join(vault.directory, 'node.pem');
  chmodSync(file, 0o640);
  assert.match(
    refusal(() => vault.identity()),
    /node\.pem is open to others \(mode 640\)/,
  );
  chmodSync(file, 0o600);
  chmodSync(vault.directory, 0o755);
  assert.match(
    refusal(() => new Vault(data)),
    /cluster is open to others \(mode 755\)/,
  );
});

test('a link in the place of a file is not followed, and a directory is no file', () => {
  const data = fresh();
  const vault = new Vault(data);
  const elsewhere = join(data, 'elsewhere');
  writeSecret(elsewhere, 'x');
  symlinkSync(elsewhere, join(vault.directory, 'tokens'));
  assert.match(
    refusal(() => vault.ledger()),
    /tokens cannot be opened: ELOOP/,
  );
  mkdirSync(join(vault.directory, 'node.pem'), { mode: 0o700 });
  assert.match(
    refusal(() => vault.identity()),
    /node\.pem is no plain file/,
  );
});

test('a file cut off at any byte is refused', () => {
  const data = fresh();
  const vault = new Vault(data);
  vault.saveIdentity(cluster.founder);
  const file = join(vault.directory, 'node.pem');
  const { size } = statSync(file);
  const said = new Set<string>();
  for (let length = size - 1; length >= 0; length -= 1) {
    truncateSync(file, length);
    said.add(refusal(() => vault.identity()).replace(/.*node\.pem /, ''));
  }
  assert.deepEqual([...said], ['is cut off, or was edited']);
});

test('a file with any one byte changed is refused', () => {
  const data = fresh();
  const vault = new Vault(data);
  vault.saveLedger([{ id: 'a', key: 'b', expiresAtMs: 1, signer: false }]);
  const file = join(vault.directory, 'tokens');
  const whole = readFileSync(file);
  for (let i = 0; i < whole.length; i++) {
    const changed = Buffer.from(whole);
    changed[i] = (changed[i] ?? 0) ^ 0x01;
    writeFileSync(file, changed);
    assert.match(
      refusal(() => vault.ledger()),
      /is (damaged|cut off), or was edited/,
    );
  }
});

test('keys and certificates that do not belong together are refused, written or read', () => {
  const data = fresh();
  const vault = new Vault(data);
  const { certPem, caPem } = cluster.founder;
  const { keyPem } = other.founder;
  assert.match(
    refusal(() => vault.saveIdentity({ keyPem, certPem, caPem })),
    /key and certificate do not belong together/,
  );
  writeSecret(join(vault.directory, 'node.pem'), keyPem + certPem + caPem);
  assert.match(
    refusal(() => vault.identity()),
    /key and certificate do not belong together/,
  );
  writeSecret(join(vault.directory, 'node.pem'), 'nothing\n');
  assert.match(
    refusal(() => vault.identity()),
    /cannot be read/,
  );
  vault.saveIdentity(cluster.founder);
  vault.saveAuthorityKey(other.authority.keyPem);
  assert.match(
    refusal(() => vault.authority()),
    /ca-key\.pem is the key of another cluster/,
  );
});

test('a write that fails leaves the old file, and nothing beside it', () => {
  const data = fresh();
  const path = join(data, 'secret');
  writeSecret(path, 'old');
  const inThePlace = join(data, 'full');
  mkdirSync(join(inThePlace, 'child'), { recursive: true });
  assert.match(
    refusal(() => writeSecret(inThePlace, 'new')),
    /cannot be written/,
  );
  assert.match(
    refusal(() => writeSecret(join(data, 'none', 'secret'), 'new')),
    /cannot be written: ENOENT/,
  );
  assert.equal(readSecret(path), 'old');
  assert.deepEqual(readdirSync(data).sort(), ['full', 'secret']);
});
