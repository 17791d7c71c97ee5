#include <cstring>

#include "aten.h"
#include "convolve.h"
#include "dtypes.h"
#include "ops.h"
#include "packed.h"
#include "run_forward.h"

namespace nhwc_conv {

namespace {

// Kernel sizes, C, O and groups of a weight; the rest of a geometry means nothing to it.
ConvGeometry weight_geometry(const int64_t w[4], int64_t groups) {
  ConvGeometry g = {};
  g.h.kernel = w[0];
  g.w.kernel = w[1];
  g.C = w[2] * groups;
  g.O = w[3];
  g.groups = groups;
  return g;
}

// What the largest layout of any instruction set takes, so that the size is the same wherever this library runs: a
// graph that packs is traced on one machine and runs on others.
template <class S, class A> int64_t elements_to_pack(const ConvGeometry& weights, bool with_winograd) {
  int64_t most = 0;
  for (int i = 0; built_vector_bytes(i) > 0; ++i) {
    const Kernels<S, A> widths = kernel_widths<S, A>(built_vector_bytes(i));
    most = max(most, PackedWeights<S, A>(widths, weights, with_winograd).elements());
  }
  return most;
}

WeightState state_of(const Tensor& w, const TensorInfo& info) {
  WeightState state = {reinterpret_cast<int64_t>(read<void>(w)), WeightState::kUncounted, {}};
  std::memcpy(state.strides, info.strides, sizeof(state.strides));
  if (!call_op<bool>("aten::is_inference", w)) state.version = call_op<int64_t>("aten::_version", w);
  return state;
}

template <class S, class A> Tensor pack(const Tensor& w, const TensorInfo& w_info, int64_t groups, bool with_winograd) {
  const ConvGeometry g = weight_geometry(w_info.sizes, groups);
  const int64_t size = elements_to_pack<S, A>(g, with_winograd);
  const Tensor result = empty_contiguous(1, &size, dtype_of<A>());
  // The state first: a change while packing makes this packing stale, not the next one.
  const WeightState state = state_of(w, w_info);
  const PackedWeights<S, A> weights(Types<S, A>::kernels(), g, with_winograd);
  weights.pack(torch_threads(g.work(sizeof(S))), weight_view(read<S>(w), w_info, groups), state, size,
               write<A>(result));
  return result;
}

// The weight from which conv2d_packed computes where `packed` is not a packing of it.
struct Unpacked {
  const Tensor& tensor;
  const TensorInfo& hwio;
};

template <class S, class A>
Tensor run_packed(const ConvGeometry& g, bool nchw, const Tensor& x, const TensorInfo& x_info, const Tensor& packed,
                  const TensorInfo& packed_info, const std::optional<Unpacked>& weight, const BiasView<S>& bias,
                  const FinishOptions& finish) {
  const A* data = read<A>(packed);
  const bool channels_last = nchw && suggests_channels_last(info_of(x));
  const auto format = [&](bool of_weight) {
    return !nchw ? ImageFormat::nhwc : channels_last || of_weight ? ImageFormat::channels_last : ImageFormat::nchw;
  };
  if (const auto given = packed_weights<S, A>(g, data, packed_info)) {
    const PackedHeader header = read_header(data);
    if (!weight || header.weight == state_of(weight->tensor, weight->hwio)) {
      return run_forward<S, A>(g, Algorithm::automatic, x, x_info, *given, bias,
                               format(nchw && packed_channels_last(header)), finish);
    }
  }
  if (!weight) fail("packed was packed for another weight_size, number of groups, instruction set or dtype");
  const GivenWeights<S, A> given = {weight_view(read<S>(weight->tensor), weight->hwio, g.groups), nullptr, {}};
  return run_forward<S, A>(g, Algorithm::automatic, x, x_info, given, bias,
                           format(nchw && suggests_channels_last(info_of(weight->tensor))), finish);
}

}  // namespace

Tensor forward(Algorithm algorithm, bool nchw, const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias,
               const ConvOptions& options) {
  const NhwcInfo x_info(x, nchw);
  const HwioInfo w_info(w, nchw);
  TensorInfo bias_info;
  if (bias) bias_info = info_of(*bias);
  const ConvGeometry g = check_forward(*x_info, *w_info, bias ? &bias_info : nullptr, options);
  if (algorithm == Algorithm::winograd) check_winograd(g, options);
  const int32_t dtype = (*x_info).dtype;
  if (!is_computed_here(dtype)) {
    check_nhwc(nchw, "x", dtype);
    return call_python_op("nhwc_conv::_aten_conv2d", "x", x, w, bias, options.stride, options.padding, options.dilation,
                          options.groups, options.auto_pad);
  }
  return with_types(dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const GivenWeights<S, A> given = {weight_view(read<S>(w), *w_info, g.groups), nullptr, {}};
    const ImageFormat format = image_format(nchw, info_of(x), info_of(w));
    return run_forward<S, A>(g, algorithm, x, *x_info, given, bias_view<S>(bias, bias_info), format);
  });
}

