// The input gradient as forward convolutions of the output gradient, never a scatter. For stride s the rows of the
// input gradient fall into s phases (row % s), each reached by every s-th tap only; a phase is a stride-1 convolution
// with these taps, reversed, and with the weight's channels exchanged. So s_h*s_w convolutions fill the gradient, or
// s_h where the phases across make one: where they are alike, its channels (patches, 2x2 kernels of stride 2), and in
// depthwise layers of stride 2 in turn.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "lanewise_plan.h"

namespace nhwc_conv {

// One phase of one axis, or all of them: the axis of its convolution, its first row and the step to the next, and the
// taps (from the last to the first).
struct AxisPhase {
  Axis axis;
  int64_t first, step, last_tap, tap_step;

  int64_t first_tap() const { return last_tap - (axis.kernel - 1) * tap_step; }
};

// Taps so far apart belong to one phase. So each of as many first ones belongs to another phase, if there are so many.
inline int64_t tap_step(const Axis& forward) { return forward.stride / std::gcd(forward.stride, forward.dilation); }
inline int64_t first_taps(const Axis& forward) { return clamp(forward.kernel, 0, tap_step(forward)); }

// Input row h gets grad row y through tap i where y*stride = h + pad - i*dilation. With h = phase + t*stride, the taps
// that divide evenly are i = first_tap + q*step for q < count, and each step moves y back by dilation*step/stride. Of
// `forward`, the kernel, the stride and the dilation tell which taps these are.
inline AxisPhase input_gradient_phase(const Axis& forward, int64_t first_tap) {
  AxisPhase result;
  result.step = forward.stride;
  result.tap_step = tap_step(forward);
  const int64_t offset = first_tap * forward.dilation - forward.pad, back = floor_div(offset, forward.stride);
  result.first = offset - back * forward.stride;
  result.axis.input = forward.output;
  result.axis.output = result.first < forward.input ? ceil_div(forward.input - result.first, forward.stride) : 0;
  result.axis.kernel = ceil_div(forward.kernel - first_tap, result.tap_step);
  result.axis.stride = 1;
  result.axis.dilation = forward.dilation / (forward.stride / result.tap_step);
  result.axis.pad = (result.axis.kernel - 1) * result.axis.dilation + back;
  result.last_tap = first_tap + (result.axis.kernel - 1) * result.tap_step;
  return result;
}

// Where the stride exceeds the kernel, some input rows meet no tap: they are left out here. By taps, of which there are
// few, and not by phases: a stride may be as long as the image.
inline std::vector<AxisPhase> phases_with_taps(const Axis& forward) {
  std::vector<AxisPhase> phases;
  for (int64_t tap = 0; tap < first_taps(forward); ++tap) {
    const AxisPhase phase = input_gradient_phase(forward, tap);
    if (phase.first < forward.input) phases.push_back(phase);
  }
  std::sort(phases.begin(), phases.end(), [](const AxisPhase& a, const AxisPhase& b) { return a.first < b.first; });
  return phases;
}

// All phases of an axis without dilation in turn: the whole kernel runs over grad, whose rows stand a stride apart.
inline AxisPhase all_phases(const Axis& forward) {
  const int64_t places = max((forward.output - 1) * forward.stride + 1, 0), taps = forward.kernel;
  return {{places, forward.input, taps, 1, 1, taps - 1 - forward.pad, forward.stride}, 0, 1, taps - 1, 1};
}

// Which convolutions the phases across are: one each; or all one, of which they are channels, or outputs in turn.
enum class PhasesAcross { each, channels, in_turn };

// Where every phase across has the same number of taps and these meet the same grad, the phases of one place are
// channels of one convolution: in dx they are neighbours. By the geometry alone: with so many channels more, sums of
// few are made in another order. And by no size of an image where weights are packed for them.
template <class A> PhasesAcross phases_across(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const Axis& w = g.w;
  if (w.stride == 1 || w.dilation > 1) return PhasesAcross::each;
  const bool are_alike = w.kernel % w.stride == 0 && w.pad % w.stride == 0 && w.input % w.stride == 0;
  if (g.groups == 1 && are_alike) return PhasesAcross::channels;
  return takes_half_steps(kernels, g) ? PhasesAcross::in_turn : PhasesAcross::each;
}

}  // namespace nhwc_conv
