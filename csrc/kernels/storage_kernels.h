// Contracts of the kernels between storage of type S and the arithmetic's type A: copies, sums of rows, the last step.
#pragma once

#include <cstdint>

namespace nhwc_conv {

// Copy of a matrix into rows of `to_k` elements: to[k*to_k + n] = from[k*from_k + n*from_n] for k < K, n < N.
//
// Of pairs this is the first value of each. The second stands half a step further along the axis of the reduction,
// which is n for `copy` and k for `pack`, and is zero at the end of that axis if that pair has `one_value`.
template <class S, class A> struct CopyArgs {
  const S* from;
  int64_t from_k, from_n;
  A* to;
  int64_t to_k;
  int64_t K, N;
  bool one_value;
};

// Copy of matrices, one for each of T values that are neighbours in storage, as the taps of an OIHW weight are:
//   to[t*to_t + k*to_k + n] = from[t + k*from_k + n*from_n]      for t < T, k < K, n < N
template <class S, class A> struct CopyTapsArgs {
  const S* from;
  int64_t from_k, from_n;
  A* to;
  int64_t to_t, to_k;
  int64_t T, K, N;
};

// One receptive field (one row of the im2col matrix), zeros outside the image:
//   to[(i*KW + j)*C + c] = inside(i, j) ? from[i*from_i + j*from_j + c*from_c] : 0      for i < KH, j < KW, c < C
// where inside(i, j) is i_begin <= i < i_end and j_begin <= j < j_end. Nothing outside is read.
template <class S, class A> struct FieldArgs {
  const S* from;
  int64_t from_i, from_j, from_c;
  int64_t KH, KW, C;
  int64_t i_begin, i_end, j_begin, j_end;
  A* to;
};

// What becomes of a complete sum x; what a formula calls a or b is `alpha` or `beta`. NaN stays, and relu keeps -0.
enum class Activation {
  none,
  relu,         // max(x, 0)
  clamp,        // min(max(x, a), b)
  leaky_relu,   // x > 0 ? x : a x
  hardsigmoid,  // clamp(x + 3, 0, 6) / 6
  hardswish,    // x hardsigmoid(x)
  sigmoid,      // 1 / (1 + e^-x)
  silu,         // x sigmoid(x)
  tanh,
  elu,        // x > 0 ? x : a (e^x - 1)
  mish,       // x tanh(log(1 + e^x))
  gelu,       // x Phi(x), Phi the normal distribution
  gelu_tanh,  // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
};
constexpr int kActivations = 13;

// What is done to complete sums of type A besides rounding them: the activation, and adding a residual, before it or,
// with activation_first, behind it.
template <class A> struct FinishSteps {
  Activation activation = Activation::none;
  A alpha = 0, beta = 0;
  bool activation_first = false;
};

// The last step of complete sums: to[m*to_m + n*to_n] = S(steps(from[m*from_m + n], residual[m*residual_m +
// n*residual_n])) for m < M, n < N. They may be finished where they stand, and overlap the result in no other way, and
// the residual, which may be null, not at all.
template <class S, class A> struct FinishArgs {
  const A* from;
  int64_t from_m;
  S* to;
  int64_t to_m, to_n;
  int64_t M, N;
  FinishSteps<A> steps;
  const S* residual;
  int64_t residual_m, residual_n;
};

// Sums of rows, one after the other: to[n] = sum over m < M of from[m*from_m + n] for n < N; M is at least one.
template <class S, class A> struct SumRowsArgs {
  const S* from;
  int64_t from_m;
  A* to;
  int64_t M, N;
};

// Rows, each times the same factors: to[m*to_m + n] = S(from[m*from_m + n] * factors[n]) for m < M, n < N.
template <class S> struct ScaleRowsArgs {
  const S* from;
  int64_t from_m;
  const S* factors;
  S* to;
  int64_t to_m;
  int64_t M, N;
};

// Maxima of windows: to[m*to_m + n] = max over h < H and w < W of from[m*from_m + h*from_h + w*from_w + n] for m < M,
// n < N; H and W are at least one. Of NaN and a number it is NaN.
template <class S> struct MaxRowsArgs {
  const S* from;
  int64_t from_m, from_h, from_w;
  S* to;
  int64_t to_m;
  int64_t M, N, H, W;
};

}  // namespace nhwc_conv
