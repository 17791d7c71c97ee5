// The passes that users run, csrc/conv/passes.h, on the tensors of a Problem. Every pass returns its result, contiguous
// in the logical order; buffers are full of NaN before.
#pragma once

#include "../../csrc/conv/passes.h"
#include "tensors.h"
#include "threads.h"

namespace verify {

using nhwc_conv::Activation;
using nhwc_conv::Algorithm;

struct NamedAlgorithm {
  const char* name;
  Algorithm algorithm;

  bool applies(const nhwc_conv::ConvGeometry& g) const {
    return algorithm != Algorithm::winograd || nhwc_conv::winograd_fits(g);
  }
  // Of the error, in units of u * the largest sum |x||w| of an image; 0: exact on integers.
  double bound(const nhwc_conv::ConvGeometry& g) const {
    const bool may_be_winograd = algorithm == Algorithm::winograd || algorithm == Algorithm::automatic;
    return may_be_winograd && nhwc_conv::winograd_fits(g) ? 40 : 0;
  }
};
// The one list of algorithms that the driver knows: forward, then for gradients and prepacked weights.
constexpr NamedAlgorithm kForward[] = {
    {"im2col", Algorithm::im2col},     {"matmul", Algorithm::matmul},       {"direct", Algorithm::direct},
    {"winograd", Algorithm::winograd}, {"automatic", Algorithm::automatic},
};
constexpr NamedAlgorithm kChosen[] = {kForward[2], kForward[3], kForward[4]};

template <class S, class A> struct Call {
  const nhwc_conv::Kernels<S, A>& kernels;
  const nhwc_conv::ConvGeometry& g;
  const Tensors<S>& tensors;
  Memory& memory;
  Place place;
  int threads;
  int64_t turn;  // which layout gradients have
};

// Runs a pass in a workspace of exactly the elements that it asks for.
template <class S, class A, class Pass> void run_pass(const Call<S, A>& call, const Pass& pass) {
  const nhwc_conv::PlanMemory memory = pass.memory();
  const int64_t elements = memory.packed_elements + memory.scratch_elements * call.threads;
  A* workspace = poisoned<A>(call.memory.workspace, call.place, elements);
  call.memory.inputs_read_only(true);
  pass.run(threads(call.threads), workspace);
  call.memory.inputs_read_only(false);
}

// What becomes of the sums of a forward pass, and the layout of the tensor that they go to.
struct Finish {
  nhwc_conv::FinishSteps<double> steps = {};
  bool adds = false;  // the gradient of the problem, which is as large as the result
  Order order = Order::contiguous;
};

// Makes the result of a forward pass, which `run` computes into the view that it is given.
template <class S, class A, class Run> S* finished(const Call<S, A>& call, Finish finish, const Run& run) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const int64_t sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  const Layout layout = layout_of(finish.order, sizes);
  S* y = poisoned<S>(call.memory.result, call.place, layout.elements);
  const int64_t* s = layout.strides;
  nhwc_conv::Result<S, A> to = {{y, s[0], s[1], s[2], s[3]}};
  to.steps = {finish.steps.activation, A(finish.steps.alpha), A(finish.steps.beta), finish.steps.activation_first};
  if (finish.adds) to.residual = call.tensors.grad;
  run(to);
  return finish.order == Order::contiguous ? y : gather(call.memory.gathered, call.place, layout, sizes, y);
}

template <class S, class A>
S* run_forward(const Call<S, A>& call, Algorithm algorithm, const nhwc_conv::GivenWeights<S, A>& weights,
               Finish finish) {
  return finished(call, finish, [&](const nhwc_conv::Result<S, A>& to) {
    run_pass(call, nhwc_conv::Forward<S, A>(call.kernels, call.g, algorithm, call.threads, call.tensors.x, weights,
                                            {call.tensors.bias, 1}, to));
  });
}

template <class S, class A> S* forward(const Call<S, A>& call, Algorithm algorithm, Finish finish = {}) {
  return run_forward<S, A>(call, algorithm, {call.tensors.w, nullptr, {}}, finish);
}

