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

// What fills the buffer: the direct path's weights, then Winograd's if they pay and are asked for.
template <class T>
struct PackingPlan {
  ConvPlan direct;
  Prepacked layout;

  PackingPlan(const Kernels<T>& kernels, const ConvGeometry& weights, bool with_winograd) : direct{}, layout{} {
    const int64_t depth = weights.h.kernel * weights.w.kernel * weights.C_per_group();
    direct.lanewise.pack_weights = direct.dense.pack_weights = true;
    if (is_depthwise(kernels, weights)) {
      direct.method = Method::depthwise;
      direct.lanewise.packed_row = spread<T>(weights.O);
      layout.direct_elements = depth * direct.lanewise.packed_row;
    } else {
      layout.form = packed_form(kernels, weights);
      direct.dense.dot = layout.form.dot;
      direct.dense.columns = layout.form.columns;
      layout.direct_elements = weights.groups * depth * layout.form.columns.padded_columns();
      if (with_winograd && !layout.form.dot) {
        layout.winograd_elements = winograd_prepacked_elements<T>(weights, layout.form.columns);
      }
    }
  }

  int64_t elements() const { return layout.direct_elements + layout.winograd_elements; }
};

template <class T>
void write_header(T* packed, const ConvGeometry& weights, const PackingPlan<T>& plan) {
  const ColumnTiles& columns = plan.layout.form.columns;
  const int64_t values[] = {plan.layout.winograd_elements > 0,
                            weights.h.kernel,
                            weights.w.kernel,
                            weights.C_per_group(),
                            weights.O,
                            weights.groups,
                            plan.direct.method == Method::depthwise,
                            plan.layout.form.dot,
                            columns.lanes,
                            columns.vectors};
  const int64_t count = sizeof(values) / sizeof(values[0]);
  for (int64_t i = 0; i < kPackedHeader; ++i) packed[i] = i < count ? static_cast<T>(values[i]) : T(0);
}

// What the plan that the rest of the header is compared with must know before.
template <class T>
bool has_winograd(const T* header) {
  return header[0] != 0;
}

template <class T>
bool header_matches(const T* packed, const ConvGeometry& weights, const PackingPlan<T>& plan) {
  T expected[kPackedHeader];
  write_header(expected, weights, plan);
  for (int64_t i = 0; i < kPackedHeader; ++i) {
    if (packed[i] != expected[i]) return false;
  }
  return true;
}

}  // namespace nhwc_conv
