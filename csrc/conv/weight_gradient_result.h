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

  // From complete sums of all outputs, which stand as `o` has them.
  void finish(const GradientOperands<S, A>& o, const Parallel& parallel, const A* from) const {
    const int64_t Cg = o.g.C_per_group();
    const int64_t chunk = order == WeightOrder::oihw ? ceil_div(kRowsAtOnce, max(o.g.taps(), 1)) : kRowsAtOnce;
    for_each_item(parallel, ceil_div(Cg, chunk), [&](int64_t item, int64_t) {
      const Range channels = Range{item * chunk, (item + 1) * chunk}.within({0, Cg});
      finish(o, from + channels.begin * o.channel(), o.tap(), o.channel(), channels, {0, o.g.O});
    });
  }

  // From those of some input and some output channels, of which `from` is the first.
  void finish(const GradientOperands<S, A>& o, const A* from, int64_t tap, int64_t channel, Range channels,
              Range outputs) const {
    const int64_t Cg = o.g.C_per_group(), taps = o.g.taps(), depth = o.g.depth();
    // Rows of a run are evenly spaced in the sums.
    if (order == WeightOrder::hwio) {
      for (int64_t t = 0; t < taps; ++t, from += tap) {
        S* const to = rounded + (t * Cg + channels.begin) * o.g.O + outputs.begin;
        o.kernels.finish({from, channel, to, o.g.O, 1, channels.size(), outputs.size()});
      }
      return;
    }
    const auto run = [&](const A* first, int64_t apart, int64_t rows, int64_t to) {
      to += outputs.begin * depth;
      if (rounded != nullptr) {
        o.kernels.finish({first, apart, rounded + to, 1, depth, rows, outputs.size()});
      } else {
        o.kernels.rearrange({first, 1, apart, sums + to, depth, outputs.size(), rows});
      }
    };
    if (order == WeightOrder::ohwi) {
      for (int64_t t = 0; t < taps; ++t) run(from + t * tap, channel, channels.size(), t * Cg + channels.begin);
    } else if (channel == taps * tap) {
      run(from, tap, channels.size() * taps, channels.begin * taps);
    } else {
      for (int64_t c = channels.begin; c < channels.end; ++c, from += channel) run(from, tap, taps, c * taps);
    }
  }

 private:
  static constexpr int64_t kRowsAtOnce = 64;
};

}  // namespace nhwc_conv
