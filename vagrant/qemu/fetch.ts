// Gets Debian kernels: an apt state of its own per suite, in a folder that is gone afterwards. The archive's address is
// taken from this machine's apt configuration, signatures are checked. Never changes the machine's own apt state.
import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  cachedKernel,
  cacheFolder,
  FORMAT,
  type Kernel,
  type KernelNote,
  type Lock,
  lock,
} from './cache.ts';
import { initrdOf, vmlinuxOf } from './image.ts';
import { type Archive, type KernelSource, KERNELS, NEWEST } from './rows.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const DAY_MS = 86_400_000;
const APT_TIMEOUT_MS = 300_000;

/** The series is not to be had now, and none of it is cached. */
export class KernelUnavailable extends Error {}

export type Say = (text: string) => void;
const exec = promisify(execFile);

async function output(command: string, args: readonly string[], cwd?: string): Promise<string> {
  try {
    const { stdout } = await exec(command, [...args], {
      maxBuffer: 1 << 28,
      timeout: APT_TIMEOUT_MS,
      cwd,
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    return stdout;
  } catch (error) {
    const text = (error as { stderr?: string }).stderr?.trim() ?? '';
    throw new Error(text.split('\n')[0] || (error as Error).message, { cause: error });
  }
}

/** Base addresses of Debian's archives, as this machine's apt would ask for them. Needs no lists. */
async function archives(work: string): Promise<ReadonlyMap<Archive, string>> {
  const codename = /^VERSION_CODENAME="?(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const lists = join(work, 'none');
  mkdirSync(`${lists}/partial`, { recursive: true });
  const uris = await output('apt-get', [
    '-o',
    `Dir::State::lists=${lists}`,
    'update',
    '--print-uris',
  ]);
  const found = new Map<Archive, string>();
  for (const [, base = '', suite] of uris.matchAll(/^'(.+)\/dists\/(\S+)\/InRelease'/gm)) {
    if (suite === codename && !found.has('debian')) found.set('debian', `${base}/`);
    if (suite === `${codename}-security`) found.set('security', `${base}/`);
  }
  return found;
}

/** An apt state for one suite; answers the options that make apt-get and apt-cache use it. */
async function aptState(work: string, suite: string, base: string): Promise<string[]> {
  const dir = join(work, suite);
  for (const sub of ['lists/partial', 'cache/archives/partial', 'sources'])
    mkdirSync(join(dir, sub), { recursive: true });
  writeFileSync(`${dir}/status`, '');
  writeFileSync(
    `${dir}/sources/suite.sources`,
    `Types: deb\nURIs: ${base}\nSuites: ${suite}\nComponents: main\nArchitectures: amd64\nSigned-By: ${KEYRING}\n`,
  );
  const options = [
    'Dir::Etc::sourcelist=/dev/null',
    `Dir::Etc::sourceparts=${dir}/sources`,
    `Dir::State::lists=${dir}/lists`,
    `Dir::State::status=${dir}/status`,
    `Dir::Cache=${dir}/cache`,
    'Dir::Cache::archives=archives',
    'APT::Update::Post-Invoke-Success::=',
    'APT::Update::Post-Invoke::=',
    `APT::Sandbox::User=${process.getuid?.() === 0 ? 'root' : ''}`,
    'APT::Architecture=amd64',
    'Acquire::Languages=none',
    'APT::Get::List-Cleanup=false',
  ].flatMap((option) => ['-o', option]);
  await output('apt-get', [...options, '-qq', 'update']);
  return options;
}

interface Found {
  readonly suite: string;
  readonly options: readonly string[];
  /** The image, and what is split off from it. */
  readonly packages: readonly string[];
}

const byVersion = new Intl.Collator('en', { numeric: true });

async function find(work: string, source: KernelSource): Promise<Found> {
  const bases = await archives(work);
  const complaints: string[] = [];
  for (const [suite, archive] of source.suites) {
    const base = bases.get(archive);
    if (base === undefined) {
      complaints.push(`${suite}: apt is configured for no ${archive} archive of this Debian`);
      continue;
    }
    try {
      const options = await aptState(work, suite, base);
      const names = (await output('apt-cache', [...options, 'pkgnames', 'linux-'])).split('\n');
      const image = names
        .filter((name) => source.pattern.test(name))
        .sort((a, b) => byVersion.compare(b, a))[0];
      if (image === undefined) {
        complaints.push(`${suite}: no such kernel`);
        continue;
      }
      const version = image.replace(/^linux-(image|binary)-/, '');
      const parts = [`linux-modules-${version}`, `linux-base-${version}`];
      return { suite, options, packages: [image, ...parts.filter((part) => names.includes(part))] };
    } catch (error) {
      complaints.push(`${suite}: ${(error as Error).message}`);
    }
  }
  throw new Error(complaints.join('; '));
}

async function versionOf(found: Found): Promise<string> {
  const [image = ''] = found.packages;
  const text = await output('apt-cache', [...found.options, 'show', '--no-all-versions', image]);
  return `${image} ${/^Version: (.*)$/m.exec(text)?.[1] ?? ''}`;
}

/** Downloads, unpacks and prepares; answers the folder it made below `work`. */
async function prepare(work: string, found: Found, name: string): Promise<string> {
  const debs = join(work, 'debs');
  const root = join(work, 'root');
  const made = join(work, 'made');
  for (const dir of [debs, root, made]) mkdirSync(dir);
  await output('apt-get', [...found.options, '-qq', 'download', ...found.packages], debs);
  for (const deb of readdirSync(debs)) await output('dpkg-deb', ['-x', join(debs, deb), root]);
  if (!existsSync(`${root}/lib`)) symlinkSync('usr/lib', `${root}/lib`); // depmod wants it there
  const version = readdirSync(`${root}/lib/modules`).find((dir) =>
    existsSync(`${root}/lib/modules/${dir}/kernel`),
  );
  if (version === undefined) throw new Error(`no modules in ${found.packages.join(', ')}`);
  const modules = `${root}/lib/modules/${version}`;
  await output('depmod', ['-b', root, version]);
  const [image, config] = [
    [`${root}/boot/vmlinuz-${version}`, `${modules}/vmlinuz`],
    [`${root}/boot/config-${version}`, `${modules}/config`],
  ].map((paths) => paths.find((path) => existsSync(path)));
  if (image === undefined) throw new Error(`no kernel image in ${found.packages.join(', ')}`);
  writeFileSync(`${made}/vmlinux`, vmlinuxOf(readFileSync(image)));
  writeFileSync(`${made}/initrd`, initrdOf(modules));
  if (config !== undefined) cpSync(config, `${made}/config`);
  for (const left of ['build', 'source', 'vmlinuz']) rmSync(`${modules}/${left}`, { force: true });
  renameSync(modules, `${made}/modules`);
  const note: KernelNote = { format: FORMAT, version, package: name };
  writeFileSync(`${made}/kernel.json`, `${JSON.stringify(note)}\n`);
  return made;
}

/** Puts the newest kernel of a series into the cache. */
async function fetchNewest(label: string, source: KernelSource, say: Say): Promise<void> {
  const work = mkdtempSync(join(cacheFolder(), 'fetching-'));
  try {
    const found = await find(work, source);
    const name = await versionOf(found);
    if (cachedKernel(label)?.package === name) return;
    say(`${label}: fetching ${name} from ${found.suite}`);
    const made = await prepare(work, found, name);
    const folder = join(cacheFolder(), label);
    mkdirSync(folder, { recursive: true });
    const old = readdirSync(folder).filter((dir) => dir !== '.checked');
    const to = join(folder, `${name.replaceAll(/[^\w.+-]/g, '_')}-${Date.now()}`);
    renameSync(made, to);
    // The one before stays: a guest may be running on it.
    const before = cachedBefore(folder, old);
    for (const dir of old) if (dir !== before) rmSync(join(folder, dir), { recursive: true });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function cachedBefore(folder: string, names: readonly string[]): string | undefined {
  const time = (name: string): number => statSync(join(folder, name)).mtimeMs;
  return names.toSorted((a, b) => time(b) - time(a))[0];
}

function checkedToday(label: string): boolean {
  const stamp = join(cacheFolder(), label, '.checked');
  return existsSync(stamp) && Date.now() - statSync(stamp).mtimeMs < DAY_MS;
}

function noteChecked(label: string): void {
  const stamp = join(cacheFolder(), label, '.checked');
  mkdirSync(join(cacheFolder(), label), { recursive: true });
  writeFileSync(stamp, '');
  utimesSync(stamp, new Date(), new Date());
}

/** What a fetch that was killed left. */
function sweep(): void {
  for (const name of readdirSync(cacheFolder()))
    if (name.startsWith('fetching-')) rmSync(join(cacheFolder(), name), { recursive: true });
}

/** The series' kernel, newest as of today. One that is cached is used when there is no newer to be had. */
export async function kernelOf(label: string, say: Say, always = false): Promise<Kernel> {
  if (label === NEWEST) return await newestKernel(say);
  const source = KERNELS.get(label);
  if (source === undefined) throw new Error(`no kernel "${label}"`);
  const ready = cachedKernel(label);
  if (ready !== undefined && !always && checkedToday(label)) return ready;
  const held: Lock = await lock(['fetch'], () => say('waiting for another fetch'));
  try {
    const meanwhile = cachedKernel(label);
    if (meanwhile !== undefined && !always && checkedToday(label)) return meanwhile;
    sweep();
    await fetchNewest(label, source, say);
    noteChecked(label);
  } catch (error) {
    const kernel = cachedKernel(label);
    if (kernel === undefined)
      throw new KernelUnavailable(`kernel ${label} cannot be had: ${(error as Error).message}`, {
        cause: error,
      });
    say(
      `${label}: no newer kernel to be had (${(error as Error).message}); ${kernel.package} is used`,
    );
  } finally {
    held.release();
  }
  const kernel = cachedKernel(label);
  if (kernel === undefined) throw new Error(`kernel ${label}: not in the cache after fetching`);
  return kernel;
}

async function newestKernel(say: Say): Promise<Kernel> {
  for (const label of [...KERNELS.keys()].toReversed()) {
    try {
      return await kernelOf(label, say);
    } catch (error) {
      if (!(error instanceof KernelUnavailable)) throw error;
      say(error.message);
    }
  }
  throw new KernelUnavailable('no kernel can be had');
}
