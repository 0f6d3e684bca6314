/**
 * node:http without its facade for `import`, which reads every export once: the ones of WebSocket load
 * undici then, 40 ms of CPU at each start of the agent and of each command.
 */
type Http = typeof import('node:http');

export function http(): Http {
  return process.getBuiltinModule('node:http');
}
