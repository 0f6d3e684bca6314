/** `zerohop export`: all services, rules and DNS records as the YAML that `apply` takes. */
import type { Command } from 'commander';
import type { ExportAnswer } from '../api/schemas.ts';
import { clientCommand, connect, type ClientOptions } from './options.ts';
import { print, printJson } from './output.ts';

async function exportAll(options: ClientOptions): Promise<void> {
  const agent = await connect(options);
  const answer = await agent.call<ExportAnswer>('GET', '/v1/export');
  if (options.json === true) {
    printJson(answer);
    return;
  }
  const { stringify } = await import('yaml');
  for (const document of answer.documents)
    print(`---\n${stringify(document, { flowCollectionPadding: false })}`);
}

export function registerExport(program: Command): void {
  clientCommand(program.command('export'))
    .description(
      'print all services, rules and DNS records as YAML that apply takes; backends of `zerohop run` are left out',
    )
    .addHelpText('after', '\nExample:\n  zerohop export >services.yaml')
    .action(exportAll);
}
