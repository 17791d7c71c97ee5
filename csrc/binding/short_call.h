// All that a convolution is told but its tensors, in few numbers, as PyTorch takes long to hand over many.
#pragma once

#include "convolve.h"

namespace nhwc_conv {

struct ShortCall {
  bool nchw;
  Algorithm algorithm;
  int64_t gradient_algorithm;
  bool mixed;  // float32 weights and biases of half images are rounded, and their gradients are not
  Sizes stride, padding, dilation;
  int64_t groups, auto_pad;
  int64_t activation;
  bool activation_first;

  ConvOptions options() const { return {stride, padding, dilation, groups, auto_pad}; }
  FinishOptions finish(const std::optional<Tensor>& residual, double alpha, double beta) const {
    return {residual, activation, alpha, beta, activation_first};
  }
};

// `kind`, from its lowest bit: nchw 1, algorithm 2, gradient_algorithm 2, auto_pad 2, mixed 1, activation 4,
// activation_first 1. `steps` and `sides`, 16 bits each: strides and dilations, down and across; padding at the top,
// the bottom, the left and the right.
inline ShortCall read_short_call(int64_t kind, int64_t steps, int64_t sides, int64_t groups) {
  constexpr Algorithm kAlgorithms[] = {Algorithm::automatic, Algorithm::im2col, Algorithm::matmul, Algorithm::winograd};
  const auto field = [](int64_t fields, int i) { return fields >> 16 * i & 0x7fff; };
  return {(kind & 1) != 0,
          kAlgorithms[kind >> 1 & 3],
          kind >> 3 & 3,
          (kind >> 7 & 1) != 0,
          {field(steps, 0), field(steps, 1)},
          {field(sides, 0), field(sides, 1), field(sides, 2), field(sides, 3)},
          {field(steps, 2), field(steps, 3)},
          groups,
          kind >> 5 & 3,
          kind >> 8 & 15,
          (kind >> 12 & 1) != 0};
}

// transposed.cpp
Tensor pack_transposed(Tensor weight, int64_t kind, int64_t steps, int64_t sides, int64_t groups, Sizes more);
Tensor conv_transpose(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> packed, int64_t kind,
                      int64_t steps, int64_t sides, int64_t groups, Sizes more, double alpha, double beta);

// Convolutions on packed weights, one after the other: program.cpp.
std::vector<Tensor> convolve_program(std::vector<Tensor> inputs, std::vector<Tensor> packed, std::vector<Tensor> biases,
                                     Tensor code, Tensor numbers, Sizes outputs);

}  // namespace nhwc_conv
