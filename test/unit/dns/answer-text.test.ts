/** Answers as people read them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as packet from 'dns-packet';
import { answerText } from '../../../src/dns/answer-text.ts';

test('each byte of a text is escaped once, as in a zone file', () => {
  const data = [Buffer.from('käse'), Buffer.from([0, 0x7f, 0xff]), Buffer.from(String.raw`"\195`)];
  const bytes = packet.encode({
    type: 'response',
    questions: [{ name: 'a.example', type: 'TXT' }],
    answers: [
      { type: 'TXT', name: 'a.example', ttl: 1, data },
      {
        type: 'CAA',
        name: 'a.example',
        ttl: 1,
        data: { flags: 0, tag: 'iodef', value: String.raw`ä"\ ` },
      },
    ],
  });
  assert.deepEqual(
    answerText(bytes)?.answers.map((answer) => answer.data),
    [String.raw`"k\195\164se" "\000\127\255" "\"\\195"`, String.raw`0 iodef "\195\164\"\\ "`],
  );
});
