// The passes as csrc/binding runs them: plan, allocate, pack, run; on threads of our own.
#pragma once

#include "../../csrc/conv/depthwise_gradient.h"
#include "../../csrc/conv/input_gradient.h"
#include "../../csrc/conv/packed_weights.h"
#include "../../csrc/conv/weight_gradient.h"
#include "../../csrc/conv/winograd_gradient.h"
#include "tensors.h"
#include "threads.h"

namespace verify {

using nhwc_conv::Algorithm;

struct NamedAlgorithm {
  const char* name;
  Algorithm algorithm;
  double bound;  // of the error, in units of u * the largest sum |x||w| of an image; 0: exact on integers
  bool (*applies)(const nhwc_conv::ConvGeometry&);
};
inline bool always(const nhwc_conv::ConvGeometry&) { return true; }
// The one list of algorithms that the driver knows: forward, then for gradients and prepacked weights.
constexpr NamedAlgorithm kForward[] = {
    {"im2col", Algorithm::im2col, 0, always},
    {"matmul", Algorithm::matmul, 0, always},
    {"direct", Algorithm::direct, 0, always},
    {"winograd", Algorithm::winograd, 40, nhwc_conv::winograd_fits},
};
constexpr NamedAlgorithm kChosen[] = {kForward[2], kForward[3]};

template <class T>
struct Call {
  const nhwc_conv::Kernels<T>& kernels;
  const nhwc_conv::ConvGeometry& g;
  const Tensors<T>& tensors;
  Memory& memory;
  Place place;
  int threads;
};

// Every pass returns its result, contiguous in the logical order and full of NaN before.
template <class T>
T* run_planned(const Call<T>& call, Algorithm algorithm, const nhwc_conv::Prepacked* layout, const T* packed_weights) {
  const nhwc_conv::ConvGeometry& g = call.g;
  T* y = poisoned<T>(call.memory.result, call.place, g.N * g.h.output * g.w.output * g.O);
  const nhwc_conv::Parallel parallel = threads(call.threads);
  const nhwc_conv::WeightView<const T> w = packed_weights ? nhwc_conv::WeightView<const T>{} : call.tensors.w;
  const nhwc_conv::ConvPlan plan = make_plan(call.kernels, g, call.tensors.x, w, algorithm, call.threads, layout);
  const int64_t to_pack = packed_weights ? 0 : plan.packed_elements;
  T* workspace = poisoned<T>(call.memory.workspace, call.place, to_pack + plan.scratch_elements * call.threads);
  T* packed = packed_weights ? const_cast<T*>(packed_weights) + plan.prepacked_offset : workspace;
  const nhwc_conv::ImageView<T> to = {y, g.h.output * g.w.output * g.O, g.w.output * g.O, g.O, 1};
  const nhwc_conv::Convolution<T> conv(call.kernels, plan, g, call.tensors.x, w, to, call.tensors.bias, packed);
  call.memory.inputs_read_only(true);
  if (!packed_weights) {
    for_each_item(parallel, conv.pack_items(), [&](int64_t item, int64_t) { conv.pack(item); });
  }
  for_each_item(parallel, conv.items(), [&](int64_t item, int64_t slot) {
    conv.run(item, workspace + to_pack + slot * plan.scratch_elements);
  });
  call.memory.inputs_read_only(false);
  return y;
}

template <class T>
T* forward(const Call<T>& call, Algorithm algorithm) {
  return run_planned<T>(call, algorithm, nullptr, nullptr);
}

// pack_weight and then conv2d_packed.
template <class T>
T* forward_packed(const Call<T>& call, Algorithm algorithm) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const nhwc_conv::PackingPlan<T> plan(call.kernels, g, algorithm == Algorithm::winograd);
  // Winograd never wins where lanes do not run over the output channels of one group, and cannot read such weights.
  if (plan.layout.form.dot || is_depthwise(call.kernels, g)) algorithm = Algorithm::direct;
  const int64_t header = nhwc_conv::kPackedHeader<T>, size = header + plan.elements();
  T* packed = poisoned<T>(call.memory.packed, call.place, size);
  const nhwc_conv::PackedHeader written = header_of(g, plan, size, {});
  std::memcpy(static_cast<void*>(packed), &written, sizeof(written));
  const nhwc_conv::Convolution<T> conv(call.kernels, plan.direct, g, {}, call.tensors.w, {}, nullptr, packed + header);
  const nhwc_conv::WinogradPlan winograd_plan = make_winograd_plan(call.kernels, g, 1, &plan.layout);
  const nhwc_conv::WinogradConv<T> winograd(call.kernels, winograd_plan, g, {}, call.tensors.w, {}, nullptr,
                                            packed + header + plan.layout.direct_elements);
  call.memory.inputs_read_only(true);
  for_each_item(threads(call.threads), conv.pack_items(), [&](int64_t item, int64_t) { conv.pack(item); });
  for_each_item(threads(call.threads), winograd.pack_items(), [&](int64_t item, int64_t) { winograd.pack(item); });
  call.memory.inputs_read_only(false);
  if (!header_matches(nhwc_conv::read_header(packed), g, plan, size)) return nullptr;
  call.memory.packed.read_only(true);
  T* y = run_planned<T>(call, algorithm, &plan.layout, packed + header);
  call.memory.packed.read_only(false);
  return y;
}

