// The way back into the dispatcher, for dtypes without a kernel here.
#pragma once

#include <torch/csrc/stable/library.h>

#include "check_arguments.h"
#include "dtypes.h"
#include "library.h"
#include "tensor.h"

namespace nhwc_conv {

// Calls a dispatcher op of one result with the given arguments. What it raises does not come through, so a failure
// tells what the op was called on: aten has no transposed convolution of int8, for one.
template <class Result, class... Arguments>
Result call_op(const char* name, const Tensor& first, const Arguments&... others) {
  StableIValue stack[] = {torch::stable::detail::from(first), torch::stable::detail::from(others)...};
  if (torch_call_dispatcher(name, "", stack, TORCH_ABI_VERSION) != AOTI_TORCH_SUCCESS) {
    const TensorInfo info = info_of(first);
    fail(std::string(name) + " failed on a tensor of type " + dtype_name(info.dtype) + " and size " + text(info));
  }
  return torch::stable::detail::to<Result>(stack[0]);
}

// The op of the Python package for tensors of a type that is not computed here; the first is called `name`.
template <class... Arguments>
Tensor call_python_op(const char* op, const char* name, const Tensor& first, const Arguments&... others) {
  if (!is_python_attached()) {
    fail(std::string("expected ") + name + " to be " + computed_dtype_names() + ", but got " +
         dtype_name(info_of(first).dtype) +
         ": other types are computed by the Python package nhwc_conv, which this process has not imported");
  }
  return call_op<Tensor>(op, first, others...);
}

}  // namespace nhwc_conv
