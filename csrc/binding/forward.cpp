#include "../conv/convolution.h"
#include "../kernels/dispatch.h"
#include "aten.h"
#include "checks.h"
#include "ops.h"

namespace nhwc_conv {

namespace {

// A 1x1 convolution of stride 1 without padding is one matrix product over all pixels, if they lie evenly in memory.
template <class T>
void join_pixels(ConvGeometry& g, ImageView<const T>& x, ImageView<T>& y) {
  const bool pointwise = g.h.kernel == 1 && g.w.kernel == 1 && g.h.stride == 1 && g.w.stride == 1 && g.h.pad == 0 &&
                         g.w.pad == 0 && g.h.output == g.h.input && g.w.output == g.w.input;
  if (!pointwise || x.h != g.w.input * x.w || (g.N > 1 && x.n != g.h.input * x.h)) return;
  const int64_t pixels = g.N * g.h.input * g.w.input;
  g.N = 1;
  g.h.input = g.h.output = 1;
  g.w.input = g.w.output = pixels;
}

template <class T>
Tensor run(ConvGeometry g, Algorithm algorithm, const Tensor& x, const TensorInfo& x_info, const Tensor& w,
           const TensorInfo& w_info, const T* bias) {
  const int64_t y_sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  const Tensor y = empty_contiguous(x_info.dim, y_sizes + 4 - x_info.dim, x_info.dtype);
  if (g.N == 0) return y;
  ImageView<const T> from = image_view(read<T>(x), x_info);
  ImageView<T> to = {write<T>(y), g.h.output * g.w.output * g.O, g.w.output * g.O, g.O, 1};
  join_pixels(g, from, to);

  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  const WeightView<const T> weights = weight_view(read<T>(w), w_info, g.groups);
  const ConvPlan plan = make_plan(kernels, g, from, weights, algorithm, parallel.threads);
  const Workspace<T> workspace(plan.packed_elements + plan.scratch_elements * parallel.threads);
  const Convolution<T> conv(kernels, plan, g, from, weights, to, bias, workspace.data());
  for_each_item(parallel, conv.pack_items(), [&](int64_t item, int64_t) { conv.pack(item); });
  T* scratch = workspace.data() + plan.packed_elements;
  for_each_item(parallel, conv.items(),
                [&](int64_t item, int64_t slot) { conv.run(item, scratch + slot * plan.scratch_elements); });
  return y;
}

Tensor forward(Algorithm algorithm, const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias,
               const Sizes& stride, const Sizes& padding, const Sizes& dilation, int64_t groups, int64_t auto_pad) {
  const TensorInfo x_info = info_of(x), w_info = info_of(w);
  TensorInfo bias_info;
  if (bias) bias_info = info_of(*bias);
  const ConvGeometry g =
      check_forward(x_info, w_info, bias ? &bias_info : nullptr, {stride, padding, dilation, groups, auto_pad});
  if (!computed_here(x_info)) {
    return call_op("nhwc_conv::_aten_conv2d", x, w, bias, stride, padding, dilation, groups, auto_pad);
  }
  const Tensor b = bias ? with_contiguous_channels(*bias, bias_info) : x;
  return x_info.dtype == aoti_torch_dtype_float32()
             ? run<float>(g, algorithm, x, x_info, w, w_info, bias ? read<float>(b) : nullptr)
             : run<double>(g, algorithm, x, x_info, w, w_info, bias ? read<double>(b) : nullptr);
}

}  // namespace

Tensor im2col(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::im2col, x, w, bias, stride, padding, dilation, groups, auto_pad);
}

Tensor matmul(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::matmul, x, w, bias, stride, padding, dilation, groups, auto_pad);
}

Tensor conv2d(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::automatic, x, w, bias, stride, padding, dilation, groups, auto_pad);
}

}  // namespace nhwc_conv
