/** A resource that can be given a name in a BPF file system (`mount -t bpf`). */
import { native } from './native.ts';
import { handleOf, Resource } from './resource.ts';

export class Pinnable extends Resource {
  /** Makes it outlive this process, until the file is removed (ordinary unlink). */
  pin(path: string): void {
    native.pin(handleOf(this, 'pin'), path);
  }

  /** Removes the pin, if it is a pin of this very object; ERR_BPF_ARGUMENT otherwise. */
  unpin(path: string): void {
    native.unpin(handleOf(this, 'unpin'), path);
  }
}
