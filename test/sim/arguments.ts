// What the commands of the simulator do with their arguments: --help, whole numbers, and, for what is wrong, one line
// and the usage, or only the line where the usage would not help. Never a stack for a wrong argument.
import { parseArgs } from 'node:util';
import type { ParseArgsOptionsConfig } from 'node:util';

const HELP = { help: { type: 'boolean', short: 'h', default: false } } as const;

type Values<T extends ParseArgsOptionsConfig> = ReturnType<
  typeof parseArgs<{ options: T }>
>['values'];

export interface Command<T extends ParseArgsOptionsConfig> {
  readonly name: string;
  readonly usage: string;
  readonly options: T;
  /** Gives back the exit code. */
  run(values: Values<T>): number;
}

/** An argument that was understood, and asks for what is not there. */
export class ArgumentError extends Error {}

export function runCommand<T extends ParseArgsOptionsConfig>(command: Command<T>): number {
  const { name, usage, options } = command;
  let values: Values<T>;
  try {
    const all: Readonly<Record<string, unknown>> = parseArgs({
      options: { ...options, ...HELP },
    }).values;
    if (all['help'] === true) {
      console.log(usage);
      return 0;
    }
    values = parseArgs({ options }).values;
  } catch (error) {
    console.error(`${name}: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  try {
    return command.run(values);
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    console.error(`${name}: ${error.message}`);
    return 2;
  }
}

export function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new ArgumentError(`--${option} takes a whole number, not ${text}`);
  }
  return Number(text);
}

/** The one of this name. */
export function oneOf<T extends { readonly name: string }>(
  what: string,
  all: readonly T[],
  name: string,
): T {
  const found = all.find((one) => one.name === name);
  if (found !== undefined) return found;
  throw new ArgumentError(`no ${what} ${name}; there are ${all.map((one) => one.name).join(', ')}`);
}
