"""ask.py ADDR PORT: one datagram on an unconnected UDP socket; says who answered what."""
import socket
import sys

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
sock.sendto(b"what time is it?", (sys.argv[1], int(sys.argv[2])))
answer, sender = sock.recvfrom(512)
print(f"{answer.decode()} from {sender[0]}:{sender[1]}")
