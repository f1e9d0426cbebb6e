// Counts the readings of each source, keeps the newest, and asks a model how far it is from the one before.
//
// Strings and lists that a function returns are ours to free; what is passed to one stays ours.

#include "bindings/agent.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKET "readings"
#define MODEL "distance"
#define MAX_SOURCE 64

// A C string as the bindings want it; not copied.
static agent_string_t text(const char *chars) {
  agent_string_t string;
  agent_string_set(&string, chars);
  return string;
}

// Set `*error` to a new string.
__attribute__((format(printf, 2, 3))) static bool refuse(agent_string_t *error, const char *format, ...) {
  char reason[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, sizeof reason, format, arguments);
  va_end(arguments);
  agent_string_dup(error, reason);
  return false;
}

static bool refuse_store(agent_string_t *error, wasi_keyvalue_store_error_t *reason) {
  switch (reason->tag) {
  case WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE:
    return refuse(error, "bucket " BUCKET ": no such store");
  case WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED:
    return refuse(error, "bucket " BUCKET ": access denied");
  default:
    refuse(error, "bucket " BUCKET ": %.*s", (int)reason->val.other.len, (char *)reason->val.other.ptr);
    wasi_keyvalue_store_error_free(reason);
    return false;
  }
}

static bool refuse_model(agent_string_t *error, wasi_nn_errors_own_error_t reason) {
  agent_string_t words;
  wasi_nn_errors_method_error_data(wasi_nn_errors_borrow_error(reason), &words);
  refuse(error, "model " MODEL ": %.*s", (int)words.len, (char *)words.ptr);
  agent_string_free(&words);
  wasi_nn_errors_error_drop_own(reason);
  return false;
}

static bool compute(wasi_nn_inference_own_graph_execution_context_t context, float value, float before, float *score,
                    agent_string_t *error) {
  float pair[2] = {value, before};
  uint32_t shape[2] = {1, 2};
  wasi_nn_tensor_tensor_dimensions_t dimensions = {shape, 2};
  wasi_nn_tensor_tensor_data_t data = {(uint8_t *)pair, sizeof pair};
  // The host takes the tensor over.
  wasi_nn_inference_named_tensor_t input = {
      text("pair"), wasi_nn_tensor_constructor_tensor(&dimensions, WASI_NN_TENSOR_TENSOR_TYPE_FP32, &data)};
  wasi_nn_inference_list_named_tensor_t inputs = {&input, 1}, outputs;
  wasi_nn_errors_own_error_t reason;
  if (!wasi_nn_inference_method_graph_execution_context_compute(
          wasi_nn_inference_borrow_graph_execution_context(context), &inputs, &outputs, &reason))
    return refuse_model(error, reason);
  bool good = false;
  if (outputs.len == 1) {
    wasi_nn_tensor_method_tensor_data(wasi_nn_tensor_borrow_tensor(outputs.ptr[0].f1), &data);
    if ((good = data.len == sizeof *score))
      memcpy(score, data.ptr, sizeof *score);
    wasi_nn_tensor_tensor_data_free(&data);
  }
  // Freeing a list frees its memory alone: handles of the host in it are given back one by one.
  for (size_t i = 0; i < outputs.len; i++)
    wasi_nn_tensor_tensor_drop_own(outputs.ptr[i].f1);
  wasi_nn_inference_list_named_tensor_free(&outputs);
  return good || refuse(error, "model " MODEL ": not one number");
}

// Ask the model.
static bool distance(float value, float before, float *score, agent_string_t *error) {
  agent_string_t name = text(MODEL);
  wasi_nn_graph_own_graph_t graph;
  wasi_nn_errors_own_error_t reason;
  if (!wasi_nn_graph_load_by_name(&name, &graph, &reason))
    return refuse_model(error, reason);
  wasi_nn_inference_own_graph_execution_context_t context;
  bool good = wasi_nn_graph_method_graph_init_execution_context(wasi_nn_graph_borrow_graph(graph), &context, &reason);
  wasi_nn_graph_graph_drop_own(graph);
  if (!good)
    return refuse_model(error, reason);
  good = compute(context, value, before, score, error);
  wasi_nn_inference_graph_execution_context_drop_own(context);
  return good;
}

