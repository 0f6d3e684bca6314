/**
 * Users and groups to numbers and back, through the host's own name service
 * (nsswitch.conf: files, sssd, LDAP) with getent(1), since Node has none. Only
 * answers that are cached here are ever used in the middle of something.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';

export type IdentityKind = 'user' | 'group';
type Ids = ReadonlyMap<string, number>;

/** Longer than a directory server on another continent takes; a guess. */
const LOOKUP_TIMEOUT_MS = 5000;

/** Names in one call; far below the limit on arguments. A guess. */
const NAMES_PER_CALL = 200;

/** Numbers whose names are remembered for the log. A guess. */
const NAMES_MAX = 4096;

const sources = {
  user: { database: 'passwd', file: '/etc/passwd' },
  group: { database: 'group', file: '/etc/group' },
} as const;

/** Lines of passwd(5) and group(5): both begin `name:password:number:`. */
export function parseDatabase(text: string): Map<string, number> {
  const ids = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name = '', , digits = ''] = line.split(':');
    // The first entry of a name counts, as for the C library.
    if (name !== '' && /^[0-9]+$/.test(digits) && !ids.has(name)) ids.set(name, Number(digits));
  }
  return ids;
}

function readDatabase(kind: IdentityKind): Map<string, number> {
  try {
    return parseDatabase(readFileSync(sources[kind].file, 'utf8'));
  } catch {
    return new Map();
  }
}

/** What getent says; undefined when it gives no answer at all (a server that is down). */
function getent(kind: IdentityKind, keys: readonly string[]): Promise<Ids | undefined> {
  const args = [sources[kind].database, '--', ...keys];
  return new Promise((resolve) => {
    execFile('getent', args, { timeout: LOOKUP_TIMEOUT_MS }, (error, stdout) => {
      // 2: some of them are not there.
      if (error === null || error.code === 2) resolve(parseDatabase(stdout));
      else resolve(error.code === 'ENOENT' ? readDatabase(kind) : undefined);
    });
  });
}

/** Where nobody answers, what was so `before` still counts. */
async function lookUp(kind: IdentityKind, names: readonly string[], before: Ids): Promise<Ids> {
  const found = new Map<string, number>();
  for (let at = 0; at < names.length; at += NAMES_PER_CALL) {
    const some = names.slice(at, at + NAMES_PER_CALL);
    const answers = (await getent(kind, some)) ?? new Map([...before, ...readDatabase(kind)]);
    for (const name of some) {
      const id = answers.get(name);
      if (id !== undefined) found.set(name, id);
    }
  }
  return found;
}

export interface WantedNames {
  readonly users: Iterable<string>;
  readonly groups: Iterable<string>;
}

export class Identities {
  #ids: Readonly<Record<IdentityKind, Ids>> = {
    user: new Map(),
    group: new Map(),
  };
  readonly #names = { user: new Map<number, string>(), group: new Map<number, string>() };
  readonly #asked = new Set<string>();

  /** Those that there are, of the names asked for last. */
  all(kind: IdentityKind): Ids {
    return this.#ids[kind];
  }

  /** Looks up exactly these names, all anew unless `onlyNew`; whether any answer differs from before. */
  async refresh(wanted: WantedNames, onlyNew = false): Promise<boolean> {
    const users = await this.#look('user', wanted.users, onlyNew);
    const groups = await this.#look('group', wanted.groups, onlyNew);
    const changed = users.changed || groups.changed;
    this.#ids = { user: users.ids, group: groups.ids };
    return changed;
  }

  /** One name, now. */
  async lookUp(kind: IdentityKind, name: string): Promise<number | undefined> {
    return (await lookUp(kind, [name], this.#ids[kind])).get(name);
  }

  /** For the log: the name if it is known by now, else undefined, and it is asked for. */
  nameOf(kind: IdentityKind, id: number): string | undefined {
    const known = this.#names[kind].get(id);
    if (known !== undefined) return known === '' ? undefined : known;
    const key = `${kind} ${id}`;
    if (this.#asked.has(key) || this.#names[kind].size >= NAMES_MAX) return undefined;
    this.#asked.add(key);
    for (const [name, local] of readDatabase(kind)) {
      if (local === id) return this.#remember(kind, id, name);
    }
    void this.#askName(kind, id);
    return undefined;
  }

  async #askName(kind: IdentityKind, id: number): Promise<void> {
    const [entry] = (await getent(kind, [String(id)])) ?? [];
    this.#remember(kind, id, entry?.[0] ?? '');
  }

  #remember(kind: IdentityKind, id: number, name: string): string {
    this.#names[kind].set(id, name);
    this.#asked.delete(`${kind} ${id}`);
    return name;
  }

  async #look(
    kind: IdentityKind,
    wanted: Iterable<string>,
    onlyNew: boolean,
  ): Promise<{ ids: Ids; changed: boolean }> {
    const before = this.#ids[kind];
    const names = [...new Set(wanted)];
    const asked = names.filter((name) => !onlyNew || !before.has(name));
    const answers = await lookUp(kind, asked, before);
    const ids = new Map<string, number>();
    let changed = false;
    for (const name of names) {
      const id = asked.includes(name) ? answers.get(name) : before.get(name);
      if (id !== undefined) ids.set(name, id);
      changed ||= id !== before.get(name);
    }
    return { ids, changed };
  }
}
