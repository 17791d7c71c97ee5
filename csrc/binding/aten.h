// The way back into the dispatcher, for dtypes without a kernel here.
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

#include "check_arguments.h"
#include "dtypes.h"
#include "library.h"
#include "tensor.h"

namespace nhwc_conv {

template <class Result> struct FromStack {
  static Result take(const StableIValue* stack) { return torch::stable::detail::to<Result>(stack[0]); }
};
template <class... Results> struct FromStack<std::tuple<Results...>> {
  static std::tuple<Results...> take(const StableIValue* stack) {
    return take(stack, std::index_sequence_for<Results...>());
  }
  template <size_t... i>
  static std::tuple<Results...> take(const StableIValue* stack, std::index_sequence<i...>) {
    return {torch::stable::detail::to<Results>(stack[i])...};
  }
};

// Calls an overload of a dispatcher op with the given arguments; a tuple for several results. What it raises does not
// come through, so a failure tells what the op was called on: aten has no transposed convolution of int8, for one.
template <class Result, class... Arguments>
Result call_overload(const char* name, const char* overload, const Tensor& first, const Arguments&... others) {
  StableIValue stack[] = {torch::stable::detail::from(first), torch::stable::detail::from(others)...};
  if (torch_call_dispatcher(name, overload, stack, TORCH_ABI_VERSION) != AOTI_TORCH_SUCCESS) {
    const TensorInfo info = info_of(first);
    fail(std::string(name) + " failed on a tensor of type " + dtype_name(info.dtype) + " and size " + text(info));
  }
  return FromStack<Result>::take(stack);
}

template <class Result, class... Arguments>
Result call_op(const char* name, const Tensor& first, const Arguments&... others) {
  return call_overload<Result>(name, "", first, others...);
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

// The Python package's ops take NHWC images alone.
inline void check_nhwc(bool nchw, const char* name, int32_t dtype) {
  if (nchw)
    fail(std::string("expected ") + name + " to be " + computed_dtype_names() + ", but got " + dtype_name(dtype));
}

}  // namespace nhwc_conv
