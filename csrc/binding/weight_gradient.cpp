#include <cstring>

#include "aten.h"
#include "checks.h"
#include "dtypes.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

Tensor conv2d_weight(Tensor grad, Tensor x, Sizes kernel_size, Sizes stride, Sizes padding, Sizes dilation,
                     int64_t groups, int64_t auto_pad, int64_t algorithm,
                     std::optional<torch::headeronly::ScalarType> out_dtype) {
  const TensorInfo grad_info = info_of(grad), x_info = info_of(x);
  const ConvGeometry g =
      check_weight_gradient(grad_info, x_info, kernel_size, {stride, padding, dilation, groups, auto_pad}, algorithm);
  const int32_t dtype = check_out_dtype(x_info, out_dtype);
  if (!is_computed_here(x_info.dtype)) {
    return call_python_op("nhwc_conv::_aten_conv2d_weight", "grad", grad, x, kernel_size, stride, padding, dilation,
                          groups, auto_pad, algorithm, out_dtype);
  }
  const int64_t sizes[4] = {g.h.kernel, g.w.kernel, g.C_per_group(), g.O};
  const Tensor dw = empty_contiguous(4, sizes, dtype);
  return with_types(x_info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    if (g.N == 0) {
      const int64_t elements = sizes[0] * sizes[1] * sizes[2] * sizes[3];
      std::memset(write<void>(dw), 0, elements * (dtype == x_info.dtype ? sizeof(S) : sizeof(A)));
      return dw;
    }
    const Parallel parallel = torch_threads();
    const WeightGradient<S, A> pass(
        types.kernels(), g, gradient_algorithm(algorithm), parallel.threads, image_view(read<S>(x), x_info),
        image_view(read<S>(grad), grad_info),
        dtype == x_info.dtype ? Gradient<S, A>{write<S>(dw), nullptr} : Gradient<S, A>{nullptr, write<A>(dw)});
    const Workspace<A> workspace(pass.memory(), parallel.threads);
    pass.run(parallel, workspace.data());
    return dw;
  });
}

}  // namespace nhwc_conv
