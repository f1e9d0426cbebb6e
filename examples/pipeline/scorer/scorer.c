// The middle of the pipeline: knows the mean of each source and how far it usually strays, and scores by both.
//
// What it knows lives in its memory: a new scorer begins anew. Strings that a function returns are ours to free; what
// is passed to one stays ours.

#include "bindings/scorer.h"

#include <math.h>
#include <string.h>

#define SOURCES 64
#define NAME 64
#define UNUSUAL 1.0f
#define SMOOTHING 0.1f
#define FEW 8

struct source {
  char name[NAME];
  size_t length;
  unsigned count;
  float mean, spread;
};

static struct source sources[SOURCES];
static unsigned next;

static struct source *find(const scorer_string_t *name) {
  for (unsigned i = 0; i < SOURCES; i++) {
    struct source *source = &sources[i];
    if (source->count && source->length == name->len && memcmp(source->name, name->ptr, name->len) == 0) {
      return source;
    }
  }
  struct source *source = &sources[next++ % SOURCES]; // the one that was met first makes room
  memcpy(source->name, name->ptr, name->len);
  source->length = name->len;
  source->count = 0;
  return source;
}

// The score of a value, and what is known afterwards. An unusual value teaches less than a usual one.
static float learn(struct source *source, float value) {
  if (source->count++ == 0) {
    source->mean = value;
    source->spread = fabsf(value) * 0.05f + 0.01f;
    return 0.0f;
  }
  float distance = fabsf(value - source->mean);
  float score = source->count <= FEW ? 0.0f : distance / (4.0f * source->spread);
  float weight = score > UNUSUAL ? SMOOTHING / score : SMOOTHING;
  source->mean += weight * (value - source->mean);
  source->spread += weight * (distance - source->spread);
  if (source->spread < 0.01f) {
    source->spread = 0.01f;
  }
  return score;
}

bool exports_example_pipeline_score_score(exports_example_pipeline_score_reading_t *reading, float *score,
                                          scorer_string_t *error) {
  bool known = reading->source.len > 0 && reading->source.len <= NAME && isfinite(reading->value);
  if (known) {
    *score = learn(find(&reading->source), reading->value);
  } else {
    scorer_string_dup(error, "a reading has a source of 1 to 64 bytes, and a finite value");
  }
  // An alert that cannot be sent is the reading's error: nobody would hear of it otherwise.
  bool told = !known || *score <= UNUSUAL || example_pipeline_alert_send(&reading->source, *score, error);
  exports_example_pipeline_score_reading_free(reading);
  return known && told;
}
