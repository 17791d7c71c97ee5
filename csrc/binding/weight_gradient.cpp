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

template <class T>
Tensor run_winograd(const ConvGeometry& g, const Tensor& grad, const Tensor& x, const Tensor& dw) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  const WinogradGradientPlan plan = make_winograd_gradient_plan(kernels, g, parallel.threads);
  const Workspace<T> workspace(0, plan.scratch_elements, parallel.threads);
  const WinogradWeightGradient<T> gradient(kernels, plan, g, image_view(read<T>(x), info_of(x)),
                                           image_view(read<T>(grad), info_of(grad)), write<T>(dw));
  gradient.run(parallel, workspace.data());
  return dw;
}

template <class T>
Tensor run(ConvGeometry g, const Tensor& grad, const Tensor& x, Algorithm algorithm) {
  const int64_t sizes[4] = {g.h.kernel, g.w.kernel, g.C_per_group(), g.O};
  const Tensor dw = empty_contiguous(4, sizes, info_of(x).dtype);
  if (g.N == 0) {
    std::memset(write<T>(dw), 0, sizeof(T) * sizes[0] * sizes[1] * sizes[2] * sizes[3]);
    return dw;
  }
  if (takes_winograd_gradient<T>(algorithm, g)) return run_winograd<T>(g, grad, x, dw);
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  ImageView<const T> from = image_view(read<T>(x), info_of(x)), grads = image_view(read<T>(grad), info_of(grad));
  join_single_pixels(g, from, grads);
  if (is_depthwise(kernels, g)) {
    const DepthwiseWeightGradient<T> gradient(kernels, g, from, grads, write<T>(dw));
    const Workspace<T> workspace(gradient.partial_elements(), gradient.scratch_elements(), parallel.threads);
    gradient.run(parallel, workspace.data());
    return dw;
  }
  const WeightGradientPlan plan = make_weight_gradient_plan(kernels, g, from, grads);
  const Workspace<T> workspace(plan.partial_elements, plan.scratch_elements(), parallel.threads);
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
    return call_python_op("nhwc_conv::_aten_conv2d_weight", "grad", grad, x, kernel_size, stride, padding, dilation,
                          groups, auto_pad, algorithm);
  }
  return x_info.dtype == aoti_torch_dtype_float32() ? run<float>(g, grad, x, gradient_algorithm(algorithm))
                                                    : run<double>(g, grad, x, gradient_algorithm(algorithm));
}

}  // namespace nhwc_conv
