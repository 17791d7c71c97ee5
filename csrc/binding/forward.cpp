#include <cstring>

#include "../conv/packed_weights.h"
#include "../kernels/dispatch.h"
#include "aten.h"
#include "checks.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

// What the weights of a call are: a tensor, or a buffer that pack_weight has filled.
template <class T>
struct CallWeights {
  WeightView<const T> view;
  const T* packed;  // or null
  Prepacked layout;
};

template <class T>
Tensor run(ConvGeometry g, Algorithm algorithm, const Tensor& x, const TensorInfo& x_info, const CallWeights<T>& w,
           const T* bias) {
  const int64_t y_sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  const Tensor y = empty_contiguous(x_info.dim, y_sizes + 4 - x_info.dim, x_info.dtype);
  if (g.N == 0) return y;
  ImageView<const T> from = image_view(read<T>(x), x_info);
  ImageView<T> to = {write<T>(y), g.h.output * g.w.output * g.O, g.w.output * g.O, g.O, 1};
  join_pixels(g, from);

  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Parallel parallel = torch_threads();
  const ConvPlan plan =
      make_plan(kernels, g, from, w.view, algorithm, parallel.threads, w.packed ? &w.layout : nullptr);
  const int64_t to_pack = w.packed ? 0 : plan.packed_elements;
  const Workspace<T> workspace(to_pack, plan.scratch_elements, parallel.threads);
  // Not written unless it is the workspace.
  T* packed = w.packed ? const_cast<T*>(w.packed) + plan.prepacked_offset : workspace.data();
  const Convolution<T> conv(kernels, plan, g, from, w.view, to, bias, packed);
  if (!w.packed) for_each_item(parallel, conv.pack_items(), [&](int64_t item, int64_t) { conv.pack(item); });
  T* scratch = workspace.data() + to_pack;
  for_each_item(parallel, conv.items(),
                [&](int64_t item, int64_t slot) { conv.run(item, scratch + slot * plan.scratch_elements); });
  return y;
}

Tensor forward(Algorithm algorithm, const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias,
               const Sizes& stride, const Sizes& padding, const Sizes& dilation, int64_t groups, int64_t auto_pad) {
  const TensorInfo x_info = info_of(x), w_info = info_of(w);
  TensorInfo bias_info;
  if (bias) bias_info = info_of(*bias);
  const ConvOptions options = {stride, padding, dilation, groups, auto_pad};
  const ConvGeometry g = check_forward(x_info, w_info, bias ? &bias_info : nullptr, options);
  if (algorithm == Algorithm::winograd) check_winograd(g, options);
  if (!computed_here(x_info)) {
    return call_python_op("nhwc_conv::_aten_conv2d", "x", x, w, bias, stride, padding, dilation, groups, auto_pad);
  }
  const Tensor b = bias ? contiguous_bias(*bias, bias_info) : x;
  if (x_info.dtype == aoti_torch_dtype_float32()) {
    return run<float>(g, algorithm, x, x_info, {weight_view(read<float>(w), w_info, groups), nullptr, {}},
                      bias ? read<float>(b) : nullptr);
  }
  return run<double>(g, algorithm, x, x_info, {weight_view(read<double>(w), w_info, groups), nullptr, {}},
                     bias ? read<double>(b) : nullptr);
}

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
template <class T>
int64_t elements_to_pack(const ConvGeometry& weights, bool with_winograd) {
  int64_t most = 0;
  for (int i = 0; built_vector_bytes(i) > 0; ++i) {
    most = max(most, PackingPlan<T>(kernel_widths<T>(built_vector_bytes(i)), weights, with_winograd).elements());
  }
  return kPackedHeader<T> + most;
}

WeightState state_of(const Tensor& w, const TensorInfo& info) {
  WeightState state = {reinterpret_cast<int64_t>(read<void>(w)), WeightState::kUncounted, {}};
  std::memcpy(state.strides, info.strides, sizeof(state.strides));
  if (!call_op<bool>("aten::is_inference", w)) state.version = call_op<int64_t>("aten::_version", w);
  return state;
}

