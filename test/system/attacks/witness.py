"""
Servers that tell whatever reaches them: answer "NAME CLIENT WORD" to every line
or datagram, and print one JSON line for each thing that arrived.

  witness.py NAME=KIND,ADDR,PORT ...
      KIND  tcp udp mptcp sctp udplite raw
      ADDR  `*`: one socket for IPv6 and IPv4; other IPv6 sockets are IPv6 only

First prints the array [{"name","protocol","address","port"},...], or {"missing"}
per server that this kernel cannot have; then {"server","what","from","word"} with
what = accept | line | datagram. A line on standard input is answered by {"mark"},
after everything that has arrived so far.
"""
import json
import selectors
import socket
import sys

KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "mptcp": (socket.SOCK_STREAM, 262),
    "smc": (socket.SOCK_STREAM, 0),
    "sctp": (socket.SOCK_STREAM, 132),
    "udp": (socket.SOCK_DGRAM, 0),
    "udplite": (socket.SOCK_DGRAM, 136),
    "raw": (socket.SOCK_RAW, 253),
}
TCP_FASTOPEN = 23

poll = selectors.DefaultSelector()
peers = {}


def say(**what):
    print(json.dumps(what), flush=True)


def text(address):
    host, port = address[0].removeprefix("::ffff:"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answer(name, peer, data):
    word = data.decode(errors="replace").rstrip("\n")
    return word, f"{name} {peer} {word}\n".encode()


def on_accept(sock, name):
    conn, address = sock.accept()
    conn.setblocking(False)
    peers[conn] = text(address)
    say(server=name, what="accept", **{"from": peers[conn]})
    poll.register(conn, selectors.EVENT_READ, (on_stream, name))


def on_stream(conn, name):
    try:
        data = conn.recv(512)
        if data:
            peer = peers[conn]
            word, reply = answer(name, peer, data)
            say(server=name, what="line", word=word, **{"from": peer})
            conn.send(reply)
            return
    except OSError:
        pass
    poll.unregister(conn)
    del peers[conn]
    conn.close()


def on_datagram(sock, name):
    try:
        data, address = sock.recvfrom(8192)
    except OSError:
        return
    if sock.type == socket.SOCK_RAW:
        data = data[20:]
    peer = text(address)
    word, reply = answer(name, peer, data)
    say(server=name, what="datagram", word=word, **{"from": peer})
    if sock.type != socket.SOCK_RAW:
        try:
            sock.sendto(reply, address)
        except OSError:
            pass


def serve(spec):
    name, rest = spec.split("=", 1)
    kind, addr, port = rest.split(",")
    both = addr == "*"
    family = socket.AF_INET6 if both or ":" in addr else socket.AF_INET
    try:
        sock = socket.socket(family, *KINDS[kind])
    except OSError as error:
        return {"name": name, "missing": str(error)}
    if kind != "raw":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
    sock.bind(("::" if both else addr, int(port)))
    stream = KINDS[kind][0] == socket.SOCK_STREAM
    if stream:
        sock.listen(1024)
    if kind == "tcp":
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 128)
    sock.setblocking(False)
    poll.register(sock, selectors.EVENT_READ, (on_accept if stream else on_datagram, name))
    at = sock.getsockname()
    return {"name": name, "protocol": kind, "address": at[0], "port": at[1]}


def main():
    print(json.dumps([serve(spec) for spec in sys.argv[1:]]), flush=True)
    poll.register(sys.stdin, selectors.EVENT_READ, None)
    while True:
        marks = None
        for key, _ in poll.select():
            if key.data is None:
                marks = sys.stdin.readline()
                if marks == "":
                    return
            else:
                key.data[0](key.fileobj, key.data[1])
        if marks is not None:
            while ready := [key for key, _ in poll.select(0) if key.data is not None]:
                for key in ready:
                    key.data[0](key.fileobj, key.data[1])
            say(mark=marks.strip())


main()
