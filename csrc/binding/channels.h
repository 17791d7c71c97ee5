// Means, scalings and maxima of channels, concatenations and sums of images, on NCHW tensors; images stand in `memory`,
// if there is some.
#pragma once

#include "reused_memory.h"
#include "short_call.h"

namespace nhwc_conv {

// [N, C, 1, 1]: means over all pixels, as aten::adaptive_avg_pool2d has them but for their last bits.
Tensor channel_means(const Tensor& x, ReusedMemory* memory);

// x [N, C, H, W] times factors [N, C, 1, 1].
Tensor scale_channels(const Tensor& x, const Tensor& factors, ReusedMemory* memory);

// As aten::cat along channels.
Tensor join_channels(const std::vector<Tensor>& images, ReusedMemory* memory);

// Those from `begin` to before `end`, where they lie.
Tensor some_channels(const Tensor& x, int64_t begin, int64_t end);

// x, or x + residual, of one size and type, and the activation of that.
Tensor finish_images(const Tensor& x, const FinishOptions& finish, ReusedMemory* memory);

// As aten::max_pool2d. Of `call`: the strides, the sizes of windows in place of dilations, and the padding.
Tensor max_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, ReusedMemory* memory);

}  // namespace nhwc_conv
