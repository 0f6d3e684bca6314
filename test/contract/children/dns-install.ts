/** For test/contract/dns/install.test.ts: `install` or `uninstall` on the /etc that it finds; options as JSON. */
import { parseArgs } from 'node:util';
import { hostUpstreams } from '../../../src/dns/io/host-upstreams.ts';
import { install, installed, uninstall } from '../../../src/dns/io/install.ts';
import { DEFAULT_POOLS } from '../../../src/catalog/vips.ts';
import { ProblemError } from '../../../src/state/problem.ts';

const { positionals } = parseArgs({ allowPositionals: true });
const [what, options = '{}'] = positionals;
const given = JSON.parse(options) as object;
const defaults = {
  listen: [{ host: '127.0.0.55', port: 53 }],
  domain: 'zerohop.internal',
  pools: DEFAULT_POOLS,
};

try {
  const report =
    what === 'install'
      ? await install({ ...defaults, ...given })
      : what === 'uninstall'
        ? await uninstall(given)
        : {};
  const upstreams = hostUpstreams((host) => host === '127.0.0.55').map(({ host }) => host);
  console.log(JSON.stringify({ ...report, installed: installed(), upstreams }));
} catch (error) {
  if (!(error instanceof ProblemError)) throw error;
  console.log(JSON.stringify({ problems: error.problems }));
}
