// Weight gradients as sums over parts of the batch, so that threads have work where the weights are few. How many parts
// there are and where they end follows from the geometry alone: the same bits on any number of threads.
#pragma once

#include "../kernels/kernels.h"
#include "geometry.h"
#include "parallel.h"

namespace nhwc_conv {

constexpr int64_t kMaxPartials = 16;

// total[e] += partials[0][e], then partials[1][e], and so on: count - 1 of them, each of `elements`.
template <class T>
void add_partial_sums(const Kernels<T>& kernels, const Parallel& parallel, T* total, const T* partials,
                      int64_t elements, int64_t count) {
  if (count == 1) return;
  const int64_t chunk = 4096;
  for_each_item(parallel, ceil_div(elements, chunk), [&](int64_t item, int64_t) {
    const int64_t begin = item * chunk, size = clamp(elements - begin, 0, chunk);
    for (int64_t p = 0; p + 1 < count; ++p) kernels.add(total + begin, partials + p * elements + begin, size);
  });
}

}  // namespace nhwc_conv
