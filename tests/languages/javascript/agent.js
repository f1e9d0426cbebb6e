// Counts the readings of each source, logs them, and prints their values.
import { getStdout } from 'wasi:cli/stdout@0.2.12';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';
import { log } from 'wasi:logging/logging@0.1.0-draft';

const encode = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const decode = (bytes) => String.fromCharCode(...bytes);

// Handles of the host are few: give each back at once instead of when memory is collected.
function using(handle, work) {
  try {
    return work(handle);
  } finally {
    handle[Symbol.dispose]();
  }
}

function count(source) {
  return using(open('readings'), (bucket) => {
    const before = bucket.get(source);
    const next = before ? Number(decode(before)) + 1 : 1;
    bucket.set(source, encode(String(next)));
    return next;
  });
}

export const sensorHandler = {
  handleData({ source, value }) {
    const number = count(source);
    log('info', 'sensor', `reading ${number} of ${source}`);
    using(getStdout(), (stdout) => stdout.blockingWriteAndFlush(encode(`value ${value}\n`)));
    return `${source}: ${number}`;
  },
};
