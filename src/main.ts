#!/usr/bin/env node
/**
 * The door: the command line, and with `zerohop agent` the agent.
 */
import { runCli } from './cli/program.ts';

process.exitCode = await runCli(process.argv);
