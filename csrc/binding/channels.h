// Means, scalings and maxima of channels, on NCHW tensors; images stand in `memory`, if there is some.
#pragma once

#include "reused_memory.h"
#include "short_call.h"

namespace nhwc_conv {

// [N, C, 1, 1]: means over all pixels, as aten::adaptive_avg_pool2d has them but for their last bits.
Tensor channel_means(const Tensor& x, ReusedMemory* memory);

// x [N, C, H, W] times factors [N, C, 1, 1].
Tensor scale_channels(const Tensor& x, const Tensor& factors, ReusedMemory* memory);

// As aten::max_pool2d. Of `call`: the strides, the sizes of windows in place of dilations, and the padding.
Tensor max_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, ReusedMemory* memory);

}  // namespace nhwc_conv
