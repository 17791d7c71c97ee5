#include "../conv/weight_gradient.h"

#include <cstring>

#include "../conv/depthwise_gradient.h"
#include "../conv/winograd_gradient.h"
#include "../kernels/dispatch.h"
#include "aten.h"
#include "checks.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

// image itself if its channels are contiguous, else a copy. Not by aten::clone, which runs on torch's pool even where
// that is gone: see threads.cpp.
template <class T>
Tensor with_contiguous_channels(const Kernels<T>& kernels, const Parallel& parallel, const Tensor& image) {
  const TensorInfo info = info_of(image);
  const int64_t* sizes = info.sizes + info.dim - 3;
  const int64_t N = info.dim == 4 ? info.sizes[0] : 1, H = sizes[0], W = sizes[1], C = sizes[2];
  if (C == 1 || info.strides[info.dim - 1] == 1) return image;
  const Tensor copy = empty_contiguous(info.dim, info.sizes, info.dtype);
  const ImageView<const T> from = image_view(read<T>(image), info);
  T* to = write<T>(copy);
  for_each_item(parallel, N * H, [&](int64_t row, int64_t) {
    kernels.copy({from.data + row / H * from.n + row % H * from.h, from.w, from.c, to + row * W * C, C, W, C});
  });
  return copy;
}

template <class T>
Tensor run_winograd(const ConvGeometry& g, const Tensor& grad, const Tensor& x, const Tensor& dw) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  const WinogradGradientPlan plan = make_winograd_gradient_plan(kernels, g);
  const Workspace<T> workspace(plan.shared_elements + plan.scratch_elements * parallel.threads);
  const WinogradWeightGradient<T> gradient(kernels, plan, g, image_view(read<T>(x), info_of(x)),
                                           image_view(read<T>(grad), info_of(grad)), write<T>(dw));
  gradient.run(parallel, workspace.data());
  return dw;
}

template <class T>
Tensor run(const ConvGeometry& g, const Tensor& any_grad, const Tensor& any_x, Algorithm algorithm) {
  const int64_t sizes[4] = {g.h.kernel, g.w.kernel, g.C_per_group(), g.O};
  const Tensor dw = empty_contiguous(4, sizes, info_of(any_x).dtype);
  if (g.N == 0) {
    std::memset(write<T>(dw), 0, sizeof(T) * sizes[0] * sizes[1] * sizes[2] * sizes[3]);
    return dw;
  }
  if (takes_winograd_gradient<T>(algorithm, g)) return run_winograd<T>(g, any_grad, any_x, dw);
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  const Tensor grad = with_contiguous_channels(kernels, parallel, any_grad);
  const Tensor x = with_contiguous_channels(kernels, parallel, any_x);
  const TensorInfo grad_info = info_of(grad), x_info = info_of(x);
  const ImageView<const T> from = image_view(read<T>(x), x_info);
  const ImageView<const T> grads = image_view(read<T>(grad), grad_info);
  if (is_depthwise<T>(g)) {
    const DepthwiseWeightGradient<T> gradient(kernels, g, from, grads, write<T>(dw));
    const Workspace<T> workspace(gradient.partial_elements() + gradient.region_elements() * parallel.threads);
    gradient.run(parallel, workspace.data());
    return dw;
  }
  const WeightGradientPlan plan = make_weight_gradient_plan(kernels, g, from.w);
  const Workspace<T> workspace(plan.partial_elements);
  const WeightGradient<T> gradient(kernels, plan, g, from, grads, write<T>(dw));
  gradient.run(parallel, workspace.data());
  return dw;
}

}  // namespace

Tensor conv2d_weight(Tensor grad, Tensor x, Sizes kernel_size, Sizes stride, Sizes padding, Sizes dilation,
                     int64_t groups, int64_t auto_pad, int64_t algorithm) {
  const TensorInfo grad_info = info_of(grad), x_info = info_of(x);
  const ConvGeometry g =
      check_weight_gradient(grad_info, x_info, kernel_size, {stride, padding, dilation, groups, auto_pad}, algorithm);
  if (!computed_here(x_info)) {
    return call_op("nhwc_conv::_aten_conv2d_weight", grad, x, kernel_size, stride, padding, dilation, groups, auto_pad,
                   algorithm);
  }
  return x_info.dtype == aoti_torch_dtype_float32() ? run<float>(g, grad, x, gradient_algorithm(algorithm))
                                                    : run<double>(g, grad, x, gradient_algorithm(algorithm));
}

}  // namespace nhwc_conv
