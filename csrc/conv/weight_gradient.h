// The weight gradient, and which method computes it.
#pragma once

#include <variant>

#include "weight_gradient_dense.h"
#include "weight_gradient_lanewise.h"
#include "weight_gradient_result.h"
#include "weight_gradient_stream.h"
#include "weight_gradient_winograd.h"

namespace nhwc_conv {

// Images of one pixel become the pixels of one image, whatever their layout: a reduction of one product for each image
// is mostly calls.
template <class S> void join_single_pixels(ConvGeometry& g, ImageView<const S>& x, ImageView<const S>& grad) {
  const auto is_one = [](const Axis& axis) {
    return axis.input == 1 && axis.output == 1 && axis.kernel == 1 && axis.pad == 0;
  };
  if (!is_one(g.h) || !is_one(g.w)) return;
  g.w = {g.N, g.N, 1, 1, 1, 0};
  x.w = x.n;
  grad.w = grad.n;
  g.N = 1;
}

template <class S, class A> class WeightGradient {
 public:
  // x [N, H, W, C] and grad [N, OH, OW, O], any strides.
  WeightGradient(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                 const ImageView<const S>& x, const ImageView<const S>& grad, const Gradient<S, A>& dw)
      : o_{kernels, g, x, grad, dw.place()}, result_(dw) {
    o_.taps_inside = dw.wants_taps_inside();
    // Of images from memory Winograd's transforms of a narrow group read a line of each pixel; grouped kernels read
    // all.
    const bool is_far = winograd_rivals_lanes<A>(kernels, g) && g.N * image_bytes<A>(g) >= kAskedImageBytes;
    const bool may_win = algorithm == Algorithm::winograd || !is_far;
    if (may_win && takes_winograd<A>(algorithm, g, WinogradWeights::gradient, g.N)) {
      plan_ = make_winograd_gradient_plan(kernels, g, threads);
      return;
    }
    join_single_pixels(o_.g, o_.x, o_.grad);
    if (takes_lanes<A>(kernels, o_.g)) {
      plan_ = make_lanewise_gradient_plan(o_);
      return;
    }
    if (takes_stream(o_, dw)) {
      plan_ = make_stream_gradient_plan(o_, dw);
      return;
    }
    DenseGradientPlan plan = make_dense_gradient_plan(o_);
    o_.taps_inside = o_.taps_inside && !plan.merges_taps && !plan.swapped();
    if (!dw.holds_sums()) finish_from_scratch(o_.g, plan);
    plan_ = plan;
  }

  // Sums that are not made in the result come first.
  PlanMemory memory() const {
    PlanMemory wanted = std::visit([](const PlanMemory& memory) { return memory; }, plan_);
    if (makes_sums_apart()) wanted.packed_elements += o_.elements();
    return wanted;
  }
  Explanation explain() const {
    return std::visit([](const auto& plan) { return plan.explain(); }, plan_);
  }
  void run(const Parallel& parallel, A* workspace) const {
    Operands o = o_;
    if (makes_sums_apart()) {
      o.dw = workspace;
      workspace += o.elements();
    }
    std::visit([&](const auto& plan) { runner_of(plan, o).run(parallel, workspace); }, plan_);
    if (makes_sums_apart()) result_.finish(o, parallel, o.dw);
  }

 private:
  using Operands = GradientOperands<S, A>;
  DenseWeightGradient<S, A> runner_of(const DenseGradientPlan& plan, const Operands& o) const {
    return {plan, o, result_};
  }
  static StreamWeightGradient<S, A> runner_of(const StreamGradientPlan& plan, const Operands& o) { return {plan, o}; }
  static LanewiseWeightGradient<S, A> runner_of(const LanewiseGradientPlan& plan, const Operands& o) {
    return {plan, o};
  }
  static WinogradWeightGradient<S, A> runner_of(const WinogradGradientPlan& plan, const Operands& o) {
    return {plan, o};
  }

  // All of them, before the first is finished.
  bool makes_sums_apart() const {
    const DenseGradientPlan* dense = std::get_if<DenseGradientPlan>(&plan_);
    if (result_.holds_sums() || std::holds_alternative<StreamGradientPlan>(plan_)) return false;
    return !(dense && dense->finishes_parts);
  }

  Operands o_;
  Gradient<S, A> result_;
  std::variant<DenseGradientPlan, StreamGradientPlan, LanewiseGradientPlan, WinogradGradientPlan> plan_;
};

}  // namespace nhwc_conv
