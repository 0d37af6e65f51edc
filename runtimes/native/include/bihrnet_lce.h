/* LCE's binary operators on any stock TFLite runtime: the C interface of libbihrnet_lce.
 *
 * Two ways in. A runtime that loads external delegates (ai-edge-litert, tf.lite, benchmark_model, Android) finds
 * tflite_plugin_create_delegate and tflite_plugin_destroy_delegate. An app that links the library calls
 * bihrnet_lce_delegate_create and hands the result to its interpreter's ModifyGraphWithDelegate.
 * A delegate must outlive every interpreter that it was applied to. */
#ifndef BIHRNET_LCE_H_
#define BIHRNET_LCE_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define BIHRNET_LCE_EXPORT __declspec(dllexport)
#else
#define BIHRNET_LCE_EXPORT __attribute__((visibility("default")))
#endif

struct TfLiteDelegate;

typedef struct BihrnetLceOptions {
  /* Threads of one interpreter; 1 to 64, 0 takes what the interpreter recommends (its num_threads). */
  int threads;
  /* "scalar", "avx2" or "neon"; NULL or "" takes the environment's BIHRNET_LCE_KERNEL, else the fastest here. */
  const char* kernel;
  /* A file for the time of every fused step, written as JSON when the interpreter goes; NULL or "" for none. */
  const char* profile;
  /* Not 0: a line on standard error for every region that is compiled. */
  int verbose;
} BihrnetLceOptions;

/* The defaults: {0, NULL, NULL, 0}. */
BIHRNET_LCE_EXPORT BihrnetLceOptions bihrnet_lce_options_default(void);

/* A delegate, or NULL after report_error was called with a sentence (it may be NULL). options may be NULL. */
BIHRNET_LCE_EXPORT struct TfLiteDelegate* bihrnet_lce_delegate_create(const BihrnetLceOptions* options,
                                                                      void (*report_error)(const char* message));
BIHRNET_LCE_EXPORT void bihrnet_lce_delegate_destroy(struct TfLiteDelegate* delegate);

/* "0.1.0 avx2": the library's version and the kernels that it takes here when nothing else is asked for. */
BIHRNET_LCE_EXPORT const char* bihrnet_lce_version(void);

/* The external delegate entry points. Keys: threads, kernel, profile, verbose; values as above, as text. */
BIHRNET_LCE_EXPORT struct TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                                                        void (*report_error)(const char* message));
BIHRNET_LCE_EXPORT void tflite_plugin_destroy_delegate(struct TfLiteDelegate* delegate);

#ifdef __cplusplus
}
#endif

#endif /* BIHRNET_LCE_H_ */