Tensor im2col(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::im2col, false, x, w, bias, {stride, padding, dilation, groups, auto_pad});
}

Tensor matmul(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::matmul, false, x, w, bias, {stride, padding, dilation, groups, auto_pad});
}

Tensor winograd(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
                int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::winograd, false, x, w, bias, {stride, padding, dilation, groups, auto_pad});
}

Tensor conv2d(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::automatic, false, x, w, bias, {stride, padding, dilation, groups, auto_pad});
}

int64_t packed_elements(int32_t dtype, const int64_t weight_size[4], int64_t groups, bool winograd) {
  const ConvGeometry g = weight_geometry(weight_size, groups);
  return with_types(dtype, [&](auto types) {
    return elements_to_pack<typename decltype(types)::S, typename decltype(types)::A>(g, winograd);
  });
}

Tensor pack_weight(Tensor w, int64_t groups, bool winograd, bool oihw) {
  const HwioInfo hwio(w, oihw);
  const TensorInfo& w_info = *hwio;
  check_packable(w_info, groups);
  return with_types(w_info.dtype, [&](auto types) {
    return pack<typename decltype(types)::S, typename decltype(types)::A>(w, w_info, groups, winograd);
  });
}

Tensor conv2d_packed(Tensor x, Tensor packed, Sizes weight_size, std::optional<Tensor> bias, Sizes stride,
                     Sizes padding, Sizes dilation, int64_t groups, int64_t auto_pad, std::optional<Tensor> weight,
                     bool oihw, bool nchw, std::optional<Tensor> residual, int64_t activation, double alpha,
                     double beta, bool activation_first) {
  const NhwcInfo x_info(x, nchw);
  const TensorInfo packed_info = info_of(packed);
  TensorInfo bias_info;
  if (bias) bias_info = info_of(*bias);
  const ConvGeometry g = check_packed(*x_info, packed_info, weight_size, bias ? &bias_info : nullptr,
                                      {stride, padding, dilation, groups, auto_pad});
  check_activation(activation);
  if (residual) check_residual(*x_info, *NhwcInfo(*residual, nchw), g);
  std::optional<HwioInfo> weight_info;
  std::optional<Unpacked> unpacked;
  if (weight) {
    weight_info.emplace(*weight, oihw);
    check_packed_weight(*x_info, **weight_info, weight_size);
    unpacked.emplace(Unpacked{*weight, **weight_info});
  }
  return with_types((*x_info).dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    return run_packed<S, typename decltype(types)::A>(g, nchw, x, *x_info, packed, packed_info, unpacked,
                                                      bias_view<S>(bias, bias_info),
                                                      {residual, activation, alpha, beta, activation_first});
  });
}

Tensor forward_packed(bool nchw, const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias,
                      const ConvOptions& options, const FinishOptions& finish) {
  const PackedHeader header = header_of(packed);
  return conv2d_packed(x, packed, weight_size(header), bias, options.stride, options.padding, options.dilation,
                       options.groups, options.auto_pad, std::nullopt, false, nchw, finish.residual, finish.activation,
                       finish.alpha, finish.beta, finish.activation_first);
}

}  // namespace nhwc_conv
