// Weights packed once, ahead of the calls that use them. The buffer begins with a header that says what it holds and
// for which vectors, so that weights packed for another shape or instruction set are refused instead of misread.
#pragma once

#include "convolution.h"

namespace nhwc_conv {

constexpr int64_t kPackedHeader = 16;  // elements: a whole cache line of float, so that what follows stays aligned

// The layout follows from the weights alone, for no size of an image is known yet: tiles suit rows of middling width.
// Of `weights` only kernel sizes, C, O and groups are read.
template <class T>
DenseForm packed_form(const Kernels<T>& kernels, const ConvGeometry& weights) {
  return choose_form(kernels, weights.O_per_group(), 56, weights.w.kernel * weights.C_per_group());
}

template <class T>
ConvPlan make_packing_plan(const Kernels<T>& kernels, const ConvGeometry& weights) {
  const int64_t depth = weights.h.kernel * weights.w.kernel * weights.C_per_group();
  ConvPlan plan = {};
  plan.depthwise = is_depthwise<T>(weights);
  plan.lanewise.pack_weights = plan.dense.pack_weights = true;
  if (plan.depthwise) {
    plan.packed_elements = depth * weights.O;
  } else {
    const DenseForm form = packed_form(kernels, weights);
    plan.dense.dot = form.dot;
    plan.dense.columns = form.columns;
    plan.packed_elements = weights.groups * depth * form.columns.padded_columns();
  }
  return plan;
}

template <class T>
void write_header(T* packed, const ConvGeometry& weights, const ConvPlan& plan) {
  const int64_t values[] = {weights.h.kernel, weights.w.kernel,         weights.C_per_group(),
                            weights.O,        weights.groups,           plan.depthwise,
                            plan.dense.dot,   plan.dense.columns.lanes, plan.dense.columns.vectors};
  const int64_t count = sizeof(values) / sizeof(values[0]);
  for (int64_t i = 0; i < kPackedHeader; ++i) packed[i] = i < count ? static_cast<T>(values[i]) : T(0);
}

template <class T>
bool header_matches(const T* packed, const ConvGeometry& weights, const ConvPlan& plan) {
  T expected[kPackedHeader];
  write_header(expected, weights, plan);
  for (int64_t i = 0; i < kPackedHeader; ++i) {
    if (packed[i] != expected[i]) return false;
  }
  return true;
}

}  // namespace nhwc_conv
