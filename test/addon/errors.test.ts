import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BpfError, tellingLine, VerifierError } from '../../addon/errors.ts';

function log(...lines: string[]): string {
  return `${lines.join('\n')}\n`;
}

const tail = 'processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0';

test('tellingLine() finds the verdict among instructions, states and statistics', () => {
  const text = log(
    'func#0 @0',
    '0: R1=ctx(off=0,imm=0) R10=fp0',
    '; int deny(struct bpf_sock_addr *ctx) @ kit.bpf.c:80',
    '0: (61) r0 = *(u32 *)(r1 +200)',
    'invalid bpf_context access off=200 size=4',
    tail,
  );
  assert.equal(tellingLine(text), 'invalid bpf_context access off=200 size=4');
});

test('tellingLine() knows the other endings', () => {
  const verdicts = [
    "R0 invalid mem access 'map_value_or_null'",
    'BPF program is too large. Processed 1000001 insn',
    'The sequence of 8193 jumps is too complex.',
    'unreachable insn 5',
    'back-edge from insn 5 to 2',
    'unknown func bpf_set_retval#187',
    'R1 type=scalar expected=fp, pkt, pkt_meta, map_key, map_value',
    'failed to resolve CO-RE relocation <byte_off> [12] struct task_struct.nope (0:1 @ offset 8)',
  ];
  for (const verdict of verdicts) {
    const lines = ['from 3 to 5: R0=0 R10=fp0', '5: (95) exit', ' R0=0 R10=fp0', verdict, tail];
    assert.equal(tellingLine(log(...lines)), verdict);
  }
});

test('tellingLine() falls back to the last line, and takes an empty log', () => {
  assert.equal(tellingLine(log('0: (95) exit', '1: (95) exit')), '1: (95) exit');
  assert.equal(tellingLine(''), '');
});

test('errors have class, code, operation and cause in their message', () => {
  const error = new BpfError('ENOENT', 'map update x', 'No such file', { errno: 2, applied: 3 });
  assert.equal(error.message, 'map update x: No such file (ENOENT)');
  assert.deepEqual([error.errno, error.applied, error.detail], [2, 3, undefined]);
  const rejected = new VerifierError('EACCES', 'object load x', 'deny', log('bad', tail));
  assert.ok(rejected instanceof BpfError);
  assert.equal(rejected.message, 'object load x: the verifier rejects deny: bad (EACCES)');
  assert.equal(rejected.name, 'VerifierError');
});
