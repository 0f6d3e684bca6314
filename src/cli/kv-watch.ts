/** `zerohop kv watch`: every change with its old and its new value, whichever host made it. */
import type { Command } from 'commander';
import type { KvChange } from '../state/replica/kv.ts';
import { changeText, formatPath } from '../state/kv-text.ts';
import { pathOf } from './kv-path.ts';
import { clientCommand, connect, option, type ClientOptions } from './options.ts';
import { counted, note, print } from './output.ts';

interface Options extends ClientOptions {
  readonly initial?: true;
}

async function watch(text: string | undefined, options: Options): Promise<void> {
  const path = text === undefined ? undefined : formatPath(pathOf(text));
  const agent = await connect(options);
  await agent.lines('/v1/kv', { path, follow: true, initial: options.initial }, (line) => {
    if (options.json === true) {
      print(line);
      return;
    }
    const value = JSON.parse(line) as KvChange | { readonly dropped: number };
    if ('dropped' in value)
      note(`${counted(value.dropped, 'change')} not shown: more came than could be read`);
    else print(changeText(value));
  });
}

const HELP = `
One line for each value that changed: its type, path, old and new value. With --json one JSON
object a line: {path, type, before, after}, where before or after is absent if there was or is
nothing; {"dropped": N} says how many were lost between its neighbours.

Examples:
  zerohop kv watch
  zerohop kv watch config --initial
  zerohop kv watch config --json | jq -r .after.value`;

export function registerKvWatch(kv: Command): void {
  clientCommand(kv.command('watch'))
    .argument('[path]')
    .description('print changes as they come, until Ctrl-C')
    .addOption(option('--initial', 'first what is there'))
    .addHelpText('after', HELP)
    .action(watch);
}
