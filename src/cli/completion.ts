/**
 * `zerohop completion bash`: a script made from the commands as they are. It
 * asks the agent for names of services and rules; everything else it knows by itself.
 */
import { Argument, type Command } from 'commander';
import { print } from './output.ts';

interface Node {
  /** Words so far: `service add`. */
  readonly path: string;
  readonly words: readonly string[];
  readonly takesService: boolean;
  readonly takesRule: boolean;
  /** A path of the key-value store. */
  readonly takesPath: boolean;
  /** Options whose value is a file or directory. */
  readonly fileOptions: readonly string[];
}

function nodesOf(command: Command, path: string): Node[] {
  const visible = command.createHelp().visibleCommands(command);
  const options = command.options.filter((option) => !option.hidden);
  const long = options.flatMap((option) => (option.long === undefined ? [] : [option.long]));
  const files = options.filter((option) => /<(path|file|dir)>/.test(option.flags));
  const first = command.registeredArguments[0]?.name() ?? '';
  const node: Node = {
    path,
    words: [...visible.map((child) => child.name()), ...long, '--help'],
    // The name of something that is added is not there yet.
    takesService: /^service|^name$/.test(first) && !['service add', 'acl add'].includes(path),
    takesRule: first === 'rule',
    takesPath: first === 'path',
    fileOptions: files
      .flatMap((option) => [option.long ?? '', option.short ?? ''])
      .filter((flag) => flag !== ''),
  };
  const children = visible.filter((child) => child.name() !== 'help');
  return [node, ...children.flatMap((child) => nodesOf(child, `${path} ${child.name()}`.trim()))];
}

function bashScript(program: Command): string {
  const nodes = nodesOf(program, '');
  const words = nodes.map((node) => `    '${node.path}') words='${node.words.join(' ')}' ;;`);
  const service = nodes.filter((node) => node.takesService).map((node) => `'${node.path}'`);
  const rule = nodes.filter((node) => node.takesRule).map((node) => `'${node.path}'`);
  const path = nodes.filter((node) => node.takesPath).map((node) => `'${node.path}'`);
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
    --rule) COMPREPLY=($(compgen -W "$(zerohop acl ls --quiet 2>/dev/null)" -- "$cur")); return ;;
    --service) COMPREPLY=($(compgen -W "$(zerohop service ls --quiet 2>/dev/null)" -- "$cur")); return ;;
  esac
  case $path in
${words.join('\n')}
  esac
  if [[ $cur != -* && $positional == 0 ]]; then
    case $path in
      ${service.join(' | ')}) words+=" $(zerohop service ls --quiet 2>/dev/null)" ;;
      ${rule.join(' | ')}) words+=" $(zerohop acl ls --quiet 2>/dev/null)" ;;
      # Other hosts choose these names, and compgen -W would run what is in $( ).
      ${path.join(' | ')}) words+=" $(zerohop kv ls --quiet 2>/dev/null | grep -E '^[A-Za-z0-9._%/:@+=-]+$')" ;;
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
