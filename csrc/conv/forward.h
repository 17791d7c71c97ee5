// The forward pass.
#pragma once

#include "convolution.h"
#include "parallel.h"
#include "pointwise.h"

namespace nhwc_conv {

// What the weights of a forward pass are: a tensor, or a buffer that PackedWeights has filled.
template <class S, class A> struct GivenWeights {
  WeightView<const S> view;
  const A* packed;  // behind the header; or null
  Prepacked layout;
};

template <class S, class A> class Forward {
 public:
  // The result's view may have any strides.
  Forward(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
          const ImageView<const S>& x, const GivenWeights<S, A>& weights, const BiasView<S>& bias,
          const Result<S, A>& result)
      : kernels_(kernels), g_(g), x_(x), weights_(weights), bias_(bias), result_(result) {
    const bool is_plain = algorithm == Algorithm::automatic && bias.data == nullptr && weights.packed == nullptr;
    if (is_plain && exchanges_roles(kernels, g_, x_, result_)) {
      exchanged_ = {g_.N, x_.n, result_.y.n, result_.residual.n};
      exchange_roles(g_, x_, weights_.view, result_);
    } else {
      join_pixels(kernels, g_, x_, result_);
    }
    const Prepacked* prepacked = weights_.packed ? &weights_.layout : nullptr;
    plan_ = make_plan(kernels, g_, x_, weights_.view, result_, algorithm, threads, prepacked);
  }

  // A bias that is not one run of values of type A is staged behind the packed weights, in whole lines.
  PlanMemory memory() const {
    const int64_t bias = stages_bias() ? whole_lines<A>(g_.O) : 0;
    return {packed_elements() + bias, plan_.memory().scratch_elements};
  }

  void run(const Parallel& parallel, A* workspace) const {
    // Not written unless it is the workspace.
    A* const packed = weights_.packed ? const_cast<A*>(weights_.packed) : workspace;
    const A* bias = in_place<A>(bias_.data);
    if (stages_bias()) {
      A* const staged = workspace + packed_elements();
      kernels_.copy({bias_.data, 0, bias_.step, staged, 0, 1, g_.O});
      bias = staged;
    }
    Operands<S, A> operands = {kernels_, g_, x_, weights_.view, bias, result_, packed};
    for (int64_t image = 0; image < exchanged_.images; ++image) {
      run(parallel, operands, workspace);
      operands.w.data += exchanged_.x;
      operands.result.y.data += exchanged_.y;
      if (operands.result.residual.data != nullptr) operands.result.residual.data += exchanged_.residual;
    }
  }

  Explanation explain() const {
    Explanation plan = plan_.explain();
    plan.phases = 1;
    return plan;
  }

 private:
  // Of images that have exchanged roles with the weights: so many, one by one, and from one to the next.
  struct Exchanged {
    int64_t images, x, y, residual;
  };

  void run(const Parallel& parallel, const Operands<S, A>& operands, A* workspace) const {
    const PlanMemory wanted = memory();
    A* const scratch = workspace + wanted.packed_elements;
    with_runner<S, A>(plan_, operands, [&](const auto& runner) {
      if (!weights_.packed) {
        for_each_item(parallel, runner.pack_items(), [&](int64_t item, int64_t) { runner.pack(item); });
      }
      for_each_item(parallel, runner.items(),
                    [&](int64_t item, int64_t slot) { runner.run(item, scratch + slot * wanted.scratch_elements); });
    });
  }

  int64_t packed_elements() const { return weights_.packed ? 0 : plan_.memory().packed_elements; }
  bool stages_bias() const { return bias_.data != nullptr && (bias_.step != 1 || !std::is_same_v<S, A>); }

  const Kernels<S, A>& kernels_;
  ConvGeometry g_;
  ImageView<const S> x_;
  GivenWeights<S, A> weights_;
  BiasView<S> bias_;
  Result<S, A> result_;
  Exchanged exchanged_ = {1, 0, 0, 0};
  ConvPlan plan_;
};

}  // namespace nhwc_conv
