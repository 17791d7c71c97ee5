// A forward pass on tensors whose arguments are checked; it makes the tensor of the result.
#pragma once

#include "convolve.h"
#include "dtypes.h"
#include "joined_images.h"
#include "run_pass.h"

namespace nhwc_conv {

template <class A> FinishSteps<A> finish_steps(const FinishOptions& finish) {
  return {static_cast<Activation>(finish.activation), static_cast<A>(finish.alpha), static_cast<A>(finish.beta),
          finish.activation_first};
}

template <class S, class A> Result<S, A> result_in(const ImageView<S>& y, bool nchw, const FinishOptions& finish) {
  Result<S, A> result = {y};
  result.steps = finish_steps<A>(finish);
  if (finish.residual) {
    result.residual = image_view(read<S>(*finish.residual), *NhwcInfo(*finish.residual, nchw));
  }
  return result;
}

// x_info: of x as NHWC.
template <class S, class A>
Tensor run_forward(const ConvGeometry& g, Algorithm algorithm, const Tensor& x, const TensorInfo& x_info,
                   const GivenWeights<S, A>& w, const BiasView<S>& bias, ImageFormat format,
                   const FinishOptions& finish = {}, const ResultPlace& place = {}) {
  const Tensor y = empty_images(x_info.dim, {g.N, g.h.output, g.w.output, g.O}, x_info.dtype, format, place);
  if (g.N == 0) return y;
  const Parallel parallel = torch_threads(g.work(sizeof(S)));
  const NhwcInfo y_info(y, format != ImageFormat::nhwc);
  const Result<S, A> result = result_in<S, A>(image_view(write<S>(y), *y_info), format != ImageFormat::nhwc, finish);
  const Forward<S, A> pass(Types<S, A>::kernels(), g, algorithm, parallel.threads, image_view(read<S>(x), x_info), w,
                           bias, result);
  run_pass<A>(pass, parallel, place.memory);
  return y;
}

}  // namespace nhwc_conv
