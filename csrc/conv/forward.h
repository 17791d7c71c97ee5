// The forward pass.
#pragma once

#include "convolution.h"
#include "parallel.h"

namespace nhwc_conv {

// What the weights of a forward pass are: a tensor, or a buffer that PackedWeights has filled.
template <class S, class A> struct GivenWeights {
  WeightView<const S> view;
  const A* packed;  // behind the header; or null
  Prepacked layout;
};

// A 1x1 convolution of stride 1 without padding is one matrix product over all pixels, if they lie evenly in memory:
// its geometry becomes that of one long row.
template <class S, class A>
void join_pixels(ConvGeometry& g, const ImageView<const S>& x, const Result<S, A>& result) {
  const auto keeps = [](const Axis& axis) {
    return axis.kernel == 1 && axis.stride == 1 && axis.pad == 0 && axis.output == axis.input;
  };
  const auto is_even = [&](const auto& view) {
    return view.h == g.w.input * view.w && (g.N == 1 || view.n == g.h.input * view.h);
  };
  if (!keeps(g.h) || !keeps(g.w) || !is_even(x) || !is_even(result.y)) return;
  if (result.residual.data != nullptr && !is_even(result.residual)) return;
  const int64_t pixels = g.N * g.h.input * g.w.input;
  g.N = g.h.input = g.h.output = 1;
  g.w.input = g.w.output = pixels;
}

template <class S, class A> class Forward {
 public:
  // The result's view may have any strides.
  Forward(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
          const ImageView<const S>& x, const GivenWeights<S, A>& weights, const BiasView<S>& bias,
          const Result<S, A>& result)
      : kernels_(kernels), g_(g), x_(x), weights_(weights), bias_(bias), result_(result) {
    join_pixels(g_, x_, result_);
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
    const PlanMemory wanted = memory();
    A* const scratch = workspace + wanted.packed_elements;
    const A* bias = in_place<A>(bias_.data);
    if (stages_bias()) {
      A* const staged = workspace + packed_elements();
      kernels_.copy({bias_.data, 0, bias_.step, staged, 0, 1, g_.O});
      bias = staged;
    }
    with_runner<S, A>(plan_, {kernels_, g_, x_, weights_.view, bias, result_, packed}, [&](const auto& runner) {
      if (!weights_.packed) {
        for_each_item(parallel, runner.pack_items(), [&](int64_t item, int64_t) { runner.pack(item); });
      }
      for_each_item(parallel, runner.items(),
                    [&](int64_t item, int64_t slot) { runner.run(item, scratch + slot * wanted.scratch_elements); });
    });
  }

  Explanation explain() const {
    Explanation plan = plan_.explain(g_);
    plan.phases = 1;
    return plan;
  }

 private:
  int64_t packed_elements() const { return weights_.packed ? 0 : plan_.memory().packed_elements; }
  bool stages_bias() const { return bias_.data != nullptr && (bias_.step != 1 || !std::is_same_v<S, A>); }

  const Kernels<S, A>& kernels_;
  ConvGeometry g_;
  ImageView<const S> x_;
  GivenWeights<S, A> weights_;
  BiasView<S> bias_;
  Result<S, A> result_;
  ConvPlan plan_;
};

}  // namespace nhwc_conv
