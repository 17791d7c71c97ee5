#include <cstring>

#include "aten.h"
#include "convolve.h"
#include "dtypes.h"
#include "ops.h"
#include "run_pass.h"

namespace nhwc_conv {

Tensor weight_gradient(int64_t algorithm, WeightOrder order, const Tensor& grad, const Tensor& x,
                       const Sizes& kernel_size, const ConvOptions& options,
                       const std::optional<torch::headeronly::ScalarType>& out_dtype) {
  const bool nchw = order != WeightOrder::hwio;
  const NhwcInfo grad_info(grad, nchw), x_info(x, nchw);
  const ConvGeometry g = check_weight_gradient(*grad_info, *x_info, kernel_size, options, algorithm);
  const int32_t dtype = check_out_dtype(*x_info, out_dtype), x_dtype = (*x_info).dtype;
  if (!is_computed_here(x_dtype)) {
    check_nhwc(nchw, "x", x_dtype);
    return call_python_op("nhwc_conv::_aten_conv2d_weight", "grad", grad, x, kernel_size, options.stride,
                          options.padding, options.dilation, options.groups, options.auto_pad, algorithm, out_dtype);
  }
  const Tensor dw = empty_weight({g.h.kernel, g.w.kernel, g.C_per_group(), g.O}, dtype, order);
  return with_types(x_dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    if (g.N == 0) {
      std::memset(write<void>(dw), 0, g.depth() * g.O * (dtype == x_dtype ? sizeof(S) : sizeof(A)));
      return dw;
    }
    const Parallel parallel = torch_threads(g.work(sizeof(S)));
    const Gradient<S, A> to =
        dtype == x_dtype ? Gradient<S, A>{write<S>(dw), nullptr, order} : Gradient<S, A>{nullptr, write<A>(dw), order};
    const WeightGradient<S, A> pass(types.kernels(), g, gradient_algorithm(algorithm), parallel.threads,
                                    image_view(read<S>(x), *x_info), image_view(read<S>(grad), *grad_info), to);
    run_pass<A>(pass, parallel);
    return dw;
  });
}

Tensor conv2d_weight(Tensor grad, Tensor x, Sizes kernel_size, Sizes stride, Sizes padding, Sizes dilation,
                     int64_t groups, int64_t auto_pad, int64_t algorithm,
                     std::optional<torch::headeronly::ScalarType> out_dtype) {
  return weight_gradient(algorithm, WeightOrder::hwio, grad, x, kernel_size,
                         {stride, padding, dilation, groups, auto_pad}, out_dtype);
}

}  // namespace nhwc_conv
