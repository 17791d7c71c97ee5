// The weight gradient, and which method computes it.
#pragma once

#include <variant>

#include "weight_gradient_dense.h"
#include "weight_gradient_lanewise.h"
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
  // x [N, H, W, C] and grad [N, OH, OW, O], any strides; dw [KH, KW, C/groups, O], contiguous.
  WeightGradient(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                 const ImageView<const S>& x, const ImageView<const S>& grad, A* dw)
      : o_{kernels, g, x, grad, dw} {
    if (takes_winograd<A>(algorithm, g, WinogradWeights::gradient, g.N)) {
      plan_ = make_winograd_gradient_plan(kernels, g, threads);
      return;
    }
    join_single_pixels(o_.g, o_.x, o_.grad);
    if (is_lanewise<A>(kernels, o_.g)) {
      plan_ = make_lanewise_gradient_plan(o_);
    } else {
      plan_ = make_dense_gradient_plan(o_);
    }
  }

  PlanMemory memory() const {
    return std::visit([](const PlanMemory& memory) { return memory; }, plan_);
  }
  Explanation explain() const {
    return std::visit([](const auto& plan) { return plan.explain(); }, plan_);
  }
  void run(const Parallel& parallel, A* workspace) const {
    std::visit([&](const auto& plan) { runner_of(plan).run(parallel, workspace); }, plan_);
  }

 private:
  DenseWeightGradient<S, A> runner_of(const DenseGradientPlan& plan) const { return {plan, o_}; }
  LanewiseWeightGradient<S, A> runner_of(const LanewiseGradientPlan& plan) const { return {plan, o_}; }
  WinogradWeightGradient<S, A> runner_of(const WinogradGradientPlan& plan) const { return {plan, o_}; }

  GradientOperands<S, A> o_;
  std::variant<DenseGradientPlan, LanewiseGradientPlan, WinogradGradientPlan> plan_;
};

}  // namespace nhwc_conv