template <class T>
T* input_gradient(const Call<T>& call, Algorithm algorithm) {
  const nhwc_conv::ConvGeometry& g = call.g;
  T* dx = poisoned<T>(call.memory.result, call.place, g.N * g.h.input * g.w.input * g.C);
  const nhwc_conv::ImageView<T> to = {dx, g.h.input * g.w.input * g.C, g.w.input * g.C, g.C, 1};
  const nhwc_conv::InputGradient<T> gradient(call.kernels, g, algorithm, call.threads, call.tensors.grad,
                                             call.tensors.w, to);
  T* workspace = poisoned<T>(call.memory.workspace, call.place,
                             gradient.packed_elements() + gradient.scratch_elements() * call.threads);
  call.memory.inputs_read_only(true);
  gradient.run(threads(call.threads), workspace);
  call.memory.inputs_read_only(false);
  return dx;
}

template <class T>
T* weight_gradient(const Call<T>& call, Algorithm algorithm) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const Tensors<T>& t = call.tensors;
  const nhwc_conv::Parallel parallel = threads(call.threads);
  T* dw = poisoned<T>(call.memory.result, call.place, g.h.kernel * g.w.kernel * g.C_per_group() * g.O);
  if (algorithm == Algorithm::winograd) {
    const nhwc_conv::WinogradGradientPlan plan = make_winograd_gradient_plan(call.kernels, g, call.threads);
    T* workspace = poisoned<T>(call.memory.workspace, call.place, plan.scratch_elements * call.threads);
    const nhwc_conv::WinogradWeightGradient<T> gradient(call.kernels, plan, g, t.x, t.grad, dw);
    call.memory.inputs_read_only(true);
    gradient.run(parallel, workspace);
  } else if (is_depthwise(call.kernels, g)) {
    const nhwc_conv::DepthwiseWeightGradient<T> gradient(call.kernels, g, t.x, t.grad, dw);
    T* workspace = poisoned<T>(call.memory.workspace, call.place,
                               gradient.partial_elements() + gradient.scratch_elements() * call.threads);
    call.memory.inputs_read_only(true);
    gradient.run(parallel, workspace);
  } else {
    const nhwc_conv::WeightGradientPlan plan = make_weight_gradient_plan(call.kernels, g, t.x, t.grad);
    T* workspace =
        poisoned<T>(call.memory.workspace, call.place, plan.partial_elements + plan.scratch_elements() * call.threads);
    const nhwc_conv::WeightGradient<T> gradient(call.kernels, plan, g, t.x, t.grad, dw);
    call.memory.inputs_read_only(true);
    gradient.run(parallel, workspace);
  }
  call.memory.inputs_read_only(false);
  return dw;
}

}  // namespace verify
