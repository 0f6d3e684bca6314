/**
 * Reads the configuration file and the documents of services.d.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ProblemError, type Problem } from '../../state/problem.ts';
import { parseDocuments, type Document } from '../../state/documents.ts';
import { parse } from '../../state/validate.ts';
import { configSchema, type Config, type ConfigInput } from '../schema.ts';
import { locateProblems, parseServices, parseYaml } from '../yaml.ts';

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function readText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const problem: Problem = {
      code: 'invalid',
      message: `${what} ${path} cannot be read: ${reason}`,
      path,
    };
    throw new ProblemError([problem], { cause: error });
  }
}

export interface ConfigSource {
  /** The file to read. */
  readonly path: string;
  /** Whether someone named the file, so that it must exist. */
  readonly required: boolean;
  /** Options and environment variables, which win; undefined ones do not count. */
  readonly overrides: Given<Omit<ConfigInput, 'cluster' | 'dns'>> & {
    readonly cluster?: Given<NonNullable<ConfigInput['cluster']>>;
    readonly dns?: Given<NonNullable<ConfigInput['dns']>>;
  };
}

type Given<Knobs> = { readonly [Knob in keyof Knobs]?: Knobs[Knob] | undefined };

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value with what was given laid over it; `given` collects the paths. */
function overlaid(value: object, overrides: object, given: Set<string>, path = ''): object {
  const result: Record<string, unknown> = { ...value };
  for (const [key, option] of Object.entries(overrides)) {
    const below = result[key] ?? {};
    if (isMap(option)) {
      // What is no map in the file is a mistake there, to be told.
      if (isMap(below)) result[key] = overlaid(below, option, given, `${path}${key}.`);
    } else if (option !== undefined) {
      result[key] = option;
      given.add(`${path}${key}`);
    }
  }
  return result;
}

/** The configuration, complete with defaults, or ProblemError with file, line and column. */
export function loadConfig(source: ConfigSource): Config {
  const { value, locate } = readConfigFile(source);
  const fromOptions = new Set<string>();
  const result = parse(configSchema, overlaid(value, source.overrides, fromOptions));
  if (!result.ok) {
    throw new ProblemError(
      result.problems.map((problem) =>
        problem.path === undefined || fromOptions.has(problem.path)
          ? problem
          : { ...problem, path: locate(problem.path) },
      ),
    );
  }
  const servicesDir = result.value.servicesDir ?? join(dirname(source.path), 'services.d');
  return { ...result.value, servicesDir };
}

function readConfigFile(source: ConfigSource): { value: object; locate: (path: string) => string } {
  let text: string;
  try {
    text = readText(source.path, 'configuration');
  } catch (error) {
    const absent = error instanceof ProblemError && codeOf(error.cause) === 'ENOENT';
    if (absent && !source.required) return { value: {}, locate: (path) => path };
    throw error;
  }
  const file = parseYaml(text, source.path);
  if (file.problems.length > 0) throw new ProblemError(file.problems);
  const [value = {}, second] = file.values;
  if (second !== undefined) {
    throw new ProblemError([
      {
        code: 'invalid',
        message: 'a configuration is one YAML document',
        path: file.locate(1, ''),
      },
    ]);
  }
  if (!isMap(value)) {
    throw new ProblemError([
      { code: 'invalid', message: 'a configuration is a map of knobs', path: file.locate(0, '') },
    ]);
  }
  return { value, locate: (path) => `${file.locate(0, path)} (${path})` };
}

export interface ServiceFile {
  readonly path: string;
  readonly documents: readonly Document[];
  /** Tells problems of `documents[i]` by file, line and column. */
  locate(problems: readonly Problem[]): readonly Problem[];
}

/** The documents of one YAML file, or ProblemError with file, line and column. */
export function readDocuments(text: string, path: string): ServiceFile {
  const file = parseServices(text, path);
  if (file.problems.length > 0) throw new ProblemError(file.problems);
  const parsed = parseDocuments(file.values);
  if (!parsed.ok) throw new ProblemError(locateProblems(file, parsed.problems));
  return { path, documents: parsed.value, locate: (problems) => locateProblems(file, problems) };
}

/**
 * The files `*.yaml` and `*.yml` of services.d in the order of their names; none if there is
 * no such directory. One bad file spoils none of the others: its problems come beside.
 */
export function loadServicesDir(directory: string): {
  readonly files: readonly ServiceFile[];
  readonly problems: readonly Problem[];
} {
  let names: string[];
  try {
    names = readdirSync(directory)
      .filter((name) => /^[^.].*\.ya?ml$/.test(name))
      .toSorted();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { files: [], problems: [] };
    const reason = error instanceof Error ? error.message : String(error);
    return {
      files: [],
      problems: [
        { code: 'invalid', message: `${directory} cannot be read: ${reason}`, path: directory },
      ],
    };
  }
  const files: ServiceFile[] = [];
  const problems: Problem[] = [];
  for (const name of names) {
    const path = join(directory, name);
    try {
      files.push(readDocuments(readText(path, 'file'), path));
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      problems.push(...error.problems);
    }
  }
  return { files, problems };
}
