// Weights packed once, ahead of the calls that use them. The buffer begins with a header that says what it holds, for
// which vectors, and of which weight, so that what was packed for another shape or instruction set is refused instead
// of misread, and what was packed before the weight changed can be told from what was packed since.
#pragma once

#include <cstring>

#include "convolution.h"

namespace nhwc_conv {

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
  bool with_winograd;

  PackingPlan(const Kernels<T>& kernels, const ConvGeometry& weights, bool winograd)
      : direct{}, layout{}, with_winograd(winograd) {
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

// Kernels of vectors of so many bytes as a PackingPlan sees them: widths, no code. How many rows and vectors a tile has
// moves no size.
template <class T>
Kernels<T> kernel_widths(int64_t vector_bytes) {
  Kernels<T> kernels = {};
  kernels.dot_lanes = vector_bytes / sizeof(T);
  for (int lanes = kernels.dot_lanes; lanes > 0; lanes = narrower<T>(lanes)) {
    for (int vectors = 1; vectors <= 2; ++vectors) {
      TileFamily<T>& family = kernels.family[kernels.families++];
      family.lanes = lanes;
      family.vectors = vectors;
      family.max_rows = 1;
    }
    kernels.lanewise[kernels.lanewise_families++].lanes = lanes;
  }
  return kernels;
}

// Which weight was packed: where it lay and how often it had been written to. Nothing is known of one whose writes are
// not counted.
struct WeightState {
  int64_t address, version, strides[4];

  static constexpr int64_t kUncounted = -1;
};

inline bool operator==(const WeightState& a, const WeightState& b) {
  return a.version != WeightState::kUncounted && std::memcmp(&a, &b, sizeof(a)) == 0;
}

// Integers of 64 bits, whatever the elements of the buffer are.
struct PackedHeader {
  int64_t elements;  // of the whole buffer
  int64_t with_winograd, kernel_h, kernel_w, C_per_group, O, groups;
  int64_t form;  // 0 columns, 1 dot, 2 lanes over all groups
  int64_t lanes, vectors;
  WeightState weight;
};
static_assert(sizeof(PackedHeader) == 2 * kLineBytes, "no gaps; what follows stays aligned");

// In elements.
template <class T>
constexpr int64_t kPackedHeader = sizeof(PackedHeader) / sizeof(T);

template <class T>
PackedHeader header_of(const ConvGeometry& weights, const PackingPlan<T>& plan, int64_t elements,
                       const WeightState& weight) {
  const ColumnTiles& columns = plan.layout.form.columns;
  const int64_t form = plan.direct.method == Method::depthwise ? 2 : plan.layout.form.dot;
  return {elements,
          plan.with_winograd,
          weights.h.kernel,
          weights.w.kernel,
          weights.C_per_group(),
          weights.O,
          weights.groups,
          form,
          columns.lanes,
          columns.vectors,
          weight};
}

// Of a buffer that has as many elements as a header.
template <class T>
PackedHeader read_header(const T* packed) {
  PackedHeader header;
  std::memcpy(&header, packed, sizeof(header));
  return header;
}

// Whether a buffer of so many elements, which begins with `header`, holds these weights as `plan` lays them out.
template <class T>
bool header_matches(const PackedHeader& header, const ConvGeometry& weights, const PackingPlan<T>& plan,
                    int64_t elements) {
  const PackedHeader expected = header_of(weights, plan, elements, header.weight);
  return std::memcmp(&header, &expected, sizeof(header)) == 0 && elements >= kPackedHeader<T> + plan.elements();
}

}  // namespace nhwc_conv
