// What every convolution is given, and what every plan tells.
#pragma once

#include <array>

#include "finish.h"
#include "geometry.h"
#include "tuning.h"
#include "views.h"

namespace nhwc_conv {

// direct: im2col or matmul, whichever suits; automatic: that or Winograd.
enum class Algorithm { automatic, direct, im2col, matmul, winograd };
inline bool is_direct_by_name(Algorithm a) { return a == Algorithm::im2col || a == Algorithm::matmul; }

// What a plan tells of itself: the runner, which is a file of this folder, the algorithm, and how the input is read;
// loop lengths of the tile kernel, and rows and columns of its widest tile. What stays zero does not apply.
struct Explanation {
  const char *runner, *algorithm, *source;
  bool packed_weights;
  std::array<int64_t, 3> reduction;
  std::array<int64_t, 2> tile, reduction_blocks;
  int64_t winograd_tile, block_tiles, partials, phases;
  bool pairs;  // of channels are multiplied; then the reduction counts them
};

// So many elements, and what the last line of them lacks.
template <class A> int64_t whole_lines(int64_t elements) {
  const int64_t line = kLineBytes / sizeof(A);
  return ceil_div(elements, line) * line;
}

// The memory that a plan wants.
struct PlanMemory {
  int64_t packed_elements = 0;   // shared by all threads
  int64_t scratch_elements = 0;  // of each thread
};

// A convolution of storage type S and arithmetic A. x and y are whole tensors (all groups).
template <class S, class A> struct Operands {
  const Kernels<S, A>& kernels;
  const ConvGeometry& g;
  ImageView<const S> x;
  WeightView<const S> w;
  const Sum<A>* bias;  // null, or O values
  Result<S, Sum<A>> result;
  A* packed;  // packed_elements of the plan, or what was packed ahead of the call
};

// How a weight lies in memory, without gaps: [KH, KW, C/groups, O], [O, C/groups, KH, KW] or [O, KH, KW, C/groups].
enum class WeightOrder { hwio, oihw, ohwi };

// A weight gradient. x [N, H, W, C] and grad [N, OH, OW, O], any strides; sums [KH, KW, C/groups, O] or, with
// taps_inside, [C/groups, KH, KW, O].
template <class S, class A> struct GradientOperands {
  const Kernels<S, A>& kernels;
  ConvGeometry g;
  ImageView<const S> x, grad;
  A* dw;
  bool taps_inside = false;

  int64_t elements() const { return g.depth() * g.O; }
  // From the sums of a tap, or of an input channel, to the next.
  int64_t tap() const { return taps_inside ? g.O : g.C_per_group() * g.O; }
  int64_t channel() const { return taps_inside ? g.taps() * g.O : g.O; }
};

}  // namespace nhwc_conv
