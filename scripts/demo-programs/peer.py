"""peer.py ADDR PORT: opens one connection and says who is at both ends; again for each line it reads."""
import http.client
import sys

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
connection.auto_open = 0  # never a second one
connection.connect()
sock = connection.sock


def tell():
    connection.request("GET", "/")
    name, seen = connection.getresponse().read().decode().split()
    print("getpeername()      %s:%d" % sock.getpeername())
    print("getsockname()      %s:%d" % sock.getsockname())
    print(f"the server         {name}, sees the client as {seen}", flush=True)


tell()
for _ in sys.stdin:
    tell()
