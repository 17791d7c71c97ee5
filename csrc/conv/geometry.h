// What a convolution is: sizes and steps, no memory.
#pragma once

#include <cstdint>

namespace nhwc_conv {

inline int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

struct Range {
  int64_t begin, end;
  bool empty() const { return begin >= end; }
  int64_t size() const { return end - begin; }
  bool operator==(Range other) const { return begin == other.begin && end == other.end; }
  Range within(Range limits) const {
    return {clamp(begin, limits.begin, limits.end), clamp(end, limits.begin, limits.end)};
  }
  // What lies before and after `part`; all of it before where the part is empty and behind.
  Range before(Range part) const { return {begin, clamp(part.begin, begin, end)}; }
  Range after(Range part) const { return {clamp(part.end, before(part).end, end), end}; }
};

// Of `count` things cut into `shares` equal parts, give or take one, the part `index`.
inline Range share_of(int64_t count, int64_t index, int64_t shares) {
  return {index * count / shares, (index + 1) * count / shares};
}

// One spatial axis. Output o reads input o*stride + tap*dilation - pad for each tap < kernel; outside the input is
// zero. `pad` stands before the input only, since padding after it follows from `output`. It is negative where a
// convolution starts inside its input, as input gradients may. Where inputs stand `apart`, between them are places
// without one, which count as inputs here, and which kernels pass over.
struct Axis {
  int64_t input, output, kernel, stride, dilation, pad;
  int64_t apart = 1;

  // The input under tap `tap` of output o, inside or outside.
  int64_t input_of(int64_t o, int64_t tap) const { return o * stride + tap * dilation - pad; }

  // The taps of output o that fall inside the input.
  Range taps(int64_t o) const {
    const int64_t first = input_of(o, 0);
    // Mostly all: then nothing needs to be divided.
    if (first >= 0 && first + (kernel - 1) * dilation < input) return {0, kernel};
    const Range inside = {clamp(ceil_div(-first, dilation), 0, kernel),
                          clamp(floor_div(input - 1 - first, dilation) + 1, 0, kernel)};
    return inside.empty() ? Range{0, 0} : inside;
  }

  // Of some taps of output o those with an input: `count`, from `first` on, each `apart` from the next, the first of
  // them with `input`, which is counted without the places between inputs.
  struct Taps {
    int64_t first, count, input;
  };
  Taps with_inputs(int64_t o, Range taps) const {
    const int64_t place = input_of(o, taps.begin);
    if (apart == 1 || taps.empty()) return {taps.begin, taps.size(), place};
    const int64_t at = ceil_div(place, apart), passed = at * apart - place;
    return {taps.begin + passed, max(ceil_div(taps.size() - passed, apart), 0), at};
  }

  // The outputs whose every tap falls inside the input.
  Range interior() const {
    const int64_t begin = clamp(ceil_div(pad, stride), 0, output);
    const int64_t reach = input - 1 + pad - (kernel - 1) * dilation;
    return {begin, clamp(floor_div(reach, stride) + 1, begin, output)};
  }

  // The outputs whose tap `tap` falls inside the input.
  Range outputs(int64_t tap) const {
    const int64_t offset = tap * dilation - pad;
    const int64_t begin = clamp(ceil_div(-offset, stride), 0, output);
    return {begin, clamp(floor_div(input - 1 - offset, stride) + 1, begin, output)};
  }

  // The inputs from the first to the last that these outputs read, without the places between them.
  Range inputs(Range outputs) const {
    const int64_t begin = clamp(outputs.begin * stride - pad, 0, input);
    const int64_t end = (outputs.end - 1) * stride - pad + (kernel - 1) * dilation + 1;
    return {ceil_div(begin, apart), ceil_div(clamp(end, begin, input), apart)};
  }

  // From the first tap that the last output has to the last that the first one has: the others meet no input. Empty
  // where one of the two has none.
  Range taps_met() const { return {taps(output - 1).begin, taps(0).end}; }

  // The axis of some taps alone.
  Axis of_taps(Range taps) const {
    return {input, output, taps.size(), stride, dilation, pad - taps.begin * dilation, apart};
  }

  // The axis of one tap alone.
  Axis of_tap(int64_t tap) const { return of_taps({tap, tap + 1}); }

  // Of so many outputs, from one to the next that reads the same inputs, but for one, each under the tap before.
  int64_t sharing_step(int64_t outputs) const {
    const int64_t step = dilation % stride == 0 ? dilation / stride : 1;
    return kernel > 1 && 2 * step <= outputs ? step : 1;
  }

  // Of neighbouring outputs, so many outputs' worth of inputs those behind them read again.
  double shared() const { return static_cast<double>((kernel - 1) * dilation) / stride; }

  // The places and the padding that so many neighbouring outputs read, and the most inputs among them.
  int64_t span(int64_t outputs) const { return (outputs - 1) * stride + (kernel - 1) * dilation + 1; }
  int64_t reach(int64_t outputs) const { return ceil_div(clamp(span(outputs), 0, input), apart); }
};

// The only output-size formula in C++: outputs along an axis with so much padding before and after it.
inline int64_t output_size(int64_t input, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding) {
  return (input + padding - dilation * (kernel - 1) - 1) / stride + 1;
}

struct ConvGeometry {
  int64_t N, C, O, groups;
  Axis h, w;
  int64_t C_per_group() const { return C / groups; }
  int64_t O_per_group() const { return O / groups; }
  int64_t taps() const { return h.kernel * w.kernel; }
  int64_t depth() const { return taps() * C_per_group(); }  // products summed for an output
  // Products, and bytes of operands and results, whose elements have so many: in double, which no size overflows.
  double work(int64_t size) const {
    const double outputs = static_cast<double>(N * h.output * w.output) * O;
    const double elements = static_cast<double>(N * h.input * w.input) * C + static_cast<double>(depth()) * O + outputs;
    return outputs * depth() + elements * size;
  }
};

}  // namespace nhwc_conv
