#include "input_gradient.h"

#include <algorithm>
#include <cstring>

namespace nhwc_conv {

namespace {

int64_t gcd(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// Where the stride exceeds the kernel, some input rows meet no tap: they are left out here and stay zero. By taps, of
// which there are few, and not by phases: a stride may be as long as the image.
std::vector<AxisPhase> phases_with_taps(const Axis& forward) {
  const int64_t step = forward.stride / gcd(forward.stride, forward.dilation);
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
bool phases_are_channels(const ConvGeometry& g) {
  const Axis& w = g.w;
  return g.groups == 1 && w.stride > 1 && w.dilation == 1 && w.kernel % w.stride == 0 && w.pad % w.stride == 0 &&
         w.input % w.stride == 0;
}

}  // namespace

// Input row h gets grad row y through tap i where y*stride = h + pad - i*dilation. With h = phase + t*stride, the taps
// that divide evenly are i = first_tap + q*step for q < count, and each step moves y back by dilation*step/stride.
AxisPhase input_gradient_phase(const Axis& forward, int64_t phase) {
  const int64_t common = gcd(forward.stride, forward.dilation);
  const int64_t step = forward.stride / common, dilation = forward.dilation / common;
  const int64_t candidates = clamp(forward.kernel, 0, step);
  int64_t first_tap = 0;
  while (first_tap < candidates && (phase + forward.pad - first_tap * forward.dilation) % forward.stride != 0)
    ++first_tap;
  const int64_t count = first_tap < candidates ? ceil_div(forward.kernel - first_tap, step) : 0;
  const int64_t y = count > 0 ? (phase + forward.pad - first_tap * forward.dilation) / forward.stride : 0;
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

template <class T>
InputGradient<T>::InputGradient(const Kernels<T>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                                const ImageView<const T>& grad, const WeightView<const T>& w, const ImageView<T>& dx)
    : kernels_(kernels), g_(g), grad_(grad), w_(w), dx_(dx) {
  const bool merge = phases_are_channels(g);
  // As channels, phases need weights in which the input channels of one tap are followed by those of the next.
  copies_weights_ = merge && w.j != g.C * w.c;
  if (copies_weights_) {
    original_ = w;
    w_ = {w.data, g.w.kernel * g.C * g.O, g.C * g.O, g.O, 1, w.group};
    packed_elements_ = g.h.kernel * w_.i;
  }
  const std::vector<AxisPhase> down = phases_with_taps(g.h);
  const std::vector<AxisPhase> across =
      merge ? std::vector<AxisPhase>{input_gradient_phase(g.w, 0)} : phases_with_taps(g.w);
  const int64_t merged = merge ? g.w.stride : 1, channels = merged * g.C;
  zero_first_ = static_cast<int64_t>(down.size()) < clamp(g.h.stride, 0, g.h.input) ||
                static_cast<int64_t>(across.size()) * merged < clamp(g.w.stride, 0, g.w.input);
  phases_.reserve(down.size() * across.size());
  for (const AxisPhase& h : down) {
    for (const AxisPhase& a : across) {
      Phase phase;
      phase.g = {g.N, g.O, channels, g.groups, h.axis, a.axis};
      phase.w = {w_.data, -h.tap_step * w_.i, -a.tap_step * w_.j, w_.o, w_.c, w_.group};
      phase.first_weight = h.last_tap * w_.i + a.last_tap * w_.j;
      phase.dx = {dx.data + h.first * dx.h + a.first * dx.w, dx.n, g.h.stride * dx.h, g.w.stride * dx.w, dx.c};
      phase.plan = make_plan(kernels, phase.g, grad_, phase.w, algorithm, threads);
      phase.packed = packed_elements_;
      packed_elements_ += phase.plan.packed_elements;
      if (phase.plan.scratch_elements > scratch_elements_) scratch_elements_ = phase.plan.scratch_elements;
      phases_.push_back(phase);
    }
  }
}

template <class T>
Convolution<T> InputGradient<T>::convolution(const Phase& phase, T* workspace) const {
  WeightView<const T> w = phase.w;
  w.data = (copies_weights_ ? workspace : w.data) + phase.first_weight;
  return Convolution<T>(kernels_, phase.plan, phase.g, grad_, w, phase.dx, nullptr, workspace + phase.packed);
}

template <class T>
void InputGradient<T>::run(const Parallel& parallel, T* workspace) const {
  if (zero_first_) {
    const int64_t chunk = 64 * 1024, elements = g_.N * g_.h.input * g_.w.input * g_.C;
    for_each_item(parallel, ceil_div(elements, chunk), [&](int64_t item, int64_t) {
      const int64_t begin = item * chunk, count = clamp(elements - begin, 0, chunk);
      std::memset(dx_.data + begin, 0, count * sizeof(T));
    });
  }
  if (copies_weights_) {
    for_each_item(parallel, g_.h.kernel * g_.w.kernel, [&](int64_t tap, int64_t) {
      const T* from = original_.data + tap / g_.w.kernel * original_.i + tap % g_.w.kernel * original_.j;
      kernels_.copy({from, original_.c, original_.o, workspace + tap * w_.j, w_.c, g_.C, g_.O});
    });
  }
  // Items of all phases share one index space, so that one parallel region serves them all.
  int64_t most_pack = 0, most_items = 0;
  for (const Phase& p : phases_) {
    const Convolution<T> conv = convolution(p, workspace);
    if (conv.pack_items() > most_pack) most_pack = conv.pack_items();
    if (conv.items() > most_items) most_items = conv.items();
  }
  const int64_t count = phases_.size();
  T* scratch = workspace + packed_elements_;
  for_each_item(parallel, count * most_pack, [&](int64_t item, int64_t) {
    const Convolution<T> conv = convolution(phases_[item % count], workspace);
    if (item / count < conv.pack_items()) conv.pack(item / count);
  });
  for_each_item(parallel, count * most_items, [&](int64_t item, int64_t slot) {
    const Convolution<T> conv = convolution(phases_[item % count], workspace);
    if (item / count < conv.items()) conv.run(item / count, scratch + slot * scratch_elements_);
  });
}

template class InputGradient<float>;
template class InputGradient<double>;

}  // namespace nhwc_conv
