// PyTorch's convolution_overrideable: the convolution that it leaves to others, with autograd's record of it in C++.
//
// Its kernels here are for CPU, where PyTorch has none. So the record of a convolution of ours is made, kept and run
// without Python, which costs a small convolution several times what it computes. Where a gradient is itself
// differentiated, the Python package takes over: the derivative that PyTorch knows would be computed by its own
// convolutions.
//
// `transposed` is false, so `output_padding` has no meaning of its own. What PyTorch's arguments cannot say stands in
// it, and the others with it: each list is converted several times on its way.
#include <tuple>

#include "aten.h"
#include "aten_convolution.h"
#include "short_call.h"

namespace c10::impl {

// Whether a dispatch mode sees the ops. No part of the stable ABI: where PyTorch has it no more, one always may.
struct TorchDispatchModeTLS {
  static bool any_modes_set(bool skip_infra_modes) __attribute__((weak));
};

}  // namespace c10::impl

namespace nhwc_conv {

namespace {

using torch::headeronly::ScalarType;
using torch::stable::detail::StableLibrary;

bool is_rounded(const ShortCall& call, const TensorInfo& images, const TensorInfo& other) {
  return call.mixed && images.dtype != other.dtype && is_computed_here(images.dtype) &&
         arithmetic_dtype(images.dtype) == other.dtype;
}

Tensor rounded(const Tensor& tensor, int32_t dtype) {
  return call_overload<Tensor>("aten::to", "dtype", tensor, static_cast<ScalarType>(dtype), false, false,
                               std::optional<torch::headeronly::MemoryFormat>());
}

Tensor convolve(const ShortCall& call, Tensor input, Tensor weight, std::optional<Tensor> bias) {
  if (call.mixed) {
    const TensorInfo images = info_of(input);
    if (is_rounded(call, images, info_of(weight))) weight = rounded(weight, images.dtype);
    if (bias && is_rounded(call, images, info_of(*bias))) bias = rounded(*bias, images.dtype);
  }
  return forward(call.algorithm, call.nchw, input, weight, bias, call.options());
}

// The sum over all pixels of all images.
Tensor bias_gradient(const Tensor& grad, bool nchw, const std::optional<ScalarType>& dtype) {
  const int64_t dim = info_of(grad).dim;
  Sizes pixels;
  for (int64_t d = 0; d < dim; ++d) {
    if (d != (nchw ? dim - 3 : dim - 1)) pixels.push_back(d);
  }
  return call_overload<Tensor>("aten::sum", "dim_IntList", grad, std::optional(pixels), false, dtype);
}

// Of the input, the weight and the bias.
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
struct Needs {
  bool input, weight, bias;
};

Gradients gradients(const ShortCall& call, const Tensor& grad, const Tensor& input, const Tensor& weight, Needs needs) {
  const HwioInfo w(weight, call.nchw);
  const NhwcInfo x(input, call.nchw);
  const TensorInfo images = info_of(input), weights = info_of(weight);
  const bool mixed = is_rounded(call, images, weights);
  std::optional<ScalarType> out_dtype;
  if (mixed) out_dtype = static_cast<ScalarType>(weights.dtype);
  Gradients result;
  if (needs.input) {
    const int64_t* size = (*x).sizes + (*x).dim - 3;
    std::get<0>(result) =
        input_gradient(call.gradient_algorithm, image_format(call.nchw, images, weights), grad,
                       mixed ? rounded(weight, images.dtype) : weight, {size[0], size[1]}, call.options());
  }
  if (needs.weight) {
    std::get<1>(result) = weight_gradient(call.gradient_algorithm, weight_order(call.nchw, weights), grad, input,
                                          {(*w).sizes[0], (*w).sizes[1]}, call.options(), out_dtype);
  }
  if (needs.bias) std::get<2>(result) = bias_gradient(grad, call.nchw, out_dtype);
  return result;
}

// The arguments of the aten ops: kind, steps and sides in output_padding, or all where PyTorch has them, for NCHW
// tensors.
ShortCall read_call(const Sizes& stride, const Sizes& padding, const Sizes& dilation, bool transposed,
                    const Sizes& output_padding, int64_t groups) {
  if (transposed) fail("aten::convolution_overrideable: nhwc_conv computes no transposed convolution");
  const Sizes& given = output_padding;
  if (given.size() == 3) return read_short_call(given[0], given[1], given[2], groups);
  if (stride.size() != 2 || padding.size() != 2 || dilation.size() != 2 || given != Sizes{0, 0}) {
    fail("aten::convolution_overrideable: nhwc_conv computes 2-D convolutions, but got stride=" + text(stride) +
         ", padding=" + text(padding) + ", dilation=" + text(dilation) + ", output_padding=" + text(given));
  }
  return {true, Algorithm::automatic, 0, false, stride, padding, dilation, groups, 0, 0, false};
}

Tensor convolution(Tensor input, Tensor weight, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
                   bool transposed, Sizes output_padding, int64_t groups) {
  return convolve(read_call(stride, padding, dilation, transposed, output_padding, groups), input, weight, bias);
}

Gradients convolution_backward(Tensor grad, Tensor input, Tensor weight, Sizes stride, Sizes padding, Sizes dilation,
                               bool transposed, Sizes output_padding, int64_t groups, std::vector<bool> output_mask) {
  return gradients(read_call(stride, padding, dilation, transposed, output_padding, groups), grad, input, weight,
                   {output_mask[0], output_mask[1], output_mask[2]});
}

// The same as an op of ours, for those who look at ops.
Gradients gradients_op(Tensor grad, Tensor input, Tensor weight, Sizes stride, Sizes padding, Sizes dilation,
                       Sizes output_padding, int64_t groups, bool need_input, bool need_weight, bool need_bias) {
  return gradients(read_call(stride, padding, dilation, false, output_padding, groups), grad, input, weight,
                   {need_input, need_weight, need_bias});
}

bool has_tangent(const Tensor& tensor) {
  const auto [primal, tangent] = call_op<std::tuple<Tensor, Tensor>>("aten::_unpack_dual", tensor, int64_t(0));
  return tangent.defined();
}

bool may_be_watched() {
#if defined(_WIN32)  // whose linker has no references that may stay null
  return true;
#else
  return c10::impl::TorchDispatchModeTLS::any_modes_set == nullptr ||
         c10::impl::TorchDispatchModeTLS::any_modes_set(false);
#endif
}

// At autograd's key, in place of PyTorch's derivative of this derivative.
Gradients recorded_backward(Tensor grad, Tensor input, Tensor weight, Sizes stride, Sizes padding, Sizes dilation,
                            bool transposed, Sizes output_padding, int64_t groups, std::vector<bool> output_mask) {
  const Needs needs = {output_mask[0], output_mask[1], output_mask[2]};
  const ShortCall call = read_call(stride, padding, dilation, transposed, output_padding, groups);
  const bool again = aoti_torch_grad_mode_is_enabled() || has_tangent(grad);
  if (!again && !may_be_watched()) return gradients(call, grad, input, weight, needs);
  if (again && !is_python_attached()) {
    fail(
        "gradients of gradients are computed by the Python package nhwc_conv, which this process has not imported: "
        "call backward without create_graph");
  }
  return call_op<Gradients>(again ? "nhwc_conv::_convolution_backward" : "nhwc_conv::_convolution_gradients", grad,
                            input, weight, stride, padding, dilation, output_padding, groups, needs.input, needs.weight,
                            needs.bias);
}

// conv2d and conv2d_packed in few arguments.
Tensor convolve_op(Tensor x, Tensor weight, std::optional<Tensor> bias, int64_t kind, int64_t steps, int64_t sides,
                   int64_t groups) {
  return convolve(read_short_call(kind, steps, sides, groups), x, weight, bias);
}

Tensor convolve_packed_op(Tensor x, Tensor packed, std::optional<Tensor> bias, int64_t kind, int64_t steps,
                          int64_t sides, int64_t groups) {
  const ShortCall call = read_short_call(kind, steps, sides, groups);
  return forward_packed(call.nchw, x, packed, bias, call.options());
}

Tensor convolve_finished_op(Tensor x, Tensor packed, std::optional<Tensor> bias, int64_t kind, int64_t steps,
                            int64_t sides, int64_t groups, std::optional<Tensor> residual, double alpha, double beta) {
  const ShortCall call = read_short_call(kind, steps, sides, groups);
  return forward_packed(call.nchw, x, packed, bias, call.options(), call.finish(residual, alpha, beta));
}

// Until the library is unloaded.
std::optional<StableLibrary> kernels, autograd, own;

}  // namespace

void register_aten_convolution() {
  kernels.emplace(StableLibrary::Kind::IMPL, "aten", "CPU", __FILE__, __LINE__)
      .impl("convolution_overrideable", TORCH_BOX(&convolution))
      .impl("convolution_backward_overrideable", TORCH_BOX(&convolution_backward));
  own.emplace(StableLibrary::Kind::IMPL, "nhwc_conv", "CPU", __FILE__, __LINE__)
      .impl("_convolution_gradients", TORCH_BOX(&gradients_op))
      .impl("_convolve", TORCH_BOX(&convolve_op))
      .impl("_convolve_packed", TORCH_BOX(&convolve_packed_op))
      .impl("_convolve_finished", TORCH_BOX(&convolve_finished_op))
      .impl("_convolve_program", TORCH_BOX(&convolve_program))
      .impl("_pack_transposed", TORCH_BOX(&pack_transposed))
      .impl("_conv_transpose", TORCH_BOX(&conv_transpose));
  autograd.emplace(StableLibrary::Kind::IMPL, "aten", "AutogradCPU", __FILE__, __LINE__)
      .impl("convolution_backward_overrideable", TORCH_BOX(&recorded_backward));
}

}  // namespace nhwc_conv
