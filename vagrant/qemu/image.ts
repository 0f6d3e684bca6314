// From a Debian kernel to what QEMU boots: the uncompressed vmlinux, and an initramfs with busybox and the few modules
// needed to reach the root file system. Knows no packages and starts no guest.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { cpio, type Entry } from './cpio.ts';

const BUSYBOX = '/bin/busybox';
const APPLETS = 'sh mount umount insmod mkdir chmod cp mv switch_root echo sleep cat reboot';
/** To reach the root file system and the ports. */
const BOOT_MODULES = ['virtio_pci', 'virtio_console', 'virtiofs', 'overlay'];
const FOLDERS = ['bin', 'dev', 'proc', 'sys', 'm', 'l', 't', 'n', 'vm'];

function filter(command: string, args: readonly string[], input: Buffer): Buffer {
  return execFileSync(command, args, {
    input,
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}

/** The payload of a bzImage, by its setup header (Documentation/arch/x86/boot.rst). */
export function vmlinuxOf(image: Buffer): Buffer {
  if (image.subarray(0, 4).toString('latin1') === '\x7fELF') return image;
  if (image.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new Error('the kernel is no bzImage');
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  // The last 4 bytes are the unpacked size, which no tool knows about.
  const packed = image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
  const size = image.readUInt32LE(start + packed.length);
  const vmlinux = unpacked(packed);
  if (vmlinux.length < size || vmlinux.toString('latin1', 1, 4) !== 'ELF')
    throw new Error(`the kernel's payload unpacked to ${vmlinux.length} bytes instead of ${size}`);
  return vmlinux;
}

function unpacked(data: Buffer): Buffer {
  switch (data.toString('hex', 0, 2)) {
    case '1f8b':
      return gunzipSync(data);
    case '28b5':
      return zstdDecompressSync(data);
    case 'fd37':
      return filter('xz', ['-dc', '--single-stream'], data);
    case '0221':
      return filter('lz4', ['-dc'], data);
    default:
      throw new Error(`a kernel packed with something unknown (${data.toString('hex', 0, 6)})`);
  }
}

const moduleName = (path: string): string =>
  basename(path)
    .replace(/\.ko.*$/, '')
    .replaceAll('-', '_');

/** Files of the modules with all that they need, in the order they have to be loaded in. */
function moduleFiles(folder: string, wanted: readonly string[]): string[] {
  const lines = (name: string): string[] =>
    existsSync(`${folder}/${name}`)
      ? readFileSync(`${folder}/${name}`, 'utf8').split('\n').filter(Boolean)
      : [];
  const builtIn = new Set(lines('modules.builtin').map(moduleName));
  const files = new Map<string, readonly [file: string, needs: readonly string[]]>();
  for (const line of lines('modules.dep')) {
    const [file = '', needs = ''] = line.split(':');
    files.set(moduleName(file), [file, needs.split(' ').filter(Boolean)]);
  }
  const order: string[] = [];
  const add = (name: string): void => {
    const found = files.get(name);
    if (found === undefined) {
      if (builtIn.has(name)) return;
      throw new Error(`the kernel has no module ${name}`);
    }
    for (const need of found[1].toReversed()) add(moduleName(need));
    if (!order.includes(found[0])) order.push(found[0]);
  };
  for (const name of wanted) add(name);
  return order;
}

function moduleData(path: string): Buffer {
  const data = readFileSync(path);
  if (path.endsWith('.xz')) return filter('xz', ['-dc'], data);
  return path.endsWith('.zst') ? zstdDecompressSync(data) : data;
}

export function initrdOf(modules: string): Buffer {
  const entries: Entry[] = FOLDERS.map((path) => ({ path, folder: true }));
  entries.push({ path: 'bin/busybox', data: readFileSync(BUSYBOX), executable: true });
  for (const applet of APPLETS.split(' ')) entries.push({ path: `bin/${applet}`, link: 'busybox' });
  const files = moduleFiles(modules, BOOT_MODULES);
  const names = files.map((file, index) => `m/${index}-${moduleName(file)}.ko`);
  files.forEach((file, index) =>
    entries.push({ path: names[index] ?? '', data: moduleData(`${modules}/${file}`) }),
  );
  entries.push({ path: 'm/order', data: names.map((name) => `/${name}\n`).join('') });
  return cpio(entries);
}
