// One convolution pass, dense, depthwise or by Winograd, behind one face: a forward pass is one, an input gradient is
// one per phase.
#pragma once

#include "dense.h"
#include "depthwise.h"
#include "parallel.h"
#include "winograd.h"

namespace nhwc_conv {

enum class Method { dense, depthwise, winograd };

struct ConvPlan {
  Method method;
  DensePlan dense;  // of these three the method's own
  DepthwisePlan lanewise;
  WinogradPlan winograd;
  int64_t packed_elements;   // shared by all threads
  int64_t prepacked_offset;  // of what the method reads among weights packed ahead of the call
  int64_t scratch_elements;  // of each thread
  int64_t lanewise_row;      // not zero: the dense method reads weights that were packed in rows of so many lanes
};

// The weights as the dense method finds them: given, or packed for lanes over all groups, [KH][KW][C/groups] rows with
// the outputs of every group.
template <class T>
WeightView<const T> dense_weights(const ConvPlan& plan, const ConvGeometry& g, const WeightView<const T>& given,
                                  const T* packed) {
  if (plan.lanewise_row == 0) return given;
  const int64_t tap = g.C_per_group() * plan.lanewise_row;
  return {packed, g.w.kernel * tap, tap, plan.lanewise_row, 1, g.O_per_group()};
}

// A 1x1 convolution of stride 1 without padding is one matrix product over all pixels, if they lie evenly in memory:
// its geometry becomes that of one long row. The result, which is contiguous, needs no other view.
template <class T>
void join_pixels(ConvGeometry& g, const ImageView<const T>& x) {
  const bool pointwise = g.h.kernel == 1 && g.w.kernel == 1 && g.h.stride == 1 && g.w.stride == 1 && g.h.pad == 0 &&
                         g.w.pad == 0 && g.h.output == g.h.input && g.w.output == g.w.input;
  if (!pointwise || x.h != g.w.input * x.w || (g.N > 1 && x.n != g.h.input * x.h)) return;
  const int64_t pixels = g.N * g.h.input * g.w.input;
  g.N = 1;
  g.h.input = g.h.output = 1;
  g.w.input = g.w.output = pixels;
}

// Algorithm::winograd takes geometries that fit it only; automatic takes it where it wins and may.
//
// Where groups are narrow, lanes run over the channels of all of them: im2col then copies the rows that a region of
// outputs reads, padding included, and matmul and automatic read them where they lie, unless that is slower.
template <class T>
ConvPlan make_plan(const Kernels<T>& kernels, const ConvGeometry& g, const ImageView<const T>& x,
                   const WeightView<const T>& w, Algorithm algorithm, int threads,
                   const Prepacked* prepacked = nullptr) {
  ConvPlan plan = {};
  const bool lanewise = is_depthwise(kernels, g);
  const bool transformed = prepacked && keeps_winograd(*prepacked, g);
  if (takes_winograd<T>(algorithm, g, transformed ? WinogradWeights::prepacked : WinogradWeights::given)) {
    plan.method = Method::winograd;
    plan.winograd = make_winograd_plan(kernels, g, threads, prepacked);
    if (transformed) plan.prepacked_offset = prepacked->direct_elements;
    plan.packed_elements = plan.winograd.packed_elements;
    plan.scratch_elements = plan.winograd.scratch_elements;
  } else if (lanewise && (is_direct_by_name(algorithm) || g.C_per_group() == 1 || !takes_planes(kernels, g))) {
    plan.method = Method::depthwise;
    plan.lanewise =
        make_depthwise_plan(kernels, g, x, lanes_contiguous(g, w), threads,
                            algorithm == Algorithm::im2col ? RegionRows::packed : RegionRows::packed_if_better);
    plan.packed_elements = plan.lanewise.packed_elements;
    plan.scratch_elements = plan.lanewise.scratch_elements();
  } else {
    plan.method = Method::dense;
    if (prepacked && lanewise) plan.lanewise_row = spread<T>(g.O);
    const WeightView<const T> weights = dense_weights(plan, g, w, static_cast<const T*>(nullptr));
    plan.dense = make_dense_plan(kernels, g, dense_layout(g, x, weights), algorithm, threads,
                                 prepacked && !lanewise ? &prepacked->form : nullptr);
    plan.packed_elements = plan.dense.packed_elements;
    plan.scratch_elements = plan.dense.scratch_elements;
  }
  return plan;
}

// Pack every pack_items() item, then run every items() item, in any order and on any thread.
template <class T>
class Convolution {
 public:
  Convolution(const Kernels<T>& kernels, const ConvPlan& plan, const ConvGeometry& g, const ImageView<const T>& x,
              const WeightView<const T>& w, const ImageView<T>& y, const T* bias, T* packed)
      : method_(plan.method),
        dense_(kernels, plan.dense, g, x, dense_weights(plan, g, w, static_cast<const T*>(packed)), y, bias, packed),
        depthwise_(kernels, plan.lanewise, g, x, w, y, bias, packed),
        winograd_(kernels, plan.winograd, g, x, w, y, bias, packed) {}

  int64_t pack_items() const {
    return visit([](const auto& conv) { return conv.pack_items(); });
  }
  void pack(int64_t item) const {
    visit([&](const auto& conv) { conv.pack(item); });
  }
  int64_t items() const {
    return visit([](const auto& conv) { return conv.items(); });
  }
  void run(int64_t item, T* scratch) const {
    visit([&](const auto& conv) { conv.run(item, scratch); });
  }

 private:
  template <class Call>
  auto visit(const Call& call) const {
    if (method_ == Method::winograd) return call(winograd_);
    return method_ == Method::depthwise ? call(depthwise_) : call(dense_);
  }

  Method method_;
  DenseConv<T> dense_;
  DepthwiseConv<T> depthwise_;
  WinogradConv<T> winograd_;
};

}  // namespace nhwc_conv
