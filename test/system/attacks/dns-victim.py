"""Two clients of the resolver at 127.0.0.55, one connected and one that hears anybody. Arguments: queries in hexadecimal.
Prints their ports and the connected one's own address; a line later what came since, until the first hears `control`."""
import json, socket, sys

queries = [bytes.fromhex(query) for query in sys.argv[1:]]
free, connected = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
free.settimeout(60)
connected.settimeout(60)
free.sendto(queries[0], ('127.0.0.55', 53))
_, (address, port) = free.recvfrom(512)
connected.connect(('127.0.0.55', 53))
for query in queries:
    connected.send(query)
    connected.recv(512)
print(json.dumps({'free': free.getsockname()[1], 'connected': connected.getsockname()[1], 'from': '%s %d' % (address, port), 'own': connected.getsockname()[0]}), flush=True)
sys.stdin.readline()
heard = []
while not heard or heard[-1][0] != 'control':
    data, (address, port) = free.recvfrom(512)
    heard.append([data.decode(), '%s %d' % (address, port)])
connected.setblocking(False)
try:
    heard.append([connected.recv(512).decode(), 'connected'])
except BlockingIOError:
    pass
print(json.dumps(heard))
