// What scripts/demo shows: one host, one service, from the first request to the agent's death and return. Every
// result is checked; one that is not as told ends the demo with exit code 1.
import { setTimeout as pause } from 'node:timers/promises';
import type { Child } from '../test/harness/child.ts';
import { TestHost } from '../test/harness/host.ts';
import { type KernelState, leftovers, say, Stage, WrongResult } from './demo-stage.ts';

const REQUESTS = 100;
/** Of 100 fair draws, fewer than this come out once in a billion runs. */
const REQUESTS_MIN = 20;
const TABLES = 'zh_vips zh_services zh_slots zh_backends zh_names zh_meta';
const HASH_TABLES = `for map in ${TABLES}; do zerohop maps dump $map --raw; done | sha256sum`;

function introduce(host: TestHost): void {
  say(`
zerohop: a service has a virtual IP (VIP). A BPF program in the kernel swaps it for the
address of a server inside connect(), once. No packet passes through anything of zerohop.

All of this happens on a throw-away host:
  ${`network namespace ${host.name}`.padEnd(44)} with nothing but a loopback
  ${`cgroup ${host.cgroup}`.padEnd(44)} only programs in it see the VIPs
  ${`folder ${host.dir}`.padEnd(44)} state, socket, pins of its agent
(ZEROHOP_CGROUP, ZEROHOP_DATA, ZEROHOP_SOCKET and ZEROHOP_PIN tell zerohop of them.)`);
}

async function startAgent(stage: Stage): Promise<void> {
  stage.step('The agent starts', 'It loads its BPF programs and attaches them to the cgroup.');
  stage.show('zerohop agent &');
  await stage.host.agent.start().catch((error: unknown) => {
    throw new WrongResult(
      `${error instanceof Error ? error.message.trim() : String(error)}
Where BPF is forbidden the demo cannot be: run it on another machine, or in a VM.`,
      { cause: error },
    );
  });
  const { stdout } = await stage.run('zerohop status');
  const [, attached, all] = /(\d+) of (\d+) hooks effective/.exec(stdout) ?? [];
  stage.shows(
    `${all} programs wait at the points where an address enters or leaves the kernel`,
    attached !== undefined && attached === all && attached !== '0',
    'zerohop status does not say that all hooks are effective',
  );
}

function vipIn(text: string): string {
  const vip = /reachable at (\d+\.\d+\.\d+\.\d+)/.exec(text)?.[1];
  if (vip === undefined) throw new WrongResult('zerohop named no IPv4 VIP');
  return vip;
}

async function addWeb(stage: Stage): Promise<string> {
  stage.step('A service and its two servers', 'Two HTTP servers, each answers its own name.');
  await stage.server('python3 web.py blue 8001', '-t sport = :8001');
  await stage.server('python3 web.py green 8002', '-t sport = :8002');
  const { stdout } = await stage.run('zerohop service add web --port 80');
  await stage.run('zerohop backend add web 127.0.0.1:8001');
  await stage.run('zerohop backend add web 127.0.0.1:8002');
  const vip = vipIn(stdout);
  const { stdout: routes } = await stage.host.exec(['ip', '-br', 'address']);
  stage.shows(
    `"web" is ${vip}:80 now; no interface has that address, and nobody listens there`,
    !routes.includes(vip),
    `an interface has ${vip}`,
  );
  return vip;
}

/** How often each server answered, from what get.py printed. */
function answersIn(text: string): Map<string, number> {
  return new Map(
    [...text.matchAll(/^(\w+) +(\d+) answers$/gm)].map(([, name = '', times]) => [
      name,
      Number(times),
    ]),
  );
}

async function spread(stage: Stage, vip: string): Promise<void> {
  stage.step('Requests', `${REQUESTS} requests to the VIP, each on a connection of its own.`);
  const { stdout } = await stage.run(`python3 get.py http://${vip}/ ${REQUESTS}`);
  const answers = answersIn(stdout);
  const [blue = 0, green = 0] = [answers.get('blue'), answers.get('green')];
  stage.shows(
    'every connect() drew a server at random: both have their share, none failed',
    blue >= REQUESTS_MIN && green >= REQUESTS_MIN && blue + green === REQUESTS,
    `blue answered ${blue} times, green ${green} times`,
  );
}

/** A field of what peer.py printed last. */
function lastOf(text: string, field: string): string | undefined {
  return text
    .trimEnd()
    .split('\n')
    .filter((line) => line.startsWith(field))
    .at(-1)
    ?.slice(field.length)
    .trim();
}