// pack_weight and then conv2d_packed; null where the header is not recognised.
template <class S, class A> S* forward_packed(const Call<S, A>& call, Algorithm algorithm, Finish finish = {}) {
  const nhwc_conv::PackedWeights<S, A> weights(call.kernels, call.g, algorithm != Algorithm::direct);
  // Winograd never wins where lanes do not run over the output channels of one group, and cannot read such weights.
  if (weights.layout().form.dot || nhwc_conv::is_lanewise<A>(call.kernels, call.g)) algorithm = Algorithm::direct;
  const int64_t size = weights.elements();
  A* packed = poisoned<A>(call.memory.packed, call.place, size);
  call.memory.inputs_read_only(true);
  weights.pack(threads(call.threads), call.tensors.w, {}, size, packed);
  call.memory.inputs_read_only(false);
  if (!weights.matches(nhwc_conv::read_header(packed), size)) return nullptr;
  call.memory.packed.read_only(true);
  S* y = run_forward<S, A>(call, algorithm, {{}, packed + nhwc_conv::kPackedHeader<A>, weights.layout()}, finish);
  call.memory.packed.read_only(false);
  return y;
}

// A convolution of one tap and channel, which multiplies by one, on images of so many pixels.
template <class S, class A> struct Identity {
  nhwc_conv::ConvGeometry g;
  std::vector<A> packed;
  nhwc_conv::Link<S, A> link;

  Identity(const Call<S, A>& call, int64_t channels, int64_t height, int64_t width) {
    g = {call.g.N, channels, channels, channels, {height, height, 1, 1, 1, 0}, {width, width, 1, 1, 1, 0}};
    const std::vector<S> ones(channels, stored<S>(1));
    const nhwc_conv::PackedWeights<S, A> weights(call.kernels, g, false);
    packed.resize(weights.elements());
    weights.pack(threads(1), {ones.data(), 1, 1, 1, 1, 1}, {}, packed.size(), packed.data());
    link = {g, {{}, packed.data() + nhwc_conv::kPackedHeader<A>, weights.layout()}, {nullptr, 1}, {}};
  }
};

// The convolution between two that change nothing, in strips of few rows: those of a processor without caches.
template <class S, class A> S* chain(const Call<S, A>& call, Finish finish = {}) {
  const nhwc_conv::ConvGeometry& g = call.g;
  nhwc_conv::Kernels<S, A> kernels = call.kernels;
  kernels.machine.second_level_cache = int64_t(1) << (8 + call.turn % 9);
  const nhwc_conv::PackedWeights<S, A> weights(kernels, g, false);
  A* packed = poisoned<A>(call.memory.packed, call.place, weights.elements());
  weights.pack(threads(1), call.tensors.w, {}, weights.elements(), packed);
  const nhwc_conv::GivenWeights<S, A> given = {{}, packed + nhwc_conv::kPackedHeader<A>, weights.layout()};
  const Identity<S, A> before(call, g.C, g.h.input, g.w.input), behind(call, g.O, g.h.output, g.w.output);
  std::vector<nhwc_conv::Link<S, A>> links = {before.link, {g, given, {call.tensors.bias, 1}, {}}, behind.link};
  return finished(call, finish, [&](const nhwc_conv::Result<S, A>& to) {
    links.back().result = to;
    run_pass(call, nhwc_conv::Chain<S, A>(kernels, links, call.tensors.x, call.threads));
  });
}

// With a bias, as a transposed convolution has one, or none; and with the weights of phases, if they are packed.
template <class S, class A>
S* input_gradient(const Call<S, A>& call, Algorithm algorithm, const nhwc_conv::BiasView<S>& bias = {},
                  const std::vector<nhwc_conv::PackedPhase<A>>& packed = {}) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const int64_t sizes[4] = {g.N, g.h.input, g.w.input, g.C};
  const Order order = call.turn % 2 ? Order::transposed : Order::contiguous;
  const Layout layout = layout_of(order, sizes);
  const int64_t* s = layout.strides;
  S* dx = poisoned<S>(call.memory.result, call.place, layout.elements);
  run_pass(call, nhwc_conv::InputGradient<S, A>(call.kernels, g, algorithm, call.threads, call.tensors.grad,
                                                call.tensors.w, {dx, s[0], s[1], s[2], s[3]}, bias, packed));
  return order == Order::contiguous ? dx : gather(call.memory.gathered, call.place, layout, sizes, dx);
}

