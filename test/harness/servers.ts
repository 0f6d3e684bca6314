/** Real servers for test hosts. They end with the host. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Child } from './child.ts';
import { eventually } from './eventually.ts';
import type { TestHost } from './host.ts';
import { echoServer } from './programs.ts';

export interface Echo {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
}

export interface EchoSpec {
  readonly name: string;
  readonly protocol?: 'tcp' | 'udp';
  readonly address?: string;
  /** Without: a free one. */
  readonly port?: number;
  /** The one CPU to run on, for the whole process. */
  readonly cpu?: number;
}

/** Starts one process that is all these backends. */
export async function echoes(
  host: TestHost,
  ...list: readonly EchoSpec[]
): Promise<{ readonly process: Child; readonly echoes: Echo[] }> {
  const words = list.map(
    ({ name, protocol = 'tcp', address = '127.0.0.1', port = 0 }) =>
      `${name}=${protocol},${address},${port}`,
  );
  const cpu = list[0]?.cpu;
  const pinned = cpu === undefined ? [] : ['taskset', '-c', String(cpu)];
  const process = host.spawn([...pinned, await echoServer(), ...words]);
  const [text] = await process.says(/^\[.*\]$/m);
  return { process, echoes: JSON.parse(text) as Echo[] };
}

/** Waits until something accepts TCP connections there. */
export async function listening(host: TestHost, server: Child, port: number): Promise<void> {
  await eventually(`a listener at port ${port}`, async () => {
    if (!server.running) throw new Error(`the server ended: ${server.stderr}${server.stdout}`);
    const { stdout } = await host.exec(['ss', '-Hltn', `sport = :${port}`]);
    return stdout !== '';
  });
}

/** An nginx that answers its name and the client's address to every request. */
export async function nginx(host: TestHost, name: string, port: number): Promise<Child> {
  const dir = join(host.dir, `nginx-${name}`);
  mkdirSync(dir);
  writeFileSync(
    join(dir, 'nginx.conf'),
    `daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;
     events { worker_connections 1024; }
     http {
       access_log off;
       client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi;
       uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
       server {
         listen 127.0.0.1:${port};
         location / { default_type text/plain; return 200 "${name} $remote_addr\\n"; }
       }
     }`,
  );
  const child = host.spawn([
    'nginx',
    '-p',
    dir,
    '-c',
    join(dir, 'nginx.conf'),
    '-e',
    join(dir, 'error.log'),
  ]);
  await listening(host, child, port);
  return child;
}

export async function redis(host: TestHost, port: number): Promise<Child> {
  const child = host.spawn([
    'redis-server',
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--dir',
    host.dir,
  ]);
  await listening(host, child, port);
  return child;
}