template <class T>
Tensor pack(const Tensor& w, const TensorInfo& w_info, int64_t groups, bool with_winograd) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const ConvGeometry g = weight_geometry(w_info.sizes, groups);
  const PackingPlan<T> plan(kernels, g, with_winograd);
  const int64_t size = elements_to_pack<T>(g, with_winograd);
  const Tensor result = empty_contiguous(1, &size, w_info.dtype);
  T* packed = write<T>(result);
  // Gaps too, which nothing reads: they end up in files.
  std::memset(packed, 0, size * sizeof(T));
  // Read first: a change while packing makes this packing stale, not the next one.
  const PackedHeader header = header_of(g, plan, size, state_of(w, w_info));
  std::memcpy(packed, &header, sizeof(header));
  packed += kPackedHeader<T>;
  const WeightView<const T> view = weight_view(read<T>(w), w_info, groups);
  const Convolution<T> direct(kernels, plan.direct, g, {}, view, {}, nullptr, packed);
  for_each_item(torch_threads(), direct.pack_items(), [&](int64_t item, int64_t) { direct.pack(item); });
  if (plan.layout.winograd_elements == 0) return result;
  const WinogradPlan winograd_plan = make_winograd_plan(kernels, g, 1, &plan.layout);
  const WinogradConv<T> winograd(kernels, winograd_plan, g, {}, view, {}, nullptr,
                                 packed + plan.layout.direct_elements);
  for_each_item(torch_threads(), winograd.pack_items(), [&](int64_t item, int64_t) { winograd.pack(item); });
  return result;
}

template <class T>
Tensor run_packed(const ConvGeometry& g, const Tensor& x, const TensorInfo& x_info, const Tensor& packed,
                  const TensorInfo& packed_info, const std::optional<Tensor>& weight, const TensorInfo* weight_info,
                  const std::optional<Tensor>& bias) {
  const T* data = read<T>(packed);
  const T* bias_data = bias ? read<T>(*bias) : nullptr;
  if (packed_info.dim == 1 && packed_info.strides[0] == 1 && packed_info.sizes[0] >= kPackedHeader<T>) {
    const PackedHeader header = read_header(data);
    const PackingPlan<T> plan(kernels_of<T>(active_kernels()), g, header.with_winograd != 0);
    if (header_matches(header, g, plan, packed_info.sizes[0]) &&
        (!weight || header.weight == state_of(*weight, *weight_info))) {
      return run<T>(g, Algorithm::automatic, x, x_info, {{}, data + kPackedHeader<T>, plan.layout}, bias_data);
    }
  }
  if (!weight) fail("packed was packed for another weight_size, another number of groups or another instruction set");
  const WeightView<const T> view = weight_view(read<T>(*weight), *weight_info, g.groups);
  return run<T>(g, Algorithm::automatic, x, x_info, {view, nullptr, {}}, bias_data);
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

Tensor winograd(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
                int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::winograd, x, w, bias, stride, padding, dilation, groups, auto_pad);
}

Tensor conv2d(Tensor x, Tensor w, std::optional<Tensor> bias, Sizes stride, Sizes padding, Sizes dilation,
              int64_t groups, int64_t auto_pad) {
  return forward(Algorithm::automatic, x, w, bias, stride, padding, dilation, groups, auto_pad);
}

int64_t packed_elements(bool is_double, const int64_t weight_size[4], int64_t groups, bool winograd) {
  const ConvGeometry g = weight_geometry(weight_size, groups);
  return is_double ? elements_to_pack<double>(g, winograd) : elements_to_pack<float>(g, winograd);
}

Tensor pack_weight(Tensor w, int64_t groups, bool winograd, bool oihw) {
  const HwioInfo hwio(w, oihw);
  const TensorInfo& w_info = *hwio;
  check_packable(w_info, groups);
  return w_info.dtype == aoti_torch_dtype_float32() ? pack<float>(w, w_info, groups, winograd)
                                                    : pack<double>(w, w_info, groups, winograd);
}

Tensor conv2d_packed(Tensor x, Tensor packed, Sizes weight_size, std::optional<Tensor> bias, Sizes stride,
                     Sizes padding, Sizes dilation, int64_t groups, int64_t auto_pad, std::optional<Tensor> weight,
                     bool oihw) {
  const TensorInfo x_info = info_of(x), packed_info = info_of(packed);
  TensorInfo bias_info;
  if (bias) bias_info = info_of(*bias);
  const ConvGeometry g = check_packed(x_info, packed_info, weight_size, bias ? &bias_info : nullptr,
                                      {stride, padding, dilation, groups, auto_pad});
  std::optional<HwioInfo> weight_info;
  if (weight) {
    weight_info.emplace(*weight, oihw);
    check_packed_weight(packed_info, **weight_info, weight_size);
  }
  const std::optional<Tensor> b = bias ? std::optional(contiguous_bias(*bias, bias_info)) : std::nullopt;
  const auto compute = x_info.dtype == aoti_torch_dtype_float32() ? run_packed<float> : run_packed<double>;
  return compute(g, x, x_info, packed, packed_info, weight, weight ? &**weight_info : nullptr, b);
}

}  // namespace nhwc_conv
