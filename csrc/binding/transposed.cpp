// Transposed convolutions that nobody looks at, where no gradient is recorded: the input gradient with a bias and an
// activation, in a short call, by weights that may be packed ahead of it.
#include "check_arguments.h"
#include "dtypes.h"
#include "packed.h"
#include "run_forward.h"
#include "short_call.h"

namespace nhwc_conv {

namespace {

// The result of images of so many rows and columns; `more`: rows and columns beyond the least size. The fields of a
// short call are so short that nothing overflows.
Sizes transposed_size(const int64_t (&image)[2], const int64_t* kernel, const ShortCall& call, const Sizes& more) {
  Sizes size;
  for (int a = 0; a < 2; ++a) {
    const int64_t stride = call.stride[a], sides = call.padding[2 * a] + call.padding[2 * a + 1];
    const int64_t least = (image[a] - 1) * stride - sides + call.dilation[a] * (kernel[a] - 1) + 1;
    size.push_back(call.auto_pad != 0 ? image[a] * stride : least + more[a]);
  }
  return size;
}

ShortCall read_transposed(int64_t kind, int64_t steps, int64_t sides, int64_t groups, const Sizes& more) {
  if (more.size() != 2) fail("expected output_padding of 2 values, but got output_padding=" + text(more));
  return read_short_call(kind, steps, sides, groups);
}

}  // namespace

// Of a weight [KH, KW, O/groups, C], or, of calls of NCHW images, [C, O/groups, KH, KW].
Tensor pack_transposed(Tensor weight, int64_t kind, int64_t steps, int64_t sides, int64_t groups, Sizes more) {
  const ShortCall call = read_transposed(kind, steps, sides, groups, more);
  const HwioInfo hwio(weight, call.nchw);
  const TensorInfo& w = *hwio;
  check_packable(w, groups);
  // Whether phases are channels is the same for images of all sizes: for some that is large enough.
  const int64_t image[2] = {2 + call.padding[0] + call.padding[1], 2 + call.padding[2] + call.padding[3]};
  const int64_t sizes[4] = {1, image[0], image[1], w.sizes[3]};
  const TensorInfo x = {4, sizes, sizes, w.dtype, w.device_type};
  const ConvGeometry g = check_input_gradient(x, w, transposed_size(image, w.sizes, call, more), call.options(), 0);
  return with_types(w.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const PackedPhases<S, A> phases(types.kernels(), g);
    const PhaseWeights<S, A> weights(types.kernels(), g, weight_view(read<S>(weight), w, groups));
    const int64_t elements = phases.elements();
    const Tensor packed = empty_contiguous(1, &elements, dtype_of<A>());
    const Parallel parallel = torch_threads(g.work(sizeof(S)));
    const Workspace<A> copy({weights.elements(), 0}, parallel.threads);
    phases.pack(parallel, weights, {}, write<A>(packed), reinterpret_cast<S*>(copy.data()));
    return packed;
  });
}

// Where `packed` is not what pack_transposed would make of the weight for this call, the weight itself is read.
Tensor conv_transpose(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> packed, int64_t kind,
                      int64_t steps, int64_t sides, int64_t groups, Sizes more, double alpha, double beta) {
  const ShortCall call = read_transposed(kind, steps, sides, groups, more);
  check_activation(call.activation);
  const NhwcInfo images(x, call.nchw);
  const HwioInfo hwio(weight, call.nchw);
  const TensorInfo &x_info = *images, &w = *hwio;
  check_groups(groups);
  check_rank("x", x_info);
  const int64_t image[2] = {x_info.sizes[x_info.dim - 3], x_info.sizes[x_info.dim - 2]};
  check_weight(w, groups);
  const ConvGeometry g =
      check_input_gradient(x_info, w, transposed_size(image, w.sizes, call, more), call.options(), 0);
  TensorInfo bias_info;
  if (bias) {
    bias_info = info_of(*bias);
    check_same_kind({"input", "x", &x_info}, {"bias", "bias", &bias_info});
    if (bias_info.dim != 1 || bias_info.sizes[0] != g.C)
      fail("expected a bias for each channel, but got " + text(bias_info));
  }
  if (!is_computed_here(x_info.dtype)) fail("expected a dtype that is computed here");
  const ImageFormat format = image_format(call.nchw, info_of(x), info_of(weight));
  const Tensor y = empty_images(x_info.dim, {g.N, g.h.input, g.w.input, g.C}, x_info.dtype, format);
  if (g.N == 0) return y;
  const NhwcInfo y_info(y, call.nchw);
  return with_types(x_info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    std::vector<PackedPhase<A>> phases;
    if (packed) {
      const TensorInfo info = info_of(*packed);
      const PackedPhases<S, A> layout(types.kernels(), g);
      if (info.dim == 1 && info.dtype == dtype_of<A>()) phases = layout.read(read<A>(*packed), info.sizes[0]);
    }
    const Parallel parallel = torch_threads(g.work(sizeof(S)));
    const Result<S, A> result = result_in<S, A>(image_view(write<S>(y), *y_info), false, call.finish({}, alpha, beta));
    const InputGradient<S, A> pass(types.kernels(), g, Algorithm::automatic, parallel.threads,
                                   image_view(read<S>(x), x_info), weight_view(read<S>(weight), w, groups), result.y,
                                   bias_view<S>(bias, bias_info), phases, result.steps);
    run_pass<A>(pass, parallel);
    return y;
  });
}

}  // namespace nhwc_conv
