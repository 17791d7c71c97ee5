// Weights packed once, ahead of the calls that use them. The buffer begins with a header that says what it holds, for
// which vectors, and of which weight, so that what was packed for another shape or instruction set is refused instead
// of misread, and what was packed before the weight changed can be told from what was packed since.
#pragma once

#include <cstring>

#include "convolution.h"
#include "parallel.h"

namespace nhwc_conv {

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
  int64_t form;  // 0 columns, 1 dot, 2 lanes over all groups, 3 columns of pairs; and ten times kStorage of the weight
  int64_t lanes, vectors;
  WeightState weight;
};
static_assert(sizeof(PackedHeader) == 2 * kLineBytes, "no gaps; what follows stays aligned");

// Types of storage that have one type of arithmetic: weights of another dtype than x are refused, as unpacked ones are.
template <class S> constexpr int64_t kStorage = std::is_same_v<S, BFloat16> ? 1 : std::is_same_v<S, Float16> ? 2 : 0;

// In elements.
template <class A> constexpr int64_t kPackedHeader = sizeof(PackedHeader) / sizeof(A);

// Of a buffer that has as many elements as a header.
template <class A> PackedHeader read_header(const A* packed) {
  PackedHeader header;
  std::memcpy(&header, packed, sizeof(header));
  return header;
}

// What fills the buffer behind its header: the direct path's weights, then Winograd's if they pay and are asked for.
// The layout follows from the weights alone, for no size of an image is known yet: tiles suit rows of middling width.
template <class S, class A> class PackedWeights {
 public:
  // Of `weights` only kernel sizes, C, O and groups are read.
  PackedWeights(const Kernels<S, A>& kernels, const ConvGeometry& weights, bool with_winograd)
      : kernels_(kernels),
        g_(weights),
        with_winograd_(with_winograd),
        for_lanes_(takes_lanes<A>(kernels, weights)),
        in_pairs_(takes_pairs(kernels, weights, Algorithm::automatic)) {
    if (for_lanes_) layout_.direct_elements = g_.depth() * spread<A>(g_.O);
    if (for_lanes_ && !winograd_rivals_lanes<A>(kernels, weights)) return;
    const int64_t row = g_.w.kernel * g_.C_per_group();
    layout_.form =
        in_pairs_ ? choose_form(*kernels.pairs, g_, kPackedRun, row) : choose_form<A>(kernels, g_, kPackedRun, row);
    const int64_t depth = in_pairs_ ? in_pairs(g_).depth() : g_.depth();
    if (!for_lanes_) layout_.direct_elements = g_.groups * depth * layout_.form.columns.padded_columns();
    if (with_winograd && !layout_.form.dot) {
      layout_.winograd_elements = winograd_prepacked_elements<A>(g_, layout_.form.columns);
    }
  }

  const Prepacked& layout() const { return layout_; }
  int64_t elements() const { return kPackedHeader<A> + layout_.direct_elements + layout_.winograd_elements; }

  // Packs into a buffer of so many elements, elements() at least. Gaps are zero: buffers end up in files.
  void pack(const Parallel& parallel, const WeightView<const S>& w, const WeightState& state, int64_t size,
            A* buffer) const {
    std::memset(static_cast<void*>(buffer), 0, size * sizeof(A));
    const PackedHeader header = header_of(size, state);
    std::memcpy(static_cast<void*>(buffer), &header, sizeof(header));
    A* const direct = buffer + kPackedHeader<A>;
    if (for_lanes_) {
      for_each_item(parallel, g_.taps(),
                    [&](int64_t item, int64_t) { pack_lanes(kernels_, g_, w, spread<A>(g_.O), item, direct); });
    }
    const auto pack_dense = [&](const auto& weights) {
      for_each_item(parallel, weights.pack_items(), [&](int64_t item, int64_t) { weights.pack(item); });
    };
    if constexpr (kHasPairs<S, A>) {
      if (in_pairs_) {
        const ConvGeometry pairs = in_pairs(g_);
        pack_dense(DenseWeights<S, BFloat16Pair>(*kernels_.pairs, pairs, layout_.form, in_pairs(w, g_),
                                                 elements_in<BFloat16Pair>(direct)));
      }
    }
    if (!in_pairs_ && !for_lanes_) pack_dense(DenseWeights<S, A>(kernels_, g_, layout_.form, w, direct));
    if (layout_.winograd_elements == 0) return;
    WinogradPlan plan = {};
    plan.patch = 4;
    plan.columns = layout_.form.columns;
    plan.depth_blocks = depth_blocks_of(g_);
    const Operands<S, A> operands = {kernels_, g_, {}, w, nullptr, {}, direct + layout_.direct_elements};
    const TransformedWeights<S, A> transformed(plan, operands);
    for_each_item(parallel, transformed.pack_items(), [&](int64_t item, int64_t) { transformed.pack(item); });
  }

  // Whether a buffer of so many elements, which begins with `header`, holds these weights in this layout.
  bool matches(const PackedHeader& header, int64_t size) const {
    const PackedHeader expected = header_of(size, header.weight);
    return std::memcmp(&header, &expected, sizeof(header)) == 0 && size >= elements();
  }

 private:
  PackedHeader header_of(int64_t size, const WeightState& state) const {
    const int64_t form = for_lanes_ ? 2 : in_pairs_ ? 3 : layout_.form.dot ? 1 : 0;
    return {size,
            with_winograd_ ? 1 : 0,
            g_.h.kernel,
            g_.w.kernel,
            g_.C_per_group(),
            g_.O,
            g_.groups,
            form + 10 * kStorage<S>,
            layout_.form.columns.lanes,
            layout_.form.columns.vectors,
            state};
  }

  const Kernels<S, A>& kernels_;
  const ConvGeometry& g_;
  bool with_winograd_, for_lanes_, in_pairs_;
  Prepacked layout_ = {};
};

// Kernels of vectors of so many bytes as PackedWeights sees them: widths, no code. How many rows and vectors a tile has
// moves no size.
template <class S, class A> Kernels<S, A> kernel_widths(int64_t vector_bytes) {
  Kernels<S, A> kernels = {};
  kernels.dot_lanes = vector_bytes / sizeof(A);
  for (int lanes = kernels.dot_lanes; lanes > 0; lanes = narrower<A>(lanes)) {
    for (int vectors = 1; vectors <= 2; ++vectors) {
      TileFamily<A>& family = kernels.family[kernels.families++];
      family.lanes = lanes;
      family.vectors = vectors;
      family.max_rows = family.rows_of_many = 1;
    }
    kernels.lanewise[kernels.lanewise_families++].lanes = lanes;
  }
  return kernels;
}

}  // namespace nhwc_conv
