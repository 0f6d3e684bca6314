// Joins a cgroup and connects there, one after the other. Arguments: cgroup, how often.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';

const [cgroup = '', times = '0'] = process.argv.slice(2);
writeFileSync(`${cgroup}/cgroup.procs`, String(process.pid));
for (let i = 0; i < Number(times); i++) {
  const socket = connect(1, '127.0.0.1');
  const [error] = (await once(socket, 'error').catch((failed: unknown) => [failed])) as [
    NodeJS.ErrnoException,
  ];
  if (error.code !== 'ECONNREFUSED') throw error;
}
