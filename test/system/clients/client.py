"""client.py tcp|udp ADDR PORT: connects, asks, prints {peer, local, reply}."""
import json
import socket
import sys


def text(address):
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main():
    protocol, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(5)
        try:
            sock.connect((host, port))
        except OSError as error:
            import errno
            print(json.dumps({"error": errno.errorcode[error.errno]}))
            return
        sock.send(b"python\n")
        reply = sock.recv(512).decode().strip()
        print(json.dumps({"peer": text(sock.getpeername()), "local": text(sock.getsockname()), "reply": reply}))


main()
