/**
 * What a host's kernel would know: for each service its frontends with the endpoints that take new
 * connections. As pinned BPF maps do, it outlives the agent; a new one puts it right.
 */
import type { Catalog, CatalogService } from '../../../src/catalog/catalog.ts';
import { frontendsOf, type Target } from '../../../src/datapath/desired.ts';

const hex = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('hex');

function isUsable({ state, weight }: Target): boolean {
  return state === 'active' && weight > 0;
}

/** One line for each frontend: its key, then its usable endpoints, each with its weight. */
export function frontendText(service: CatalogService | undefined): string {
  return frontendsOf(service)
    .map(({ key, targets }) => {
      const usable = targets.filter(isUsable);
      const texts = usable.map(({ address, port, weight }) => `${hex(address)}:${port}*${weight}`);
      return `${hex(key)} ${texts.toSorted().join(' ')}`;
    })
    .toSorted()
    .join('\n');
}

export class FakeMap {
  readonly services = new Map<string, string>();
  /** Told of each service whose frontends are others than before. */
  onWrite: ((service: string, text: string) => void) | undefined;

  /** These services, as the catalog has them. */
  write(catalog: Catalog, names: Iterable<string>): void {
    for (const name of names) {
      const text = frontendText(catalog.services.get(name));
      if ((this.services.get(name) ?? '') === text) continue;
      if (text === '') this.services.delete(name);
      else this.services.set(name, text);
      this.onWrite?.(name, text);
    }
  }

  /** Everything, at a start. */
  reconcile(catalog: Catalog): void {
    this.write(catalog, new Set([...this.services.keys(), ...catalog.services.keys()]));
  }

  /** Equal where the maps are. */
  text(): string {
    const lines = [...this.services].map(([name, text]) => `${name}\n${text}`);
    return lines.toSorted().join('\n');
  }
}
