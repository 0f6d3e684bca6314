// client.mjs tcp|udp ADDR PORT: connects, asks, prints {peer, local, reply}.
import dgram from 'node:dgram';
import net from 'node:net';

const [protocol, host, portText] = process.argv.slice(2);
const port = Number(portText);
const text = ({ address, port }) =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
const done = (result) => {
  console.log(JSON.stringify(result));
  process.exit(0);
};
const failed = (error) => done({ error: error.code });
setTimeout(() => failed({ code: 'ETIMEDOUT' }), 5000);

if (protocol === 'tcp') {
  const socket = net.connect({ host, port }, () => socket.write('node\n'));
  socket.on('error', failed);
  socket.on('data', (data) =>
    done({
      peer: text({ address: socket.remoteAddress, port: socket.remotePort }),
      local: text({ address: socket.localAddress, port: socket.localPort }),
      reply: data.toString().trim(),
    }),
  );
} else {
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', failed);
  socket.on('message', (data) =>
    done({
      peer: text(socket.remoteAddress()),
      local: text(socket.address()),
      reply: data.toString().trim(),
    }),
  );
  socket.connect(port, host, (error) => (error ? failed(error) : socket.send('node\n')));
}
