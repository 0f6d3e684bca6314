/**
 * YAML text to plain values, with the way back: from the path of a problem
 * (`documents[1].ports[0].port`) to file, line and column.
 */
import {
  isMap,
  isNode,
  isPair,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type Document,
  type Node,
} from 'yaml';
import type { Problem } from '../state/problem.ts';

export interface YamlFile {
  /** One value per document; empty documents are left out. */
  readonly values: readonly unknown[];
  /** Syntax errors; `values` is empty if there is any. */
  readonly problems: readonly Problem[];
  /** `web.yaml:7:3` of what a path in document `index` names, or of the nearest thing around it. */
  locate(index: number, path: string): string;
}

/** `ports[0].port` → ports, 0, port. */
export function splitPath(path: string): readonly (string | number)[] {
  return [...path.matchAll(/\[([0-9]+)\]|[^.[\]]+/g)].map((m) =>
    m[1] === undefined ? m[0] : Number(m[1]),
  );
}

/** Where the deepest existing step of `path` starts; the key of a pair, not its value, unless it is a scalar. */
function offsetOf(document: Document.Parsed, path: readonly (string | number)[]): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? document.range[0];
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isNode(item.key) && String(item.key) === String(step));
      if (!isPair(pair)) break;
      offset = startOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = startOf(node) ?? offset;
    } else {
      break;
    }
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node as Node).range?.[0] : undefined;
}

/** An alias may stand for a hundred others: more is an attack or an accident ("billion laughs"). */
const ALIASES_MAX = 100;

export function parseYaml(text: string, fileName: string): YamlFile {
  const lines = new LineCounter();
  const position = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${fileName}:${line}:${col}`;
  };
  const parsed = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
  });
  const documents = [...parsed].filter(
    (document) => document.contents !== null || document.errors.length > 0,
  );
  const problems: Problem[] = [];
  const values: unknown[] = [];
  for (const document of documents) {
    for (const error of document.errors) {
      problems.push({
        code: 'invalid',
        message: `YAML: ${error.message}`,
        path: position(error.pos[0]),
      });
    }
    if (document.errors.length > 0) continue;
    try {
      values.push(document.toJS({ maxAliasCount: ALIASES_MAX }));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      problems.push({
        code: 'invalid',
        message: `YAML: ${message}`,
        path: position(document.range[0]),
      });
    }
  }
  return {
    values: problems.length > 0 ? [] : values,
    problems,
    locate: (index, path) => {
      const document = documents[index];
      return document === undefined ? fileName : position(offsetOf(document, splitPath(path)));
    },
  };
}

/** Problems whose paths start with `documents[i]`, told by file, line and column instead. */
export function locateProblems<Told extends { readonly path?: string | undefined }>(
  file: YamlFile,
  problems: readonly Told[],
): readonly Told[] {
  return problems.map((problem) => {
    const match = /^documents\[([0-9]+)\]\.?(.*)$/.exec(problem.path ?? '');
    if (match === null) return problem;
    const field = match[2] ?? '';
    const where = file.locate(Number(match[1]), field);
    return { ...problem, path: field === '' ? where : `${where} (${field})` };
  });
}

/** What `zerohop export --json` prints: {documents: […]}, read much faster than as YAML. */
function parseExport(text: string, fileName: string): YamlFile | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // YAML then, or YAML's complaint with its line
  }
  const { documents } = value as { documents?: unknown };
  if (!Array.isArray(documents)) return undefined;
  // JSON is YAML: the line is looked for only when something is wrong.
  const locate = (index: number, path: string): string =>
    parseYaml(text, fileName).locate(0, `documents[${index}].${path}`);
  return { values: documents, problems: [], locate };
}

/** Services and backends as people and `zerohop export` write them: YAML documents, or its JSON. */
export function parseServices(text: string, fileName: string): YamlFile {
  return parseExport(text, fileName) ?? parseYaml(text, fileName);
}
