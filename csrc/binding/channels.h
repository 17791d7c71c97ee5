// Means and scalings of channels, on NCHW tensors.
#pragma once

#include "tensor.h"

namespace nhwc_conv {

// [N, C, 1, 1]: means over all pixels, as aten::adaptive_avg_pool2d has them but for their last bits.
Tensor channel_means(const Tensor& x);

// x [N, C, H, W] times factors [N, C, 1, 1].
Tensor scale_channels(const Tensor& x, const Tensor& factors);

}  // namespace nhwc_conv
