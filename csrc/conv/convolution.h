// One convolution pass, dense or depthwise, behind one face: a forward pass is one, an input gradient is one per phase.
#pragma once

#include "dense.h"
#include "depthwise.h"
#include "parallel.h"

namespace nhwc_conv {

struct ConvPlan {
  bool depthwise;
  DensePlan dense;           // if not depthwise
  DepthwisePlan lanewise;    // if depthwise
  int64_t packed_elements;   // shared by all threads
  int64_t scratch_elements;  // of each thread
};

// Where groups are narrow, lanes run over the channels of all of them: im2col then copies the rows that a region of
// outputs reads, padding included, and matmul and automatic read them where they lie.
template <class T>
ConvPlan make_plan(const Kernels<T>& kernels, const ConvGeometry& g, const ImageView<const T>& x,
                   const WeightView<const T>& w, Algorithm algorithm, int threads,
                   const DenseForm* prepacked = nullptr) {
  ConvPlan plan = {};
  plan.depthwise = is_depthwise<T>(g);
  if (plan.depthwise) {
    plan.lanewise = make_depthwise_plan<T>(g, lanes_contiguous(g, w), x.c == 1, threads,
                                           algorithm == Algorithm::im2col ? Rows::packed : Rows::packed_if_short);
    plan.packed_elements = plan.lanewise.packed_elements;
    plan.scratch_elements = plan.lanewise.region_elements;
  } else {
    plan.dense = make_dense_plan(kernels, g, dense_layout(g, x, w), algorithm, threads, prepacked);
    plan.packed_elements = plan.dense.packed_elements;
    plan.scratch_elements = plan.dense.panel_elements;
  }
  return plan;
}

// Pack every pack_items() item, then run every items() item, in any order and on any thread.
template <class T>
class Convolution {
 public:
  Convolution(const Kernels<T>& kernels, const ConvPlan& plan, const ConvGeometry& g, const ImageView<const T>& x,
              const WeightView<const T>& w, const ImageView<T>& y, const T* bias, T* packed)
      : depthwise_(plan.depthwise),
        dense_conv_(kernels, plan.dense, g, x, w, y, bias, packed),
        depthwise_conv_(kernels, plan.lanewise, g, x, w, y, bias, packed) {}

  int64_t pack_items() const { return depthwise_ ? depthwise_conv_.pack_items() : dense_conv_.pack_items(); }
  void pack(int64_t item) const { depthwise_ ? depthwise_conv_.pack(item) : dense_conv_.pack(item); }
  int64_t items() const { return depthwise_ ? depthwise_conv_.items() : dense_conv_.items(); }
  void run(int64_t item, T* scratch) const {
    depthwise_ ? depthwise_conv_.run(item, scratch) : dense_conv_.run(item, scratch);
  }

 private:
  bool depthwise_;
  DenseConv<T> dense_conv_;
  DepthwiseConv<T> depthwise_conv_;
};

}  // namespace nhwc_conv
