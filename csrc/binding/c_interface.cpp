#include "c_interface.h"

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "dtypes.h"
#include "explain.h"
#include "library.h"
#include "ops.h"
#include "run_pass.h"
#include "threads.h"

namespace {

// Runs `function`, whose result is the text; an exception does not cross into C.
template <class Function> int32_t answer(const char** text, Function function) {
  static thread_local std::string last;
  int32_t status = NHWC_CONV_DONE;
  try {
    nhwc_conv::check_loaded();
    last = function();
  } catch (const std::invalid_argument& error) {
    last = error.what();
    status = NHWC_CONV_BAD_ARGUMENT;
  } catch (const std::exception& error) {
    last = error.what();
    status = NHWC_CONV_FAILED;
  }
  *text = last.c_str();
  return status;
}

std::vector<int64_t> sizes_of(NhwcConvSizes sizes) { return {sizes.values, sizes.values + sizes.count}; }

double fma_peak(int32_t dtype, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto measure = nhwc_conv::with_types(dtype, [](auto types) { return types.kernels().peak; });
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto start = Clock::now();
    const double operations = measure(20000);
    const double rate = operations / std::chrono::duration<double>(Clock::now() - start).count() * 1e-9;
    if (rate > best) best = rate;
  } while (Clock::now() < end);
  return best;
}

}  // namespace

const char* nhwc_conv_build_id() { return NHWC_BUILD_ID; }

int32_t nhwc_conv_instruction_set(const char** text) {
  return answer(text, [] { return nhwc_conv::active_kernels().name; });
}

const char* nhwc_conv_usable_instruction_set(int32_t index) { return nhwc_conv::usable_instruction_set(index); }

int32_t nhwc_conv_set_instruction_set(const char* name, const char** text) {
  return answer(text, [&] {
    if (!nhwc_conv::select_kernels(name)) {
      throw std::invalid_argument(std::string("instruction set '") + name +
                                  "' is not usable here; usable: " + nhwc_conv::usable_instruction_sets());
    }
    return name;
  });
}

void nhwc_conv_set_winograd(int32_t enabled) { nhwc_conv::set_winograd_enabled(enabled != 0); }

void nhwc_conv_share_all_work(int32_t enabled) { nhwc_conv::share_all_work(enabled != 0); }

int32_t nhwc_conv_fma_peak(const char* dtype, double seconds, double* gflops, const char** text) {
  return answer(text, [&] {
    *gflops = fma_peak(nhwc_conv::computed_dtype_named(dtype), seconds);
    return dtype;
  });
}

void nhwc_conv_watch_kernels(int32_t enabled) {
  nhwc_conv::KernelClock::watched = enabled != 0;
  nhwc_conv::KernelClock::nanoseconds = nhwc_conv::KernelClock::passes = 0;
}

double nhwc_conv_kernel_seconds(int64_t* passes) {
  *passes = nhwc_conv::KernelClock::passes;
  return nhwc_conv::KernelClock::nanoseconds * 1e-9;
}

int32_t nhwc_conv_explain(const char* direction, const char* algorithm, const char* dtype, NhwcConvSizes x_shape,
                          NhwcConvSizes w_shape, NhwcConvSizes stride, NhwcConvSizes padding, NhwcConvSizes dilation,
                          int64_t groups, int64_t auto_pad, const char** text) {
  return answer(text, [&] {
    const std::vector<int64_t> strides = sizes_of(stride), pads = sizes_of(padding), dilations = sizes_of(dilation);
    return nhwc_conv::explain(direction, algorithm, dtype, sizes_of(x_shape), sizes_of(w_shape),
                              {strides, pads, dilations, groups, auto_pad});
  });
}

int32_t nhwc_conv_packed_size(const char* dtype, NhwcConvSizes w_shape, int64_t groups, int32_t winograd,
                              int64_t* elements, const char** text) {
  return answer(text, [&] {
    if (w_shape.count != 4) throw std::invalid_argument("w_shape must have four sizes");
    *elements =
        nhwc_conv::packed_elements(nhwc_conv::computed_dtype_named(dtype), w_shape.values, groups, winograd != 0);
    return dtype;
  });
}

void nhwc_conv_attach_python() { nhwc_conv::attach_python(); }
