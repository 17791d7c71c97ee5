// The convolution and its gradients behind the ops, on tensors in either order of dimensions: images [N, H, W, C] and
// weights [KH, KW, C/groups, O], or, with `nchw`, [N, C, H, W] and [O, C/groups, KH, KW]. A single image has no N.
#pragma once

#include <optional>

#include "checks.h"
#include "formats.h"

namespace nhwc_conv {

using Sizes = std::vector<int64_t>;

// What is done to a convolution's sums before they are rounded: see FinishSteps in storage_kernels.h.
struct FinishOptions {
  std::optional<Tensor> residual;  // as large as the result
  int64_t activation = 0;
  double alpha = 0, beta = 0;
  bool activation_first = false;
};

// The gradient ops' argument `algorithm`, checked.
inline Algorithm gradient_algorithm(int64_t algorithm) {
  return algorithm == 0 ? Algorithm::automatic : algorithm == 1 ? Algorithm::direct : Algorithm::winograd;
}

Tensor forward(Algorithm algorithm, bool nchw, const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias,
               const ConvOptions& options);

// On what pack_weight returned.
Tensor forward_packed(bool nchw, const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias,
                      const ConvOptions& options, const FinishOptions& finish = {});

// `algorithm` as the gradient ops have it, and `input_size` (H, W); a result of `format`.
Tensor input_gradient(int64_t algorithm, ImageFormat format, const Tensor& grad, const Tensor& w,
                      const Sizes& input_size, const ConvOptions& options);

// `kernel_size` (KH, KW); a result of `order`.
Tensor weight_gradient(int64_t algorithm, WeightOrder order, const Tensor& grad, const Tensor& x,
                       const Sizes& kernel_size, const ConvOptions& options,
                       const std::optional<torch::headeronly::ScalarType>& out_dtype);

}  // namespace nhwc_conv
