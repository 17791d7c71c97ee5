#include "chain.h"

#include "packed.h"
#include "run_pass.h"

namespace nhwc_conv {

namespace {

// Links as long as images between them are worth strips.
template <class S, class A> class Links {
 public:
  explicit Links(int32_t dtype) : dtype_(dtype) {}

  // Whether it was added: what the link before makes, of whose size `x` is, is read by this call.
  bool add(const TensorInfo& x, const PackedCall& call) {
    const PackedHeader header = header_of(call.packed);
    const TensorInfo packed = info_of(call.packed);
    TensorInfo bias;
    if (call.bias) bias = info_of(*call.bias);
    const ConvGeometry g =
        check_packed(x, packed, weight_size(header), call.bias ? &bias : nullptr, call.call.options());
    check_activation(call.finish.activation);
    if (call.finish.residual) check_residual(x, *NhwcInfo(*call.finish.residual, call.call.nchw), g);
    const auto weights = packed_weights<S, A>(g, read<A>(call.packed), packed);
    if (!weights || !takes_strips(Types<S, A>::kernels(), g)) return false;
    links_.push_back({g, *weights, bias_view<S>(call.bias, bias), result_in<S, A>({}, call.call.nchw, call.finish)});
    const int64_t size[4] = {g.N, g.h.output, g.w.output, g.O};
    std::copy(size, size + 4, size_);
    return true;
  }

  bool leaves_cache() const { return nhwc_conv::leaves_cache(Types<S, A>::kernels(), links_.back().g); }

  // Of what the last link makes, contiguous as [N, H, W, C].
  TensorInfo result() {
    for (int64_t d = 3, step = 1; d >= 0; step *= max(size_[d], 1), --d) strides_[d] = step;
    return {4, size_, strides_, dtype_, aoti_torch_device_type_cpu()};
  }

  const std::vector<Link<S, A>>& all() const { return links_; }

  Tensor run(const Tensor& x, bool nchw) {
    const Tensor y = empty_images(4, size_, dtype_, nchw ? ImageFormat::channels_last : ImageFormat::nhwc);
    links_.back().result.y = image_view(write<S>(y), *NhwcInfo(y, nchw));
    const Parallel parallel = torch_threads();
    const Chain<S, A> pass(Types<S, A>::kernels(), links_, image_view(read<S>(x), *NhwcInfo(x, nchw)),
                           parallel.threads);
    run_pass<A>(pass, parallel);
    return y;
  }

 private:
  int32_t dtype_;
  std::vector<Link<S, A>> links_;
  int64_t size_[4], strides_[4];
};

}  // namespace

ChainResult convolve_chain(const Tensor& x, const PackedCall& first,
                           const std::function<std::optional<PackedCall>(int64_t)>& next) {
  const bool nchw = first.call.nchw;
  const TensorInfo info = info_of(x);
  // What all links make then lies as [N, H, W, C].
  const bool channels_last = !nchw || suggests_channels_last(info) || packed_channels_last(header_of(first.packed));
  if (channels_last && is_computed_here(info.dtype) && info.dim == 4) {
    const ChainResult result = with_types(info.dtype, [&](auto types) -> ChainResult {
      Links<typename decltype(types)::S, typename decltype(types)::A> links(info.dtype);
      if (!links.add(*NhwcInfo(x, nchw), first)) return {};
      for (int64_t count = 1; links.leaves_cache(); ++count) {
        const std::optional<PackedCall> call = next(count);
        if (!call || call->call.nchw != nchw || !links.add(links.result(), *call)) break;
      }
      const int64_t count = links.all().size();
      if (count == 1) return {};
      return {links.run(x, nchw), count};
    });
    if (result.calls > 0) return result;
  }
  return {forward_packed(nchw, x, first.packed, first.bias, first.call.options(), first.finish), 1};
}

}  // namespace nhwc_conv
