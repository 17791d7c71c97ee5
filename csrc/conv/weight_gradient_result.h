// Where a weight gradient goes, and the last pass of sums that cannot be made there.
#pragma once

#include "operands.h"
#include "parallel.h"

namespace nhwc_conv {

// Rounded to the type of storage, or else the sums themselves.
template <class S, class A> struct Gradient {
  S* rounded;
  A* sums;
  WeightOrder order = WeightOrder::hwio;

  // Whether sums, with outputs side by side, can be made in it; and there.
  bool holds_sums() const { return order == WeightOrder::hwio && (std::is_same_v<S, A> || sums != nullptr); }
  A* place() const { return sums != nullptr ? sums : reinterpret_cast<A*>(rounded); }

  // Rows of sums are made in the order of memory, where the plan allows it.
  bool wants_taps_inside() const { return order == WeightOrder::oihw; }

  // From complete sums, [C/groups][taps][O] or [taps][C/groups][O].
  void finish(const Kernels<S, A>& kernels, const ConvGeometry& g, const Parallel& parallel, const A* from,
              bool taps_inside) const {
    if (order == WeightOrder::hwio) {
      const int64_t chunk = 16 * 1024, elements = g.depth() * g.O;
      for_each_item(parallel, ceil_div(elements, chunk), [&](int64_t item, int64_t) {
        const int64_t begin = item * chunk, count = min(elements - begin, chunk);
        kernels.finish({from + begin, count, rounded + begin, count, 1, 1, count, Activation::none});
      });
      return;
    }
    // The rows of a run are evenly spaced in `from`, and neighbours in the result.
    const bool one_run = order == WeightOrder::ohwi || taps_inside || g.taps() == 1;
    const int64_t chunk = one_run ? kRowsAtOnce : g.taps(), apart = one_run ? g.O : g.C_per_group() * g.O;
    for_each_item(parallel, ceil_div(g.depth(), chunk), [&](int64_t item, int64_t) {
      const int64_t first = item * chunk, rows = min(g.depth() - first, chunk);
      const A* const run = from + (one_run ? first : item) * g.O;
      if (rounded != nullptr) {
        kernels.finish({run, apart, rounded + first, 1, g.depth(), rows, g.O, Activation::none});
      } else {
        kernels.rearrange({run, 1, apart, sums + first, g.depth(), g.O, rows});
      }
    });
  }

 private:
  static constexpr int64_t kRowsAtOnce = 64;
};

}  // namespace nhwc_conv
