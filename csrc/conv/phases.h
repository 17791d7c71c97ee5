// The input gradient as forward convolutions of the output gradient, never a scatter. For stride s the rows of the
// input gradient fall into s phases (row % s), each reached by every s-th tap only; a phase is a stride-1 convolution
// with these taps, reversed, and with the weight's channels exchanged. So s_h*s_w convolutions fill the gradient, or
// s_h where the phases across are alike: then they are channels of one convolution (patches, 2x2 kernels of stride 2).
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "geometry.h"

namespace nhwc_conv {

// One phase of one axis: the axis of its convolution, its first row, and the taps (from the last to the first).
struct AxisPhase {
  Axis axis;
  int64_t first, last_tap, tap_step;
};

// Input row h gets grad row y through tap i where y*stride = h + pad - i*dilation. With h = phase + t*stride, the taps
// that divide evenly are i = first_tap + q*step for q < count, and each step moves y back by dilation*step/stride.
inline AxisPhase input_gradient_phase(const Axis& forward, int64_t phase) {
  const int64_t common = std::gcd(forward.stride, forward.dilation);
  const int64_t step = forward.stride / common, dilation = forward.dilation / common;
  const int64_t candidates = clamp(forward.kernel, 0, step);
  const auto distance = [&](int64_t tap) { return phase + forward.pad - tap * forward.dilation; };
  int64_t first_tap = 0;
  while (first_tap < candidates && distance(first_tap) % forward.stride != 0) ++first_tap;
  const int64_t count = first_tap < candidates ? ceil_div(forward.kernel - first_tap, step) : 0;
  const int64_t y = count > 0 ? distance(first_tap) / forward.stride : 0;
  AxisPhase result;
  result.axis.input = forward.output;
  result.axis.output = phase < forward.input ? ceil_div(forward.input - phase, forward.stride) : 0;
  result.axis.kernel = count;
  result.axis.stride = 1;
  result.axis.dilation = dilation;
  result.axis.pad = (count - 1) * dilation - y;
  result.first = phase;
  result.last_tap = first_tap + (count - 1) * step;
  result.tap_step = step;
  return result;
}

// Where the stride exceeds the kernel, some input rows meet no tap: they are left out here and stay zero. By taps, of
// which there are few, and not by phases: a stride may be as long as the image.
inline std::vector<AxisPhase> phases_with_taps(const Axis& forward) {
  const int64_t step = forward.stride / std::gcd(forward.stride, forward.dilation);
  std::vector<int64_t> met;
  for (int64_t tap = 0; tap < clamp(forward.kernel, 0, step); ++tap) {
    const int64_t offset = tap * forward.dilation - forward.pad;
    const int64_t phase = offset - floor_div(offset, forward.stride) * forward.stride;
    if (phase < forward.input) met.push_back(phase);
  }
  std::sort(met.begin(), met.end());
  std::vector<AxisPhase> phases;
  for (const int64_t phase : met) phases.push_back(input_gradient_phase(forward, phase));
  return phases;
}

// Where every phase across has the same number of taps and these meet the same grad, the phases of one place are
// channels of one convolution: in dx they are neighbours. By the geometry alone: with so many channels more, sums of
// few are made in another order.
inline bool phases_are_channels(const ConvGeometry& g) {
  const Axis& w = g.w;
  return g.groups == 1 && w.stride > 1 && w.dilation == 1 && w.kernel % w.stride == 0 && w.pad % w.stride == 0 &&
         w.input % w.stride == 0;
}

}  // namespace nhwc_conv
