/**
 * What maps, programs, links, objects and statistics have in common: one native handle, closed
 * explicitly (`close()`, `using`). One that is collected unclosed is closed then, with a process
 * warning: a last resort against leaks, never a way of working.
 */
import { argumentError } from './errors.ts';
import { native } from './native.ts';
import type { NativeHandle } from './native.ts';

interface Left {
  readonly handle: NativeHandle;
  readonly what: string;
}

const collected = new FinalizationRegistry<Left>(({ handle, what }) => {
  if (!native.isOpen(handle)) return;
  native.close(handle);
  process.emitWarning(`${what} was garbage collected without close()`, {
    type: 'BpfResourceWarning',
    code: 'BPF_NOT_CLOSED',
  });
});

let read: (value: unknown, operation: string) => NativeHandle;

export class Resource implements Disposable {
  readonly #handle: NativeHandle;

  static {
    read = (value, operation) => {
      if (typeof value !== 'object' || value === null || !(#handle in value)) {
        throw argumentError(
          operation,
          'a map, program, link or object of this library is expected',
        );
      }
      return value.#handle;
    };
  }

  constructor(handle: NativeHandle, what: string) {
    native.isOpen(handle); // throws for anything else
    this.#handle = handle;
    collected.register(this, { handle, what }, this);
  }

  get closed(): boolean {
    return !native.isOpen(this.#handle);
  }

  /** Closing twice is fine. What is pinned or attached elsewhere stays. */
  close(): void {
    native.close(this.#handle);
    collected.unregister(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The native handle behind a resource; ERR_BPF_ARGUMENT for anything else. */
export function handleOf(value: unknown, operation: string): NativeHandle {
  return read(value, operation);
}

/** Another resource owns the handle from now on. */
export function release(resource: Resource): void {
  collected.unregister(resource);
}
