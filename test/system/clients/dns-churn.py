"""Asks two names in turn over UDP. Arguments: how often, then two queries in hexadecimal. The answers to the first are
28 addresses, all of one network 240.1.x.0/24; to the second 240.2.x.0/24. Prints how many answers had addresses, how many
had none, and the first ten that were anything else."""
import json, socket, sys

times, queries = int(sys.argv[1]), [bytes.fromhex(query) for query in sys.argv[2:]]
RECORD = bytes.fromhex('c00c00010001')
clients = []
for query in queries:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('127.0.0.55', 53))
    s.settimeout(60)
    clients.append(s)
full, empty, wrong = 0, 0, []
for i in range(times):
    who = i & 1
    head = (i & 0xffff).to_bytes(2, 'big')
    query = queries[who]
    clients[who].send(head + query[2:])
    answer = clients[who].recv(1024)
    count = int.from_bytes(answer[6:8], 'big')
    tail = answer[len(query):]
    good = answer[:2] == head and answer[12:len(query)] == query[12:]
    if good and count == 0:
        empty += 1
        continue
    nets = {tail[at + 12:at + 15] for at in range(0, len(tail), 16)}
    last = {tail[at + 15] for at in range(0, len(tail), 16)}
    owners = all(tail[at:at + 6] == RECORD for at in range(0, len(tail), 16))
    net = min(nets) if nets else b'\0\0\0'
    if good and count == 28 and len(tail) == 28 * 16 and owners and len(nets) == 1 and len(last) == 28 and net[:2] == bytes([240, who + 1]):
        full += 1
    else:
        wrong.append([who, answer.hex()])
print(json.dumps({'full': full, 'empty': empty, 'wrong': wrong[:10], 'wrongs': len(wrong)}))
