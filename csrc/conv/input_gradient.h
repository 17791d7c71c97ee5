// The input gradient as forward convolutions of the output gradient, never a scatter. For stride s the rows of the
// input gradient fall into s phases (row % s), each reached by every s-th tap only; a phase is a stride-1 convolution
// with these taps, reversed, and with the weight's channels exchanged. So s_h*s_w dense convolutions fill the gradient,
// or s_h where the phases across are alike: then they are channels of one convolution (patches, 2x2 kernels of stride
// 2).
#pragma once

#include <vector>

#include "convolution.h"

namespace nhwc_conv {

// One phase of one axis: the axis of its convolution, its first row, and the taps (from the last to the first).
struct AxisPhase {
  Axis axis;
  int64_t first, last_tap, tap_step;
};
AxisPhase input_gradient_phase(const Axis& forward, int64_t phase);

template <class T>
class InputGradient {
 public:
  // g: the forward geometry. grad [N, OH, OW, O], w [KH, KW, C/groups, O] as in forward, dx [N, H, W, C] contiguous.
  InputGradient(const Kernels<T>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                const ImageView<const T>& grad, const WeightView<const T>& w, const ImageView<T>& dx);

  int64_t packed_elements() const { return packed_elements_; }    // shared by all threads
  int64_t scratch_elements() const { return scratch_elements_; }  // of each thread
  // The first phase, or null: where every tap meets padding only, the gradient is zero.
  const ConvPlan* plan() const { return phases_.empty() ? nullptr : &phases_.front().plan; }
  const ConvGeometry& geometry() const { return phases_.front().g; }
  int64_t phases() const { return phases_.size(); }

  // workspace: packed_elements() and then scratch_elements() for each of parallel.threads.
  void run(const Parallel& parallel, T* workspace) const;

 private:
  struct Phase {
    ConvGeometry g;
    ConvPlan plan;
    WeightView<const T> w;
    int64_t first_weight;  // offset
    ImageView<T> dx;
    int64_t packed;  // offset
  };
  Convolution<T> convolution(const Phase& phase, T* workspace) const;

  const Kernels<T>& kernels_;
  ConvGeometry g_;
  ImageView<const T> grad_;
  WeightView<const T> w_;
  ImageView<T> dx_;
  bool zero_first_;
  // The weights' copy stands first in the workspace.
  bool copies_weights_;
  WeightView<const T> original_ = {};
  std::vector<Phase> phases_;
  int64_t packed_elements_ = 0, scratch_elements_ = 0;
};

}  // namespace nhwc_conv
