// Kernels of PyTorch's own differentiable convolution op, where it has none.
#pragma once

namespace nhwc_conv {

void register_aten_convolution();

}  // namespace nhwc_conv
