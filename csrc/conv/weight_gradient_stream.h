// The weight gradient of 1x1 kernels over a few pixels: every value takes so few products that what counts is how the
// gradient, far larger than what it is made of, gets to memory. So it is made a row at a time, in the order of memory,
// where tiles would write short pieces of many rows in turn.
#pragma once

#include "weight_gradient_result.h"

namespace nhwc_conv {

struct StreamGradientPlan : PlanMemory {
  bool by_outputs;  // rows are those of an output, as OIHW weights have them, else of an input channel
  int64_t rows, columns;

  Explanation explain() const {
    Explanation plan = {"weight_gradient_stream", "direct", "view"};
    plan.partials = 1;
    return plan;
  }
};

// Whether the pixels are one row, too few for tiles, and the gradient has long rows.
template <class S, class A> bool takes_stream(const GradientOperands<S, A>& o, const Gradient<S, A>& dw) {
  const ConvGeometry& g = o.g;
  const bool one_row = g.N == 1 && g.h.output == 1 && 0 < g.w.output && g.w.output <= kStreamedPixels;
  if (!std::is_same_v<S, A> || !one_row || g.groups > 1 || g.taps() > 1) return false;
  const int64_t columns = dw.order == WeightOrder::hwio ? g.O : g.C;
  return g.w.outputs(0).size() == g.w.output && g.h.outputs(0).size() == 1 && can_view<A>(o.x) && can_view<A>(o.grad) &&
         columns * static_cast<int64_t>(sizeof(A)) >= kLongRowBytes;
}

template <class S, class A>
StreamGradientPlan make_stream_gradient_plan(const GradientOperands<S, A>& o, const Gradient<S, A>& dw) {
  StreamGradientPlan plan = {};
  plan.by_outputs = dw.order != WeightOrder::hwio;
  plan.rows = plan.by_outputs ? o.g.O : o.g.C;
  plan.columns = plan.by_outputs ? o.g.C : o.g.O;
  plan.scratch_elements = kPartRows * o.g.w.output;
  return plan;
}

template <class S, class A> class StreamWeightGradient {
 public:
  StreamWeightGradient(const StreamGradientPlan& plan, const GradientOperands<S, A>& o) : plan_(plan), o_(o) {}

  void run(const Parallel& parallel, A* workspace) const {
    const ConvGeometry& g = o_.g;
    const int64_t pixels = g.w.output, columns = plan_.columns;
    ImageView<const A> x = in_place<A>(o_.x), grad = in_place<A>(o_.grad);
    x.data += g.h.input_of(0, 0) * x.h + g.w.input_of(0, 0) * x.w;
    x.w *= g.w.stride;
    const ImageView<const A>&left = plan_.by_outputs ? grad : x, &right = plan_.by_outputs ? x : grad;
    for_each_item(parallel, ceil_div(plan_.rows, kPartRows), [&](int64_t item, int64_t slot) {
      const Range rows = Range{item * kPartRows, (item + 1) * kPartRows}.within({0, plan_.rows});
      A* const factors = workspace + slot * plan_.scratch_elements;
      o_.kernels.rearrange({left.data + rows.begin, 1, left.w, factors, pixels, rows.size(), pixels});
      for (int64_t row = rows.begin; row < rows.end; row += kRowsAtOnce) {
        const int64_t count = min(kRowsAtOnce, rows.end - row);
        const A* const from = factors + (row - rows.begin) * pixels;
        A* const to = o_.dw + row * columns;
        o_.kernels.stream({from, pixels, right.data, right.w, to, columns, count, pixels, columns, true});
      }
    });
  }

 private:
  static constexpr int64_t kRowsAtOnce = 2;

  const StreamGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
};

}  // namespace nhwc_conv
