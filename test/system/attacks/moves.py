"""
One process that moves between cgroups and dials, with sockets of its own and of
others. Prints the JSON array of what attack.c would: one outcome per dial.

  moves.py WORD STEP...           the n-th outcome's word is WORD.n
      go=CGROUP                   moves here
      thread=CGROUP,CGROUP        (threaded cgroups) the process goes to the first, a thread dials from the second:
                                  the next step is the thread's
      tcp=ADDR,PORT               dials with a new socket
      udp=ADDR,PORT               sendto with a new socket
      make=tcp4|tcp6|udp4|udp6    makes the socket that `dial` and `send` use
      got=KIND,CGROUP             as make, but a process in that cgroup makes it and passes it on (SCM_RIGHTS)
      fork=CGROUP                 a child there dials the next step's socket, made before
      dial=ADDR,PORT  send=ADDR,PORT
"""
import errno
import json
import os
import socket
import sys
import threading

WAIT_S = 2 * int(os.environ.get("ZEROHOP_TEST_PATIENCE", "1"))


def go(cgroup, file="cgroup.procs"):
    with open(f"{cgroup}/{file}", "w") as procs:
        procs.write("0")


def make(kind):
    family = socket.AF_INET6 if kind.endswith("6") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if kind.startswith("udp") else socket.SOCK_STREAM)
    sock.settimeout(WAIT_S)
    return sock


def got(kind, cgroup):
    here, there = socket.socketpair()
    if os.fork() == 0:
        go(cgroup)
        sock = make(kind)
        socket.send_fds(there, [b"x"], [sock.fileno()])
        os._exit(0)
    there.close()
    _, fds, _, _ = socket.recv_fds(here, 1, 1)
    os.wait()
    sock = socket.socket(fileno=fds[0])
    sock.settimeout(WAIT_S)
    return sock


def outcome(sock, how, at, word):
    try:
        if how == "connect":
            sock.connect(at)
            sock.send(f"{word}\n".encode())
        else:
            sock.sendto(f"{word}\n".encode(), at)
        return {"reply": sock.recv(512).decode().strip()}
    except TimeoutError:
        return {"error": "EAGAIN", "at": "recv"}
    except OSError as error:
        return {"error": errno.errorcode[error.errno], "at": how}


def address(text):
    host, port = text.split(",")
    return host, int(port)


def in_thread(cgroup, work):
    result = []

    def body():
        go(cgroup, "cgroup.threads")
        result.append(work())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return result[0]


def in_child(cgroup, work):
    back, to = os.pipe()
    if os.fork() == 0:
        go(cgroup)
        os.write(to, json.dumps(work()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(back, 4096))


def main():
    word, outcomes, kept = sys.argv[1], [], None
    elsewhere = None
    for step in sys.argv[2:]:
        name, _, value = step.partition("=")
        if name == "go":
            go(value)
        elif name == "thread":
            process, thread = value.split(",")
            go(process)
            elsewhere = lambda work, thread=thread: in_thread(thread, work)
        elif name == "fork":
            elsewhere = lambda work, value=value: in_child(value, work)
        elif name == "make":
            kept = make(value)
        elif name == "got":
            kept = got(*value.split(","))
        else:
            at = address(value)
            family = "6" if ":" in at[0] else "4"
            sock = make(name + family) if name in ("tcp", "udp") else kept
            how = "connect" if name in ("tcp", "dial") else "sendto"
            said = f"{word}.{len(outcomes) + 1}"
            work = lambda sock=sock, how=how, at=at, said=said: outcome(sock, how, at, said)
            outcomes.append(elsewhere(work) if elsewhere else work())
            elsewhere = None
    print(json.dumps(outcomes))


main()
