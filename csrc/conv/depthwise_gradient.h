// The weight gradient of depthwise.h's convolutions: rows of a tile are taps of one kernel row (or channels of one
// tap), lanes are output channels, and the reduction runs over output pixels.
#pragma once

#include "depthwise.h"

namespace nhwc_conv {

template <class T>
class DepthwiseWeightGradient {
 public:
  // x [N, H, W, C], grad [N, OH, OW, O]; dw [KH, KW, C/groups, O] contiguous.
  DepthwiseWeightGradient(const Kernels<T>& kernels, const ConvGeometry& g, const ImageView<const T>& x,
                          const ImageView<const T>& grad, T* dw);

  const DepthwisePlan& plan() const { return plan_; }
  int64_t partials() const { return partials_; }
  int64_t partial_elements() const { return (partials_ - 1) * elements_; }  // shared by all threads
  // Of each thread: the region of x, and a window of grad.
  int64_t scratch_elements() const { return plan_.region_elements + window_elements_; }

  // workspace: partial_elements() and then scratch_elements() for each of parallel.threads.
  void run(const Parallel& parallel, T* workspace) const;

 private:
  void add_block(T* dw, int64_t n, Range ys, Range xs, Range lanes, bool first, T* scratch) const;

  const Kernels<T>& kernels_;
  const ConvGeometry& g_;
  ImageView<const T> x_, grad_;
  T* dw_;
  DepthwisePlan plan_;
  int64_t elements_, blocks_h_, blocks_w_, partials_;
  // Taps stand as far apart as outputs: rows of x that all three kernel rows see are read once for them. By the
  // geometry alone: the other rows are summed after them.
  bool slides_;
  int64_t window_elements_;  // zero where grad is read where it lies
};

}  // namespace nhwc_conv
