/**
 * `zerohop completion bash`: a script made from the commands as they are. It
 * asks the agent for names (NAMES); everything else it knows by itself.
 */
import { Argument, type Command } from 'commander';
import { print } from './output.ts';

/** What prints the names, by what an argument is called. */
const NAMES = {
  service: 'service ls',
  rule: 'acl ls',
  node: 'members',
  token: 'cluster tokens',
  path: 'kv ls',
  known: 'dns zone',
  record: 'dns record ls',
} as const;

/** The name of something that is added is not there yet. */
const ADDING: readonly string[] = ['service add', 'acl add', 'dns record add'];

/** Of these `name` is no service's. */
const OF_DNS: Readonly<Record<string, keyof typeof NAMES>> = {
  'dns zone': 'known',
  'dns query': 'known',
  'dns record rm': 'record',
};

function takenBy(argument: string, path: string): keyof typeof NAMES | undefined {
  const of = OF_DNS[path] ?? (path.startsWith('dns ') ? undefined : 'service');
  const what = argument === 'name' && !ADDING.includes(path) ? of : argument;
  return what !== undefined && Object.hasOwn(NAMES, what)
    ? (what as keyof typeof NAMES)
    : undefined;
}

interface Node {
  /** Words so far: `service add`. */
  readonly path: string;
  readonly words: readonly string[];
  /** What its first argument names; undefined if nothing that the agent knows. */
  readonly takes: keyof typeof NAMES | undefined;
  /** Options whose value is a file or directory. */
  readonly fileOptions: readonly string[];
}

function nodesOf(command: Command, path: string): Node[] {
  const visible = command.createHelp().visibleCommands(command);
  const options = command.options.filter((option) => !option.hidden);
  const long = options.flatMap((option) => (option.long === undefined ? [] : [option.long]));
  const files = options.filter((option) => /<(path|file|dir)>/.test(option.flags));
  const node: Node = {
    path,
    words: [...visible.map((child) => child.name()), ...long, '--help'],
    takes: takenBy(command.registeredArguments[0]?.name() ?? '', path),
    fileOptions: files
      .flatMap((option) => [option.long ?? '', option.short ?? ''])
      .filter((flag) => flag !== ''),
  };
  const children = visible.filter((child) => child.name() !== 'help');
  return [node, ...children.flatMap((child) => nodesOf(child, `${path} ${child.name()}`.trim()))];
}

/** Its output, in the script. Other hosts choose some of these names, and `compgen -W` would run what is in $( ). */
function ask(command: string): string {
  return `$(zerohop ${command} --quiet 2>/dev/null | grep -E '^[A-Za-z0-9._%/:@+=-]+$')`;
}

function bashScript(program: Command): string {
  const nodes = nodesOf(program, '');
  const words = nodes.map((node) => `    '${node.path}') words='${node.words.join(' ')}' ;;`);
  const names = Object.entries(NAMES).map(([what, command]) => {
    const paths = nodes.filter((node) => node.takes === what).map((node) => `'${node.path}'`);
    return `      ${paths.join(' | ')}) words+=" ${ask(command)}" ;;`;
  });
  const files = [...new Set(nodes.flatMap((node) => node.fileOptions))];
  const paths = nodes.filter((node) => node.path !== '').map((node) => `'${node.path}'`);
  return `# bash completion for zerohop; use it with: source <(zerohop completion bash)
_zerohop() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path='' words='' word i positional=0
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == -- ]]; then COMPREPLY=($(compgen -c -- "$cur")); return; fi
    if [[ $word == -* ]]; then continue; fi
    case "\${path:+$path }$word" in
      ${paths.join(' | ')}) path="\${path:+$path }$word" ;;
      *) if [[ \${COMP_WORDS[i - 1]} != -* ]]; then ((positional++)); fi ;;
    esac
  done
  case $prev in
    ${files.join(' | ')}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --rule) COMPREPLY=($(compgen -W "${ask(NAMES.rule)}" -- "$cur")); return ;;
    --service) COMPREPLY=($(compgen -W "${ask(NAMES.service)}" -- "$cur")); return ;;
  esac
  case $path in
${words.join('\n')}
  esac
  if [[ $cur != -* && $positional == 0 ]]; then
    case $path in
${names.join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o filenames -F _zerohop zerohop`;
}

export function registerCompletion(program: Command): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>').choices(['bash']))
    .description('print a completion script for the shell')
    .addHelpText('after', '\nExample:\n  source <(zerohop completion bash)')
    .action(() => print(bashScript(program)));
}
