// The ops' CPU kernels, one file each; library.cpp registers them under their schemas.
#pragma once

#include <optional>
#include <vector>

#include "../conv/operands.h"
#include "tensor.h"

namespace nhwc_conv {

using Sizes = std::vector<int64_t>;

Tensor im2col(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad);
Tensor matmul(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad);
Tensor winograd(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
                int64_t groups, int64_t auto_pad);
Tensor conv2d(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad);
// Weights packed for conv2d_packed, which computes what conv2d does; for inference. Where `packed` is not a packing of
// `weight` as it is now, for the kernels in use, that is computed from `weight`. With nchw, x and the result are NCHW,
// and the result's memory format is that of F.conv2d. The last five are FinishOptions of convolve.h.
Tensor pack_weight(Tensor w, int64_t groups, bool winograd, bool oihw);
// Elements that pack_weight returns for a weight [KH, KW, C/groups, O].
int64_t packed_elements(int32_t dtype, const int64_t weight_size[4], int64_t groups, bool winograd);
Tensor conv2d_packed(Tensor x, Tensor packed, Sizes weight_size, std::optional<Tensor> bias, Sizes stride,
                     Sizes padding, Sizes dilation, int64_t groups, int64_t auto_pad, std::optional<Tensor> weight,
                     bool oihw, bool nchw, std::optional<Tensor> residual, int64_t activation, double alpha,
                     double beta, bool activation_first);
Tensor conv2d_input(Tensor grad, Tensor w, Sizes input_size, Sizes stride, Sizes padding, Sizes dilation,
                    int64_t groups, int64_t auto_pad, int64_t algorithm);
// Of out_dtype, which may be that of the sums, else of the dtype of x.
Tensor conv2d_weight(Tensor grad, Tensor x, Sizes kernel_size, Sizes stride, Sizes padding, Sizes dilation,
                     int64_t groups, int64_t auto_pad, int64_t algorithm,
                     std::optional<torch::headeronly::ScalarType> out_dtype);

}  // namespace nhwc_conv
