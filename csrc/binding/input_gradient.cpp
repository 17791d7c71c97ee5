#include "aten.h"
#include "checks.h"
#include "dtypes.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

Tensor conv2d_input(Tensor grad, Tensor w, Sizes input_size, Sizes stride, Sizes padding, Sizes dilation,
                    int64_t groups, int64_t auto_pad, int64_t algorithm) {
  const TensorInfo grad_info = info_of(grad), w_info = info_of(w);
  const ConvGeometry g =
      check_input_gradient(grad_info, w_info, input_size, {stride, padding, dilation, groups, auto_pad}, algorithm);
  if (!is_computed_here(grad_info.dtype)) {
    return call_python_op("nhwc_conv::_aten_conv2d_input", "grad", grad, w, input_size, stride, padding, dilation,
                          groups, auto_pad, algorithm);
  }
  const int64_t sizes[4] = {g.N, g.h.input, g.w.input, g.C};
  const Tensor dx = empty_contiguous(grad_info.dim, sizes + 4 - grad_info.dim, grad_info.dtype);
  if (g.N == 0) return dx;
  return with_types(grad_info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const Parallel parallel = torch_threads();
    const InputGradient<S, A> pass(types.kernels(), g, gradient_algorithm(algorithm), parallel.threads,
                                   image_view(read<S>(grad), grad_info), weight_view(read<S>(w), w_info, groups),
                                   write<S>(dx));
    const Workspace<A> workspace(pass.memory(), parallel.threads);
    pass.run(parallel, workspace.data());
    return dx;
  });
}

}  // namespace nhwc_conv