async function connection(stage: Stage, vip: string): Promise<Child> {
  stage.step(
    'What the client sees, and what there is',
    'A client opens a connection and keeps it. ss asks the kernel for its TCP connections.',
  );
  const command = `python3 peer.py ${vip} 80`;
  stage.show(`${command} &`);
  const client = stage.background(command);
  await client.says(/^the server.*\n/m);
  stage.output(client.stdout);
  const ss = await stage.run("ss -Htn state established '( dport = :8001 or dport = :8002 )'");
  const peer = lastOf(client.stdout, 'getpeername()');
  const local = lastOf(client.stdout, 'getsockname()') ?? '?';
  const server = lastOf(client.stdout, 'the server') ?? '';
  stage.shows(
    `getpeername() answers the VIP that the program asked for`,
    peer === `${vip}:80`,
    `it answered ${peer}`,
  );
  const port = server.startsWith('blue') ? 8001 : 8002;
  const direct = ss.stdout.includes(local) && ss.stdout.includes(`127.0.0.1:${port}`);
  stage.shows(
    'the connection itself leads straight to the server, which sees the client: no proxy, no NAT',
    direct && server.endsWith(local),
    `the client is ${local}, the server (port ${port}) says ${server}`,
  );
  return client;
}

async function explain(stage: Stage, vip: string): Promise<void> {
  stage.step('Why', 'The BPF maps as they are in the kernel, decoded.');
  const { stdout } = await stage.run('zerohop maps dump');
  const has = (port: number): boolean =>
    new RegExp(`127\\.0\\.0\\.1:${port} +1 +50\\.0 % +active +[1-9]`).test(stdout);
  stage.shows(
    'one VIP, two servers, half of the new connections each; PICKED counts them',
    stdout.includes(`${vip}:80/tcp`) && has(8001) && has(8002),
    'the maps do not show both servers with 50 %',
  );
}

async function udp(stage: Stage): Promise<void> {
  stage.step('UDP', 'One datagram on a socket that was never connected.');
  await stage.server('python3 clock.py 8003', '-u sport = :8003');
  const { stdout } = await stage.run('zerohop service add clock --port 123/udp');
  await stage.run('zerohop backend add clock 127.0.0.1:8003');
  const vip = vipIn(stdout);
  const answer = await stage.run(`python3 ask.py ${vip} 123`);
  stage.shows(
    'the answer comes from the VIP, as a program that checks its sender wants it',
    answer.stdout.includes(` from ${vip}:123`),
    answer.stdout,
  );
}

async function onlyGreen(stage: Stage, vip: string): Promise<void> {
  const { stdout } = await stage.run(`python3 get.py http://${vip}/ ${REQUESTS}`);
  const answers = answersIn(stdout);
  stage.shows(
    `all ${REQUESTS} requests were answered`,
    answers.size === 1 && answers.get('green') === REQUESTS,
    JSON.stringify(Object.fromEntries(answers)),
  );
}

async function removeBackend(stage: Stage, vip: string): Promise<void> {
  stage.step('A server is taken out', 'When the command returns, no connect() draws it any more.');
  await stage.run('zerohop backend rm web 127.0.0.1:8001');
  await onlyGreen(stage, vip);
}

const asNobody = (url: string): string => `runuser -u nobody -- python3 - ${url} 1 <get.py`;

/** The kernel refuses the user nobody: EPERM, by connect() itself. */
async function nobodyIsDenied(stage: Stage, url: string): Promise<void> {
  const { stdout } = await stage.run(asNobody(url), 1);
  stage.shows(
    'connect() failed with EPERM: nothing was sent',
    stdout.includes('Operation not permitted'),
    stdout,
  );
}

async function accessControl(stage: Stage, vip: string): Promise<void> {
  stage.step(
    'Who may talk to whom',
    'Once a rule allows somebody, only those allowed get in; by the VIP or past it.',
  );
  await stage.run(asNobody(`http://${vip}/`));
  await stage.run('zerohop acl add only-root --to web --from user:root');
  await nobodyIsDenied(stage, `http://${vip}/`);
  await nobodyIsDenied(stage, 'http://127.0.0.1:8002/');
  await stage.run(`python3 get.py http://${vip}/ 1`);
  const { stdout } = await stage.run('zerohop acl log');
  stage.shows(
    'the log names the rule, the program and the service',
    stdout.split('\n').filter((line) => line.includes('only-root')).length === 2,
    'there are not two denials of the rule only-root in it',
  );
  const { stdout: status } = await stage.run('zerohop status | grep -i enforce');
  stage.shows('zerohop status says by what it is enforced here', status !== '', 'it does not');
}

interface Before {
  readonly kernel: KernelState;
  readonly tables: string;
}

async function killAgent(stage: Stage, vip: string): Promise<Before> {
  stage.step(
    'The agent dies',
    'First its links, programs and maps of services and rules are noted. Then: no goodbye, no clean-up.',
  );
  const kernel = await stage.kernelState('lasting');
  const { stdout: tables } = await stage.run(HASH_TABLES);
  await stage.run(`kill -9 ${stage.host.agent.pid}`);
  await stage.host.agent.kill();
  await stage.run('zerohop status', 3);
  await onlyGreen(stage, vip);
  await nobodyIsDenied(stage, `http://${vip}/`);
  return { kernel, tables };
}

