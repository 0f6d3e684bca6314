// Archives for the kernel's initramfs ("newc" cpio, Documentation/driver-api/early-userspace/buffer-format.rst).
// Several of them one after the other are one initramfs, if each is padded to 4 bytes.

export type Entry =
  | { readonly path: string; readonly folder: true }
  | { readonly path: string; readonly link: string }
  | { readonly path: string; readonly data: Buffer | string; readonly executable?: boolean };

const S_IFDIR = 0o040755;
const S_IFLNK = 0o120777;
const S_IFREG = 0o100644;

export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => {
    if ('folder' in entry) add(parts, index + 1, entry.path, S_IFDIR, Buffer.alloc(0));
    else if ('link' in entry) add(parts, index + 1, entry.path, S_IFLNK, Buffer.from(entry.link));
    else
      add(
        parts,
        index + 1,
        entry.path,
        entry.executable === true ? S_IFREG | 0o111 : S_IFREG,
        Buffer.from(entry.data as string),
      );
  });
  add(parts, 0, 'TRAILER!!!', 0, Buffer.alloc(0));
  return Buffer.concat(parts);
}

function add(parts: Buffer[], inode: number, path: string, mode: number, data: Buffer): void {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const head = Buffer.from(
    `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`,
  );
  parts.push(head, name, padding(head.length + name.length), data, padding(data.length));
}

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