// With weights of phases that are packed ahead, and a bias of zeros; null where the headers are not recognised.
template <class S, class A> S* transposed_packed(const Call<S, A>& call, Algorithm algorithm) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const nhwc_conv::PackedPhases<S, A> phases(call.kernels, g);
  const nhwc_conv::PhaseWeights<S, A> weights(call.kernels, g, call.tensors.w);
  A* packed = poisoned<A>(call.memory.packed, call.place, phases.elements());
  std::vector<S> copy(weights.elements());
  call.memory.inputs_read_only(true);
  phases.pack(threads(call.threads), weights, {}, packed, copy.data());
  call.memory.inputs_read_only(false);
  const auto read = phases.read(packed, phases.elements());
  if (read.empty()) return nullptr;
  const std::vector<S> zeros(g.C, stored<S>(0));
  call.memory.packed.read_only(true);
  S* dx = input_gradient(call, algorithm, {zeros.data(), 1}, read);
  call.memory.packed.read_only(false);
  return dx;
}

template <class S, class A> S* weight_gradient(const Call<S, A>& call, Algorithm algorithm) {
  using nhwc_conv::WeightOrder;
  const nhwc_conv::ConvGeometry& g = call.g;
  const int64_t taps = g.taps(), Cg = g.C_per_group(), KW = g.w.kernel;
  const int64_t sizes[4] = {g.h.kernel, KW, Cg, g.O}, elements = g.depth() * g.O;
  const WeightOrder order = static_cast<WeightOrder>(call.turn % 3);
  const Layout layout = order == WeightOrder::hwio   ? Layout{{KW * Cg * g.O, Cg * g.O, g.O, 1}, elements}
                        : order == WeightOrder::oihw ? Layout{{KW, 1, taps, g.depth()}, elements}
                                                     : Layout{{KW * Cg, Cg, 1, g.depth()}, elements};
  S* dw = poisoned<S>(call.memory.result, call.place, elements);
  run_pass(call, nhwc_conv::WeightGradient<S, A>(call.kernels, g, algorithm, call.threads, call.tensors.x,
                                                 call.tensors.grad, {dw, nullptr, order}));
  return gather(call.memory.gathered, call.place, layout, sizes, dw);
}

// Of the channels of x, which must be neighbours.
template <class S, class A> S* channel_means(const Call<S, A>& call) {
  const nhwc_conv::ConvGeometry& g = call.g;
  S* means = poisoned<S>(call.memory.result, call.place, g.N * g.C);
  const nhwc_conv::ImageSizes sizes = {g.N, g.h.input, g.w.input, g.C};
  run_pass(call, nhwc_conv::ChannelMeans<S, A>(call.kernels, sizes, call.threads, call.tensors.x, means));
  return means;
}

// x, whose channels must be neighbours, times factors [N, C] or, `of_images`, [N, H, W, C].
template <class S, class A>
S* image_product(const Call<S, A>& call, const std::vector<int>& factors, bool of_images) {
  const nhwc_conv::ConvGeometry& g = call.g;
  const int64_t sizes[4] = {g.N, g.h.input, g.w.input, g.C}, of_channels[4] = {g.N, 1, 1, g.C};
  const int64_t (&factor_sizes)[4] = of_images ? sizes : of_channels;
  const Layout layout = layout_of(Order::contiguous, sizes), given = layout_of(Order::contiguous, factor_sizes);
  const S* data = lay_out<S>(call.memory.packed, call.place, given, factor_sizes, factors);
  S* y = poisoned<S>(call.memory.result, call.place, layout.elements);
  const int64_t *s = layout.strides, *f = given.strides;
  const nhwc_conv::ImageView<const S> by = {data, f[0], of_images ? f[1] : 0, of_images ? f[2] : 0, f[3]};
  run_pass(call, nhwc_conv::ImageProduct<S, A>(call.kernels, {g.N, g.h.input, g.w.input, g.C}, call.tensors.x, by,
                                               {y, s[0], s[1], s[2], s[3]}));
  return y;
}

}  // namespace verify
