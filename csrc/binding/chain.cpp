#include "chain.h"

#include "packed.h"
#include "run_forward.h"

namespace nhwc_conv {

namespace {

// What a call on images of the size of `x` computes, its arguments checked; nothing where its weights are not packed
// for that.
template <class S, class A>
std::optional<Link<S, A>> link_of(const TensorInfo& x, const PackedCall& call, const PackedHeader& header) {
  const TensorInfo packed = info_of(call.packed);
  TensorInfo bias;
  if (call.bias) bias = info_of(*call.bias);
  const ConvGeometry g = check_packed(x, packed, weight_size(header), call.bias ? &bias : nullptr, call.call.options());
  check_activation(call.finish.activation);
  if (call.finish.residual) check_residual(x, *NhwcInfo(*call.finish.residual, call.call.nchw), g);
  const auto weights = packed_weights<S, A>(g, read<A>(call.packed), packed);
  if (!weights) return std::nullopt;
  return Link<S, A>{g, *weights, bias_view<S>(call.bias, bias), result_in<S, A>({}, call.call.nchw, call.finish)};
}

// The link and those behind it, as long as images between them are worth strips; and where the last result may stand.
template <class S, class A>
std::vector<Link<S, A>> links_from(const Link<S, A>& first, bool nchw, const NextCall& next, ResultPlace& place) {
  const Kernels<S, A>& kernels = Types<S, A>::kernels();
  std::vector<Link<S, A>> links = {first};
  while (takes_strips(kernels, links.back().g) && leaves_cache(kernels, links.back().g)) {
    const std::optional<PackedCall> call = next(links.size());
    if (!call || call->call.nchw != nchw) break;
    const ConvGeometry& g = links.back().g;
    const int64_t sizes[4] = {g.N, g.h.output, g.w.output, g.O};
    int64_t strides[4];
    contiguous_strides(4, sizes, strides);
    const TensorInfo between = {4, sizes, strides, dtype_of<S>(), aoti_torch_device_type_cpu()};
    const auto link = link_of<S, A>(between, *call, header_of(call->packed));
    if (!link || !takes_strips(kernels, link->g)) break;
    links.push_back(*link);
    place = call->place;
  }
  return links;
}

}  // namespace

ChainResult convolve_chain(const Tensor& x, const PackedCall& first, const NextCall& next) {
  const bool nchw = first.call.nchw;
  const TensorInfo info = info_of(x);
  const PackedHeader header = header_of(first.packed);
  const bool channels_last = suggests_channels_last(info) || packed_channels_last(header);
  const ImageFormat format = !nchw ? ImageFormat::nhwc : channels_last ? ImageFormat::channels_last : ImageFormat::nchw;
  ChainResult result = {};
  if (is_computed_here(info.dtype)) {
    with_types(info.dtype, [&](auto types) {
      using S = typename decltype(types)::S;
      using A = typename decltype(types)::A;
      const NhwcInfo x_info(x, nchw);
      const auto link = link_of<S, A>(*x_info, first, header);
      if (!link) return;
      std::vector<Link<S, A>> links;
      // What all links make then lies as [N, H, W, C].
      ResultPlace place = first.place;
      if (format != ImageFormat::nchw && info.dim == 4) links = links_from(*link, nchw, next, place);
      if (links.size() < 2) {
        result = {run_forward<S, A>(link->g, Algorithm::automatic, x, *x_info, link->weights, link->bias, format,
                                    first.finish, place),
                  1};
        return;
      }
      const ConvGeometry& last = links.back().g;
      const Tensor y = empty_images(4, {last.N, last.h.output, last.w.output, last.O}, info.dtype, format, place);
      links.back().result.y = image_view(write<S>(y), *NhwcInfo(y, nchw));
      const Parallel parallel = torch_threads(link->g.work(sizeof(S)));
      const Chain<S, A> pass(Types<S, A>::kernels(), links, image_view(read<S>(x), *x_info), parallel.threads);
      run_pass<A>(pass, parallel, place.memory);
      result = {y, static_cast<int64_t>(links.size())};
    });
  }
  if (result.calls > 0) return result;
  // Which says what it cannot do.
  return {forward_packed(nchw, x, first.packed, first.bias, first.call.options(), first.finish), 1};
}

}  // namespace nhwc_conv
