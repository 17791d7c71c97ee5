#include "../conv/input_gradient.h"

#include "../kernels/dispatch.h"
#include "aten.h"
#include "checks.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

template <class T>
Tensor run(const ConvGeometry& g, const Tensor& grad, const TensorInfo& grad_info, const Tensor& w,
           const TensorInfo& w_info, Algorithm algorithm) {
  const int64_t sizes[4] = {g.N, g.h.input, g.w.input, g.C};
  const Tensor dx = empty_contiguous(grad_info.dim, sizes + 4 - grad_info.dim, grad_info.dtype);
  if (g.N == 0) return dx;
  const Parallel parallel = torch_threads();
  const ImageView<T> to = {write<T>(dx), g.h.input * g.w.input * g.C, g.w.input * g.C, g.C, 1};
  const InputGradient<T> gradient(kernels_of<T>(active_kernels()), g, algorithm, parallel.threads,
                                  image_view(read<T>(grad), grad_info), weight_view(read<T>(w), w_info, g.groups), to);
  const Workspace<T> workspace(gradient.packed_elements(), gradient.scratch_elements(), parallel.threads);
  gradient.run(parallel, workspace.data());
  return dx;
}

}  // namespace

Tensor conv2d_input(Tensor grad, Tensor w, Sizes input_size, Sizes stride, Sizes padding, Sizes dilation,
                    int64_t groups, int64_t auto_pad, int64_t algorithm) {
  const TensorInfo grad_info = info_of(grad), w_info = info_of(w);
  const ConvGeometry g =
      check_input_gradient(grad_info, w_info, input_size, {stride, padding, dilation, groups, auto_pad}, algorithm);
  if (!computed_here(grad_info)) {
    return call_python_op("nhwc_conv::_aten_conv2d_input", "grad", grad, w, input_size, stride, padding, dilation,
                          groups, auto_pad, algorithm);
  }
  const Algorithm chosen = gradient_algorithm(algorithm);
  return grad_info.dtype == aoti_torch_dtype_float32() ? run<float>(g, grad, grad_info, w, w_info, chosen)
                                                       : run<double>(g, grad, grad_info, w, w_info, chosen);
}

}  // namespace nhwc_conv
