"""clock.py PORT: a UDP server that answers every datagram with the time."""
import socket
import sys
import time

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    _, client = sock.recvfrom(512)
    sock.sendto(time.strftime("%H:%M:%S").encode(), client)
