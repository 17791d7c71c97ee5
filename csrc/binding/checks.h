// Every argument check of every op, once, under the dispatcher: tensors in, geometry out. Nothing is read or allocated
// before.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <vector>

#include "../conv/geometry.h"
#include "tensor.h"

namespace nhwc_conv {

// The arguments that all ops share, as the schemas pass them.
struct ConvOptions {
  const std::vector<int64_t>& stride;
  const std::vector<int64_t>& padding;
  const std::vector<int64_t>& dilation;
  int64_t groups;
  int64_t auto_pad;
};

// x [N, H, W, C] or [H, W, C], w [KH, KW, C/groups, O], bias null or [O]
ConvGeometry check_forward(const TensorInfo& x, const TensorInfo& w, const TensorInfo* bias,
                           const ConvOptions& options);

// A convolution that Winograd's algorithm can compute: 3x3, stride 1, dilation 1.
void check_winograd(const ConvGeometry& g, const ConvOptions& options);

// w [KH, KW, C/groups, O] of a dtype that is computed here
void check_packable(const TensorInfo& w, int64_t groups);

// x and bias as above, packed of any size, weight_size (KH, KW, C/groups, O)
ConvGeometry check_packed(const TensorInfo& x, const TensorInfo& packed, const std::vector<int64_t>& weight_size,
                          const TensorInfo* bias, const ConvOptions& options);

// A weight that conv2d_packed may compute from
void check_packed_weight(const TensorInfo& x, const TensorInfo& weight, const std::vector<int64_t>& weight_size);

// A number of Activation.
void check_activation(int64_t activation);

// residual as large as the result for x
void check_residual(const TensorInfo& x, const TensorInfo& residual, const ConvGeometry& g);

// grad [N, OH, OW, O] or [OH, OW, O], w as above, input_size (H, W)
ConvGeometry check_input_gradient(const TensorInfo& grad, const TensorInfo& w, const std::vector<int64_t>& input_size,
                                  const ConvOptions& options, int64_t algorithm);

// The dtype of a weight gradient of x: x's, unless the dtype of its sums is asked for.
int32_t check_out_dtype(const TensorInfo& x, const std::optional<torch::headeronly::ScalarType>& out_dtype);

// grad and x as above, kernel_size (KH, KW)
ConvGeometry check_weight_gradient(const TensorInfo& grad, const TensorInfo& x, const std::vector<int64_t>& kernel_size,
                                   const ConvOptions& options, int64_t algorithm);

}  // namespace nhwc_conv