// Count a reading and keep it.
static bool record(wasi_keyvalue_store_borrow_bucket_t bucket, const char *source, float value, int64_t *count,
                   float *score, agent_string_t *error) {
  char count_key[MAX_SOURCE + 8], last_key[MAX_SOURCE + 8], score_key[MAX_SOURCE + 8];
  snprintf(count_key, sizeof count_key, "count/%s", source);
  snprintf(last_key, sizeof last_key, "last/%s", source);
  snprintf(score_key, sizeof score_key, "score/%s", source);
  agent_string_t key = text(last_key);
  wasi_keyvalue_store_error_t reason;
  agent_option_list_u8_t stored;
  if (!wasi_keyvalue_store_method_bucket_get(bucket, &key, &stored, &reason))
    return refuse_store(error, &reason);
  float before = value;
  if (stored.is_some && stored.val.len == sizeof before)
    memcpy(&before, stored.val.ptr, sizeof before);
  agent_option_list_u8_free(&stored);
  if (!distance(value, before, score, error))
    return false;
  key = text(count_key);
  if (!wasi_keyvalue_atomics_increment(bucket, &key, 1, count, &reason))
    return refuse_store(error, &reason);
  agent_tuple2_string_list_u8_t pairs[] = {
      {text(last_key), {(uint8_t *)&value, sizeof value}},
      {text(score_key), {(uint8_t *)score, sizeof *score}},
  };
  agent_list_tuple2_string_list_u8_t list = {pairs, 2};
  return wasi_keyvalue_batch_set_many(bucket, &list, &reason) || refuse_store(error, &reason);
}

bool exports_fleet_sample_readings_take(exports_fleet_sample_readings_reading_t *reading,
                                        exports_fleet_sample_readings_verdict_t *verdict, agent_string_t *error) {
  char source[MAX_SOURCE + 1] = {0};
  size_t length = reading->source.len;
  float value = reading->value;
  if (length >= 1 && length <= MAX_SOURCE)
    memcpy(source, reading->source.ptr, length);
  exports_fleet_sample_readings_reading_free(reading);
  if (length < 1 || length > MAX_SOURCE)
    return refuse(error, "source must have 1 to 64 bytes");
  if (!isfinite(value))
    return refuse(error, "value must be finite");
  agent_string_t name = text(BUCKET);
  wasi_keyvalue_store_own_bucket_t bucket;
  wasi_keyvalue_store_error_t reason;
  if (!wasi_keyvalue_store_open(&name, &bucket, &reason))
    return refuse_store(error, &reason);
  bool good =
      record(wasi_keyvalue_store_borrow_bucket(bucket), source, value, &verdict->count, &verdict->score, error);
  wasi_keyvalue_store_bucket_drop_own(bucket);
  if (!good)
    return false;
  char line[128];
  snprintf(line, sizeof line, "reading %" PRId64 " of %s", verdict->count, source);
  agent_string_t context = text("agent"), message = text(line);
  wasi_logging_logging_log(WASI_LOGGING_LOGGING_LEVEL_INFO, &context, &message);
  agent_string_dup(&verdict->source, source);
  return true;
}

void exports_fleet_sample_readings_fail(exports_fleet_sample_readings_failure_t how) {
  switch (how) {
  case EXPORTS_FLEET_SAMPLE_READINGS_FAILURE_SPIN:
    for (volatile unsigned turns = 0;; turns++) {
    }
  case EXPORTS_FLEET_SAMPLE_READINGS_FAILURE_MEMORY:
    for (;;) {
      volatile char *taken = malloc(1 << 20); // volatile: or the compiler sees that nobody reads it
      if (!taken)
        __builtin_trap();
      taken[0] = 1;
    }
  default:
    __builtin_trap();
  }
}
