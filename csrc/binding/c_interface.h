// What the library offers beside its ops, in C: to Python by ctypes (nhwc_conv/_native.py), to a C++ program by dlsym.
//
// Functions that can fail return a status, and put the answer or the reason into `text`, which lives until the same
// thread asks again. Instruction set and flags are the process's: to be changed between calls of ops only.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define NHWC_CONV_API extern "C" __declspec(dllexport)
#else
#define NHWC_CONV_API extern "C" __attribute__((visibility("default")))
#endif

enum { NHWC_CONV_DONE = 0, NHWC_CONV_FAILED = 1, NHWC_CONV_BAD_ARGUMENT = 2 };

// Digest of the sources that the library was built from.
NHWC_CONV_API const char* nhwc_conv_build_id();

// text: the name of the one in use. Fails where NHWC_CONV_ISA names none that is usable here.
NHWC_CONV_API int32_t nhwc_conv_instruction_set(const char** text);

// The usable ones, best first; null past the end.
NHWC_CONV_API const char* nhwc_conv_usable_instruction_set(int32_t index);

// Weights that are packed already stay those of the instruction set before.
NHWC_CONV_API int32_t nhwc_conv_set_instruction_set(const char* name, const char** text);

// Whether automatic choices may take Winograd's algorithm; at first, unless NHWC_CONV_WINOGRAD is 0.
NHWC_CONV_API void nhwc_conv_set_winograd(int32_t enabled);

// Whether threads share passes of any length: for tests, which are of tiny ones.
NHWC_CONV_API void nhwc_conv_share_all_work(int32_t enabled);

// gflops: of multiply-adds on registers alone on one thread, the best of many short runs within `seconds`.
NHWC_CONV_API int32_t nhwc_conv_fma_peak(const char* dtype, double seconds, double* gflops, const char** text);

// From here on, the time that passes take inside ops is counted, from zero, for all threads that call ops; 0: no more.
NHWC_CONV_API void nhwc_conv_watch_kernels(int32_t enabled);

// passes: how many were counted. Returns the seconds that they took.
NHWC_CONV_API double nhwc_conv_kernel_seconds(int64_t* passes);

typedef struct {
  const int64_t* values;
  int64_t count;
} NhwcConvSizes;

// text: the plan of a pass as a JSON object (see explain.cpp), for contiguous tensors of these shapes.
NHWC_CONV_API int32_t nhwc_conv_explain(const char* direction, const char* algorithm, const char* dtype,
                                        NhwcConvSizes x_shape, NhwcConvSizes w_shape, NhwcConvSizes stride,
                                        NhwcConvSizes padding, NhwcConvSizes dilation, int64_t groups, int64_t auto_pad,
                                        const char** text);

// elements: those that the op pack_weight returns for a weight [KH, KW, C/groups, O], on any machine.
NHWC_CONV_API int32_t nhwc_conv_packed_size(const char* dtype, NhwcConvSizes w_shape, int64_t groups, int32_t winograd,
                                            int64_t* elements, const char** text);

// For the Python package alone: derivatives, and types that are not computed here, are its own from then on.
NHWC_CONV_API void nhwc_conv_attach_python();
