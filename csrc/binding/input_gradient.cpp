#include "aten.h"
#include "convolve.h"
#include "dtypes.h"
#include "ops.h"
#include "run_pass.h"

namespace nhwc_conv {

Tensor input_gradient(int64_t algorithm, ImageFormat format, const Tensor& grad, const Tensor& w,
                      const Sizes& input_size, const ConvOptions& options) {
  const bool nchw = format != ImageFormat::nhwc;
  const NhwcInfo grad_info(grad, nchw);
  const HwioInfo w_info(w, nchw);
  const ConvGeometry g = check_input_gradient(*grad_info, *w_info, input_size, options, algorithm);
  const int64_t dim = (*grad_info).dim;
  const int32_t dtype = (*grad_info).dtype;
  if (!is_computed_here(dtype)) {
    check_nhwc(nchw, "grad", dtype);
    return call_python_op("nhwc_conv::_aten_conv2d_input", "grad", grad, w, input_size, options.stride, options.padding,
                          options.dilation, options.groups, options.auto_pad, algorithm);
  }
  const Tensor dx = empty_images(dim, {g.N, g.h.input, g.w.input, g.C}, dtype, format);
  if (g.N == 0) return dx;
  const NhwcInfo dx_info(dx, nchw);
  return with_types(dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const Parallel parallel = torch_threads(g.work(sizeof(S)));
    const Algorithm method = gradient_algorithm(algorithm);
    const auto [met, weights] = without_idle_taps(g, weight_view(read<S>(w), *w_info, g.groups), method);
    const InputGradient<S, A> pass(types.kernels(), met, method, parallel.threads,
                                   image_view(read<S>(grad), *grad_info), weights, image_view(write<S>(dx), *dx_info));
    run_pass<A>(pass, parallel);
    return dx;
  });
}

Tensor conv2d_input(Tensor grad, Tensor w, Sizes input_size, Sizes stride, Sizes padding, Sizes dilation,
                    int64_t groups, int64_t auto_pad, int64_t algorithm) {
  return input_gradient(algorithm, ImageFormat::nhwc, grad, w, input_size,
                        {stride, padding, dilation, groups, auto_pad});
}

}  // namespace nhwc_conv
