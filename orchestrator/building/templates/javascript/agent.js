// Counts the readings of each source, keeps the newest, and asks a model how far it is from the one before.

import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft2';
import { setMany } from 'wasi:keyvalue/batch@0.2.0-draft2';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';
import { log } from 'wasi:logging/logging@0.1.0-draft';
import { loadByName } from 'wasi:nn/graph@0.2.0-rc-2024-10-28';
import { Tensor } from 'wasi:nn/tensor@0.2.0-rc-2024-10-28';

const BUCKET = 'readings';
const MODEL = 'distance';

// Handles of the host are few: give each back at once instead of when memory is collected.
function using(handle, work) {
  try {
    return work(handle);
  } finally {
    handle[Symbol.dispose]();
  }
}

const bytesOf = (...numbers) => new Uint8Array(Float32Array.from(numbers).buffer);
const numberIn = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat32(0, true);

function explain({ payload }) {
  if (payload?.tag) {
    const words = { 'no-such-store': 'no such store', 'access-denied': 'access denied' };
    return `bucket ${BUCKET}: ${words[payload.tag] ?? payload.val}`;
  }
  return using(payload, (error) => `model ${MODEL}: ${error.data()}`);
}

function distance(value, before) {
  return using(loadByName(MODEL), (graph) =>
    using(graph.initExecutionContext(), (context) => {
      const pair = new Tensor(new Uint32Array([1, 2]), 'FP32', bytesOf(value, before));
      const [[, output]] = context.compute([['pair', pair]]);
      return using(output, (tensor) => numberIn(tensor.data()));
    }),
  );
}

function record(bucket, { source, value }) {
  const stored = bucket.get(`last/${source}`);
  const score = distance(value, stored ? numberIn(stored) : value);
  const count = increment(bucket, `count/${source}`, 1n);
  setMany(bucket, [
    [`last/${source}`, bytesOf(value)],
    [`score/${source}`, bytesOf(score)],
  ]);
  return { source, count, score };
}

// What a function of the world throws as a `result` error is a value; anything else that is thrown ends the agent.
function refuse(reason) {
  throw Object.assign(new Error(reason), { payload: reason });
}

export const readings = {
  take(reading) {
    const length = new TextEncoder().encode(reading.source).length;
    if (length < 1 || length > 64) refuse('source must have 1 to 64 bytes');
    if (!Number.isFinite(reading.value)) refuse('value must be finite');
    let verdict;
    try {
      verdict = using(open(BUCKET), (bucket) => record(bucket, reading));
    } catch (error) {
      if (error.payload === undefined) throw error;
      refuse(explain(error));
    }
    log('info', 'agent', `reading ${verdict.count} of ${verdict.source}`);
    return verdict;
  },

  fail(how) {
    const taken = [];
    if (how === 'trap') throw new Error('asked to fail');
    for (;;) {
      if (how === 'memory') taken.push(new Uint8Array(1 << 20).fill(1));
    }
  },
};