async function stillOpen(stage: Stage, vip: string, client: Child): Promise<void> {
  const before = client.stdout.length;
  client.say('\n');
  const since = (): string => client.stdout.slice(before);
  await client.says(/(^the server.*\n[^]*){2}/m);
  stage.output(since());
  stage.shows(
    'the connection of step 4 is still open, and still shows the VIP',
    lastOf(since(), 'getpeername()') === `${vip}:80`,
    since(),
  );
}

const range = (ids: readonly number[]): string => `${ids.length} (ids ${ids.join(' ')})`;

async function returnOfTheAgent(
  stage: Stage,
  vip: string,
  before: Before,
  client: Child,
): Promise<void> {
  stage.step('The agent comes back', 'Requests go on while it starts.');
  stage.show('zerohop agent &');
  await Promise.all([stage.host.agent.start(), onlyGreen(stage, vip)]);
  const log = stage.host.agent.log();
  const adopted = log.find((line) => line['message'] === 'took over the pinned maps');
  stage.output(adopted === undefined ? '' : JSON.stringify(adopted));
  stage.shows(
    'it found its work in the kernel, and wrote nothing',
    adopted?.['writes'] === 0,
    `its log is ${JSON.stringify(log)}`,
  );
  const { stdout: tables } = await stage.run(HASH_TABLES);
  stage.shows('the maps hold the same bytes', tables === before.tables, `before: ${before.tables}`);
  const kernel = await stage.kernelState('lasting');
  stage.output(
    `links     ${range(kernel.links)}\nprograms  ${range(kernel.programs)}\nmaps      ${range(kernel.maps)}`,
  );
  stage.shows(
    'links, programs and maps are the very same objects as before',
    kernel.links.length > 0 && JSON.stringify(kernel) === JSON.stringify(before.kernel),
    `before: ${JSON.stringify(before.kernel)}`,
  );
  await stillOpen(stage, vip, client);
}

async function play(stage: Stage): Promise<KernelState> {
  introduce(stage.host);
  await startAgent(stage);
  const vip = await addWeb(stage);
  await spread(stage, vip);
  const client = await connection(stage, vip);
  await explain(stage, vip);
  await udp(stage);
  await removeBackend(stage, vip);
  await accessControl(stage, vip);
  const before = await killAgent(stage, vip);
  await returnOfTheAgent(stage, vip, before, client);
  return stage.kernelState('all');
}

async function makeHost(): Promise<TestHost> {
  try {
    return await TestHost.create();
  } catch (error) {
    throw new WrongResult(
      `no throw-away host can be made here: ${error instanceof Error ? error.message.trim() : String(error)}
  It takes a network namespace, a folder in cgroup2 and a BPF file system: root on Linux ≥ 5.10. In a container
  they are often forbidden: run the demo on a machine of its own, in a VM, or in a container with --privileged.`,
      { cause: error },
    );
  }
}

function explainFailure(error: unknown, stage: Stage): void {
  say(`\n✗ ${error instanceof Error ? error.message.trim() : String(error)}`);
  say('\nWhat this kernel can do, and what is missing: ./scripts/zerohop doctor');
  try {
    const log = stage.host.agent.log().map((line) => JSON.stringify(line));
    if (log.length > 0) say(`The agent's log:\n${log.join('\n')}`);
  } catch {
    // it was never started
  }
}

/** The last step, when the host is taken away already. */
async function cleaned(stage: Stage, kernel: KernelState): Promise<void> {
  stage.step('Everything is taken away');
  const left = leftovers(stage.host);
  stage.shows(
    'no process, network namespace, cgroup, mount or file is left',
    left.length === 0,
    left.join(', '),
  );
  await stage.untilGone(kernel);
  stage.shows('its BPF programs and links are gone from the kernel', true, '');
}

/** Says what happens at Ctrl-C. undo.ts, which hears the signal next, does it. */
function tellSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupted) return;
      interrupted = true;
      say(`\n${signal}: taking the throw-away host away`);
    });
  }
}

/** After undo.ts has done its work at exit: did it? */
function tellTheEnd(host: TestHost): void {
  process.on('exit', () => {
    if (!interrupted) return;
    const left = leftovers(host);
    say(left.length === 0 ? 'nothing of it is left' : `left behind: ${left.join(', ')}`);
  });
}

let interrupted = false;

async function main(): Promise<number> {
  process.stdout.on('error', () => process.exit(1)); // nobody reads any more
  const start = performance.now();
  tellSignals();
  const host = await makeHost().catch((error: unknown) => {
    say(`✗ ${error instanceof Error ? error.message : String(error)}`);
  });
  if (host === undefined) return 1;
  tellTheEnd(host);
  const stage = new Stage(host);
  try {
    let kernel: KernelState;
    try {
      kernel = await play(stage);
    } finally {
      await pause(50); // Ctrl-C ends a command first, and comes to us next
      await host[Symbol.asyncDispose]();
    }
    await cleaned(stage, kernel);
  } catch (error) {
    explainFailure(error, stage);
    return 1;
  }
  say(`\nAll as it should be, in ${((performance.now() - start) / 1000).toFixed(1)} s.`);
  say('Next: README.md, "On a real host".');
  return 0;
}

process.exitCode = await main();
