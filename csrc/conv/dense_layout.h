// What a dense plan may know about memory beyond the geometry.
#pragma once

#include "dense.h"
#include "regions.h"

namespace nhwc_conv {

struct DenseLayout {
  bool channels_viewed;  // of the input: contiguous, and better read where they lie
  bool rows_contiguous;  // of the input: one kernel row of taps is one run of KW*C values
  bool weights_usable;   // where they lie: output channels contiguous and the three reduction axes as one
  bool weights_along;    // where they lie: input channels contiguous
  bool weights_collide;  // where they lie: rows of a group push each other out of the first-level cache
  bool taps_neighbours;  // where they lie: all taps contiguous
};

template <class S, class A>
DenseLayout dense_layout(const ConvGeometry& g, const ImageView<const S>& x, const WeightView<const S>& w) {
  const int64_t Cg = g.C_per_group();
  DenseLayout layout;
  const bool contiguous = can_view<A>(x) || (std::is_same_v<S, A> && Cg == 1);
  layout.rows_contiguous = contiguous && (g.w.kernel == 1 || (g.w.dilation == 1 && in_place<A>(x).w == Cg));
  layout.channels_viewed = contiguous && !groups_collide<A>(g);
  layout.weights_usable = std::is_same_v<S, A> && (w.o == 1 || g.O_per_group() == 1) && w.c > 0 &&
                          (g.w.kernel <= 1 || w.j == Cg * w.c) && (g.h.kernel <= 1 || w.i == g.w.kernel * Cg * w.c);
  layout.weights_along = std::is_same_v<S, A> && w.c == 1;
  layout.weights_collide = g.groups > 1 && g.depth() > kCacheWays * cache_sets(w.c * static_cast<int64_t>(sizeof(A)));
  layout.taps_neighbours = taps_are_neighbours<A>(w, g);
  return layout;
}

}  // namespace nhwc_conv
