"""Sends UDP datagrams over IPv4 as whole frames, with any addresses. Arguments: interface, MAC address of the host,
seconds to wait for an answer to the last of them (0: none is awaited), and the datagrams as JSON:
[[source, port, target, port, payload in hexadecimal], ...]. Prints what UDP came from that host, in the same form."""
import json, socket, struct, sys, time

interface, host, wait, datagrams = sys.argv[1], bytes.fromhex(sys.argv[2].replace(':', '')), float(sys.argv[3]), json.loads(sys.argv[4])
IP = 0x0800
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IP))
s.bind((interface, IP))
own = s.getsockname()[4]


def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def frame(source, source_port, target, target_port, payload):
    body = bytes.fromhex(payload)
    udp = struct.pack('!4H', source_port, target_port, 8 + len(body), 0) + body
    def header(check):
        return struct.pack('!2B3H2BH', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, check) + socket.inet_aton(source) + socket.inet_aton(target)
    return host + own + struct.pack('!H', IP) + header(checksum(header(0))) + udp


for one in datagrams:
    s.send(frame(*one))
heard = []
end = time.monotonic() + wait
_, _, target, target_port, _ = datagrams[-1]
while wait > 0:
    s.settimeout(max(0.001, end - time.monotonic()))
    try:
        data = s.recv(2048)
    except TimeoutError:
        break
    if data[6:12] != host or data[23] != 17:
        continue
    ports = struct.unpack('!2H', data[34:38])
    heard.append([socket.inet_ntoa(data[26:30]), ports[0], socket.inet_ntoa(data[30:34]), ports[1], data[42:].hex()])
    if heard[-1][:2] == [target, target_port]:
        break
print(json.dumps(heard))
