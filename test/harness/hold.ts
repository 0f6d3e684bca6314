/** For test/system/harness.test.ts: makes a host, says so, and waits for its end. */
import { TestHost } from './host.ts';

const host = await TestHost.create();
const child = host.spawn(['sleep', '60']);
console.log(`${host.name} ${host.cgroup} ${child.pid}`);
if (process.argv[2] === 'throw') throw new Error('as asked');
