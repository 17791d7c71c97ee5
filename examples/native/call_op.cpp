// call_op LIBRARY: nhwc_conv::conv2d from LibTorch, by the dispatcher, compared with aten's.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>

#include "library.h"

using Conv2d = at::Tensor(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                          int64_t auto_pad);

int main(int, char** arguments) try {
  void* library = load_nhwc_conv(arguments[1]);
  const auto instruction_set = function<int32_t(const char**)>(library, "nhwc_conv_instruction_set");
  const char* name;
  instruction_set(&name);
  std::printf("instruction set: %s\n", name);

  const auto conv2d = c10::Dispatcher::singleton().findSchemaOrThrow("nhwc_conv::conv2d", "").typed<Conv2d>();
  const c10::InferenceMode no_gradients;  // they are computed by the Python package
  const at::Tensor x = at::randn({2, 32, 32, 8}), w = at::randn({3, 3, 8, 16}), bias = at::randn({16});
  const at::Tensor y = conv2d.call(x, w, bias, {2, 2}, {1, 1}, {1, 1}, 1, 0);
  const at::Tensor expected =
      at::conv2d(x.permute({0, 3, 1, 2}), w.permute({3, 2, 0, 1}), bias, 2, 1).permute({0, 2, 3, 1});
  const bool same = at::allclose(y, expected, 1e-4, 1e-4);
  std::printf("conv2d: %s\n", same ? "as aten's" : "wrong");
  return same ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
