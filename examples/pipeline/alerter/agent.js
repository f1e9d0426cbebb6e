// The end of the pipeline: writes each alert to its log. What else is to happen to it is this agent's to decide, and
// nobody else's.

import { log } from 'wasi:logging/logging@0.1.0-draft';

export const alert = {
  send(source, score) {
    log('warn', 'alerter', `${source} is unusual: ${score.toFixed(3)}`);
  },
};
