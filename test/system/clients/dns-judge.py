"""
Reads pairs of a message and its answer (each after its length in four bytes), and has dnspython
parse every answer whole. Prints one JSON document: how many, what rcodes, what it refused.
"""
import collections
import json
import struct
import sys

import dns.exception
import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdatatype

FAULTS_MAX = 20

# What the resolver reads of a name server's records (src/dns/forward/records.ts), and what dnspython
# treats apart. All else it hands on as it came (RFC 3597, 3): that is not for it to answer for.
READ = {
    dns.rdatatype.from_text(name)
    for name in (
        "A NS CNAME SOA PTR MX TXT RP AFSDB RT AAAA SRV PX KX DNAME OPT TSIG"
    ).split()
}


def pairs(file):
    while True:
        both = []
        for _ in range(2):
            head = file.read(4)
            if len(head) < 4:
                return
            (length,) = struct.unpack("!I", head)
            both.append(file.read(length))
        yield both


def readable(message):
    """dnspython knows no name for most opcodes, and reads no message with one: a query's is put there."""
    opcode = (message[2] >> 3) & 15 if len(message) > 2 else 0
    if opcode in [int(known) for known in dns.opcode.Opcode]:
        return message
    return message[:2] + bytes([message[2] & 0x87]) + message[3:]


def fault_of(question, answer):
    """What is wrong with it; None: nothing."""
    try:
        parsed = dns.message.from_wire(answer)
    except Exception as error:  # whatever it is: it could not be read
        return f"{type(error).__name__}: {error}"
    if not parsed.flags & dns.flags.QR:
        return "no answer"
    try:
        parsed.to_wire(max_size=65535)
        str(parsed)
    except Exception as error:
        return f"not to be written again: {type(error).__name__}: {error}"
    try:
        asked = dns.message.from_wire(question)
    except Exception:
        return None  # no message: any code may be said to it
    try:
        belongs = asked.is_response(parsed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    # An answer to what was not understood has no question.
    if not belongs and parsed.question:
        return "of another question"
    return None


def read_only_known():
    by_name = dns.rdata.get_rdata_class
    dns.rdata.get_rdata_class = lambda rdclass, rdtype: (
        by_name(rdclass, rdtype) if rdtype in READ else dns.rdata.GenericRdata
    )


def main():
    read_only_known()
    rcodes = collections.Counter()
    faults = []
    count = 0
    with open(sys.argv[1], "rb") as file:
        for question, answer in pairs(file):
            count += 1
            question, answer = readable(question), readable(answer)
            fault = fault_of(question, answer)
            if fault is None:
                rcodes[dns.rcode.to_text(dns.message.from_wire(answer).rcode())] += 1
            elif len(faults) < FAULTS_MAX:
                faults.append(f"{fault}: {question.hex()} -> {answer.hex()}")
    print(json.dumps({"count": count, "rcodes": rcodes, "faults": faults}))


main()
