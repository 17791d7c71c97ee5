// The dense runner for one row of outputs that are one tile, on weights that are read where they lie. How long it takes
// is a matter of memory, so weights come in its order: a few rows [O] of them at a time for all outputs, whose sums
// stay in the first-level cache meanwhile. By tiles of columns, each with all rows, every read would be on a page of
// its own.
#pragma once

#include "dense.h"

namespace nhwc_conv {

struct StreamPlan : DensePlan {
  int64_t column_shares;
};

template <class S, class A> class StreamRunner {
 public:
  StreamRunner(const StreamPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o), product_(plan, o) {}

  int64_t pack_items() const { return 0; }
  void pack(int64_t) const {}
  int64_t items() const { return o_.g.groups * plan_.column_shares; }

  void run(int64_t index, Sum<A>* scratch) const {
    const ConvGeometry& g = o_.g;
    const int64_t group = index / plan_.column_shares, width = plan_.form.columns.widest();
    // Whole tiles, but for the last share.
    const Range tiles = share_of(g.O_per_group() / width, index % plan_.column_shares, plan_.column_shares);
    const bool last = index % plan_.column_shares + 1 == plan_.column_shares;
    const Range columns = {tiles.begin * width, last ? g.O_per_group() : tiles.end * width};
    const Region outputs = {{0, 1}, {0, g.w.output}, outputs_of(g, group, columns)};
    const ImageView<Sum<A>> sums = o_.result.sums(0, outputs, scratch);
    Sum<A>* const result = sums.data + outputs.channels.begin;
    const int64_t size = columns.size();
    for (int64_t b = 0; b < plan_.blocks(); ++b) {
      const Block block = product_.block(b);
      // Those of a later block are complete before they are added.
      Sum<A>* const to = block.first ? result : scratch + o_.result.scratch_elements(g.w.output * size);
      const int64_t to_pixel = block.first ? sums.w : size;
      for (int64_t p = 0; p < g.w.output; ++p) start(to + p * to_pixel, outputs.channels, block.first);
      multiply(block, group, columns, to, to_pixel);
      for (int64_t p = 0; p < g.w.output && !block.first; ++p) {
        o_.kernels.add(result + p * sums.w, to + p * to_pixel, size);
      }
    }
    o_.result.finish(o_.kernels, 0, outputs, sums);
  }

 private:
  // What a chain of products begins with.
  void start(Sum<A>* to, Range channels, bool first) const {
    for (int64_t o = 0; o < channels.size(); ++o) {
      to[o] = !first ? Sum<A>(-0.0) : o_.bias == nullptr ? Sum<A>(0) : o_.bias[channels.begin + o];
    }
  }

  // A block with some columns of a group. All taps exist: of a kernel row, they are one run.
  void multiply(const Block& block, int64_t group, Range columns, Sum<A>* to, int64_t to_pixel) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const ImageView<const A> x = from_group(in_place<A>(o_.x), o_.g, group);
    const A* const weights = in_place<A>(product_.weights.tap(group, 0, 0, 0)) + columns.begin;
    for (int64_t i = block.rows.begin; i < block.rows.end; ++i) {
      const A* const field = x.data + h.input_of(0, i) * x.h + w.input_of(0, 0) * x.w;
      const A* const row = weights + i * o_.w.i + block.inner.begin * o_.w.c;
      o_.kernels.stream({field + block.inner.begin, w.stride * x.w, row, o_.w.c, to, to_pixel, w.output,
                         block.inner.size(), columns.size()});
    }
  }

  const StreamPlan& plan_;
  const Operands<S, A>& o_;
  DenseProduct<S, A> product_;
};

}  // namespace nhwc_conv
