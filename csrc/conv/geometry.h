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
// convolution starts inside its input, as input gradients may.
struct Axis {
  int64_t input, output, kernel, stride, dilation, pad;

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

  // The inputs from the first to the last that these outputs read.
  Range inputs(Range outputs) const {
    const int64_t begin = clamp(outputs.begin * stride - pad, 0, input);
    const int64_t end = (outputs.end - 1) * stride - pad + (kernel - 1) * dilation + 1;
    return {begin, clamp(end, begin, input)};
  }

  // The axis of one tap alone.
  Axis of_tap(int64_t tap) const { return {input, output, 1, stride, 1, pad - tap * dilation}; }

  // The inputs and the padding that so many neighbouring outputs read, and the most of them that are inputs.
  int64_t span(int64_t outputs) const { return (outputs - 1) * stride + (kernel - 1) * dilation + 1; }
  int64_t reach(int64_t outputs) const { return clamp(span(outputs), 0, input); }
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
};

}  // namespace nhwc_conv
