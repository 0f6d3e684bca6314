/** For test/system/harness.test.ts: makes a host or a cluster of two, says so, and waits for its end. */
import { TestCluster } from './cluster.ts';
import { TestHost } from './host.ts';

const [kind = 'host', end = ''] = process.argv.slice(2);
const host = kind === 'cluster' ? (await TestCluster.create(2)).host(0) : await TestHost.create();
const child = host.spawn(['sleep', '60']);
console.log(`${host.name} ${host.cgroup} ${child.pid}`);
if (end === 'throw') throw new Error('as asked');
