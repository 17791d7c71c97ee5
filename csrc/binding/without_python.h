// Derivatives, and types without a kernel here, are the Python package's. Where it is absent, in a C++ program, the ops
// say so; else a gradient would be missing without a word.
#pragma once

#include <optional>
#include <utility>

#include "tensor.h"

namespace nhwc_conv {

// Raises if autograd would record a call of `op` on the tensor.
void refuse_gradient(const char* op, const Tensor& tensor);

inline void refuse_gradient(const char* op, const std::optional<Tensor>& tensor) {
  if (tensor) refuse_gradient(op, *tensor);
}

template <class Other> void refuse_gradient(const char*, const Other&) {}

// A CPU kernel as the kernel of autograd's key, which every tensor outside InferenceMode comes by.
template <auto kernel, const char* op> struct WithoutGradient;

template <class... Arguments, Tensor (*kernel)(Arguments...), const char* op> struct WithoutGradient<kernel, op> {
  static Tensor call(Arguments... arguments) {
    if (aoti_torch_grad_mode_is_enabled()) (refuse_gradient(op, arguments), ...);
    return kernel(std::move(arguments)...);
  }
};

}  // namespace nhwc_conv
