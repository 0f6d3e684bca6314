#!/usr/bin/env node
/**
 * The door: the command line, and with `zerohop agent` the agent.
 */

/** As `engines` in package.json, which npm only warns of. */
const NODE_MAJOR_MIN = 24;

if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
  process.stderr.write(
    `zerohop: this is Node ${process.versions.node} (${process.execPath}); zerohop needs ${NODE_MAJOR_MIN} or later\n  put a newer node first on the PATH; README.md says how to install one beside it\n`,
  );
  process.exitCode = 1;
} else {
  const { runCli } = await import('./cli/program.ts');
  process.exitCode = await runCli(process.argv);
}
