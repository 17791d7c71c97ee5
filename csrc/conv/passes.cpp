#include "passes.h"

#include <atomic>

namespace nhwc_conv {

namespace {

std::atomic<bool> winograd_enabled{true};

}  // namespace

void set_winograd_enabled(bool value) { winograd_enabled.store(value, std::memory_order_relaxed); }
bool is_winograd_enabled() { return winograd_enabled.load(std::memory_order_relaxed); }

#define NHWC_STORAGE(S, A, dtype)      \
  template class Forward<S, A>;        \
  template class Chain<S, A>;          \
  template class InputGradient<S, A>;  \
  template class WeightGradient<S, A>; \
  template class PackedWeights<S, A>;  \
  template class PackedPhases<S, A>;   \
  template class ChannelMeans<S, A>;   \
  template class ImageProduct<S, A>;   \
  template class MaxPool<S, A>;
#include "../kernels/storage_types.def"

}  // namespace nhwc_conv
