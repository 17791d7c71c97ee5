// The way back into the dispatcher: dtypes without a kernel here, and copies into a layout a kernel can read.
#pragma once

#include <torch/csrc/stable/library.h>

#include "tensor.h"

namespace nhwc_conv {

inline bool computed_here(const TensorInfo& tensor) {
  return tensor.dtype == aoti_torch_dtype_float32() || tensor.dtype == aoti_torch_dtype_float64();
}

// Calls a dispatcher op of one Tensor result with the given arguments.
template <class... Arguments>
Tensor call_op(const char* name, const Arguments&... arguments) {
  StableIValue stack[] = {torch::stable::detail::from(arguments)...};
  if (torch_call_dispatcher(name, "", stack, TORCH_ABI_VERSION) != AOTI_TORCH_SUCCESS) {
    fail(std::string("nhwc_conv: ") + name + " failed");
  }
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// tensor itself if its last dimension (channels) is contiguous, else a contiguous copy.
inline Tensor with_contiguous_channels(const Tensor& tensor, const TensorInfo& info) {
  if (info.sizes[info.dim - 1] == 1 || info.strides[info.dim - 1] == 1) return tensor;
  return call_op("aten::clone", tensor,
                 std::optional<torch::headeronly::MemoryFormat>(torch::headeronly::MemoryFormat::Contiguous));
}

}  // namespace nhwc_conv
