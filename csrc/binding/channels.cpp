#include "channels.h"

#include <algorithm>
#include <vector>

#include "aten.h"
#include "checks.h"
#include "dtypes.h"
#include "formats.h"
#include "run_forward.h"

namespace nhwc_conv {

namespace {

// Whether the channels of every pixel are neighbours: aten computes the others.
bool has_neighbours(const TensorInfo& x) {
  return is_computed_here(x.dtype) && (x.strides[1] == 1 || x.sizes[1] == 1) && suggests_channels_last(x);
}

// The work of reading or writing so many numbers in a row: twice as fast as what convolutions read.
template <class S> double streamed(double elements) { return elements * sizeof(S) / 2; }

ImageSizes sizes_of(const TensorInfo& x) { return {x.sizes[0], x.sizes[2], x.sizes[3], x.sizes[1]}; }

// Copied, unless they lie so.
Tensor in_format(const Tensor& images, bool channels_last) {
  const TensorInfo info = info_of(images);
  int64_t strides[4];
  contiguous_strides(4, info.sizes, strides);
  if (channels_last ? has_neighbours(info) : std::equal(strides, strides + 4, info.strides)) return images;
  using torch::headeronly::MemoryFormat;
  const auto format = channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  return call_overload<Tensor>("aten::clone", "", images, std::optional(format));
}

// Between images whose channels are neighbours, of one size and type.
void copy_images(const Tensor& from, const Tensor& to) {
  const TensorInfo info = info_of(from);
  with_types(info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const ImageSizes sizes = sizes_of(info);
    const ImageCopy<S, A> pass(Types<S, A>::kernels(), sizes, image_view(read<S>(from), *NhwcInfo(from, true)), {},
                               image_view(write<S>(to), *NhwcInfo(to, true)));
    run_pass<A>(pass, torch_threads(streamed<S>(2 * sizes.elements())));
  });
}

Tensor concatenated(const std::vector<Tensor>& images) {
  StableIValue stack[] = {torch::stable::detail::from(images), torch::stable::detail::from(int64_t(1))};
  check_call(torch_call_dispatcher("aten::cat", "", stack, TORCH_ABI_VERSION), "concatenating images");
  return torch::stable::detail::to<Tensor>(stack[0]);
}

}  // namespace

void check_images(const TensorInfo& x) {
  if (x.dim != 4) fail("expected images to be of size [N, C, H, W], but got " + text(x));
}

Tensor channel_means(const Tensor& x, ReusedMemory* memory) {
  const TensorInfo info = info_of(x);
  check_images(info);
  const ImageSizes sizes = sizes_of(info);
  if (!has_neighbours(info) || sizes.H * sizes.W == 0) {
    const std::optional<std::vector<int64_t>> pixels = std::vector<int64_t>{2, 3};
    return call_overload<Tensor>("aten::mean", "dim", x, pixels, true, std::optional<torch::headeronly::ScalarType>());
  }
  const Tensor means = empty_channels_last(4, {sizes.N, sizes.C, 1, 1}, info.dtype);
  with_types(info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const Parallel parallel = torch_threads(streamed<S>(sizes.elements()));
    const ChannelMeans<S, A> pass(Types<S, A>::kernels(), sizes, parallel.threads,
                                  image_view(read<S>(x), *NhwcInfo(x, true)), write<S>(means));
    run_pass<A>(pass, parallel, memory);
  });
  return means;
}

Tensor multiply_images(const Tensor& x, const Tensor& factors, ReusedMemory* memory) {
  const TensorInfo info = info_of(x), given = info_of(factors);
  check_images(info);
  const bool of_images = given.dim == 4 && std::equal(given.sizes, given.sizes + 4, info.sizes);
  const bool of_channels = given.dim == 4 && given.sizes[0] == info.sizes[0] && given.sizes[1] == info.sizes[1] &&
                           given.sizes[2] == 1 && given.sizes[3] == 1 && (given.strides[1] == 1 || given.sizes[1] == 1);
  const bool fits = given.dtype == info.dtype && (of_channels || (of_images && has_neighbours(given)));
  if (!has_neighbours(info) || !fits) return call_overload<Tensor>("aten::mul", "Tensor", x, factors);
  const ImageSizes sizes = sizes_of(info);
  const Tensor y = empty_channels_last(4, {sizes.N, sizes.C, sizes.H, sizes.W}, info.dtype, memory);
  with_types(info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    ImageView<const S> by = {read<S>(factors), given.strides[0], 0, 0, 1};
    if (of_images) by = image_view(read<S>(factors), *NhwcInfo(factors, true));
    const ImageProduct<S, A> pass(Types<S, A>::kernels(), sizes, image_view(read<S>(x), *NhwcInfo(x, true)), by,
                                  image_view(write<S>(y), *NhwcInfo(y, true)));
    run_pass<A>(pass, torch_threads(streamed<S>((of_images ? 3 : 2) * sizes.elements())));
  });
  return y;
}

Tensor join_channels(const std::vector<Tensor>& images, ReusedMemory* memory) {
  const TensorInfo first = info_of(images[0]);
  int64_t channels = 0;
  for (const Tensor& x : images) {
    const TensorInfo info = info_of(x);
    bool fits = info.dim == 4 && info.dtype == first.dtype && has_neighbours(info);
    for (int64_t d = 0; d < 4 && fits; ++d) fits = d == 1 || info.sizes[d] == first.sizes[d];
    if (!fits) return concatenated(images);
    channels += info.sizes[1];
  }
  const Tensor y =
      empty_channels_last(4, {first.sizes[0], channels, first.sizes[2], first.sizes[3]}, first.dtype, memory);
  int64_t channel = 0;
  for (const Tensor& x : images) {
    const int64_t count = info_of(x).sizes[1];
    copy_images(x, channels_of(y, channel, count));
    channel += count;
  }
  return y;
}

std::optional<Tensor> join_in_place(const std::vector<PartOfImages>& parts, JoinedImages& joined, int64_t channel) {
  const int32_t dtype = info_of(parts[0].images).dtype;
  int64_t nhwc[4] = {};
  std::vector<Tensor> places;
  for (const PartOfImages& part : parts) {
    const TensorInfo info = info_of(part.images);
    if (info.dim != 4 || info.dtype != dtype || !has_neighbours(info)) return std::nullopt;
    const int64_t own[4] = {info.sizes[0], info.sizes[2], info.sizes[3], info.sizes[1]};
    const auto place = joined.part(own, dtype, channel + nhwc[3]);
    if (!place) return std::nullopt;
    places.push_back(*place);
    std::copy(own, own + 3, nhwc);
    nhwc[3] += own[3];
  }
  int64_t at = channel;
  for (size_t k = 0; k < parts.size(); at += info_of(places[k++]).sizes[1]) {
    CopyOfImages& copy = parts[k].copy;
    if (read<char>(parts[k].images) == read<char>(places[k]) || (copy.joined == &joined && copy.channel == at))
      continue;
    copy_images(parts[k].images, places[k]);
    copy = {&joined, at};
  }
  return joined.part(nhwc, dtype, channel);
}

Tensor some_channels(const Tensor& x, int64_t begin, int64_t end) {
  check_images(info_of(x));
  return call_overload<Tensor>("aten::slice", "Tensor", x, int64_t(1), std::optional<int64_t>(begin),
                               std::optional<int64_t>(end), int64_t(1));
}

Tensor finish_images(const Tensor& x, const FinishOptions& finish, ReusedMemory* memory) {
  const TensorInfo info = info_of(x), other = info_of(finish.residual ? *finish.residual : x);
  check_images(info);
  check_activation(finish.activation);
  bool fits = is_computed_here(info.dtype) && other.dim == 4 && other.dtype == info.dtype;
  for (int64_t d = 0; d < 4 && fits; ++d) fits = info.sizes[d] == other.sizes[d];
  if (!fits) fail("expected images of one size and type, but got " + text(info) + " and " + text(other));
  // Images that do not lie in channels_last are rows of numbers.
  const bool channels_last = has_neighbours(info);
  const ImageSizes images = sizes_of(info), numbers = {1, images.N, 1, images.C * images.H * images.W};
  const ImageSizes& sizes = channels_last ? images : numbers;
  const Tensor from = in_format(x, channels_last);
  const Tensor y = channels_last ? empty_channels_last(4, {images.N, images.C, images.H, images.W}, info.dtype, memory)
                                 : empty_contiguous(4, info.sizes, info.dtype);
  std::optional<Tensor> added;
  if (finish.residual) added = in_format(*finish.residual, channels_last);
  with_types(info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const auto view = [&](auto* data, const Tensor& tensor) {
      using T = std::remove_pointer_t<decltype(data)>;
      return channels_last ? image_view(data, *NhwcInfo(tensor, true)) : ImageView<T>{data, 0, sizes.C, 0, 1};
    };
    ImageView<const S> residual = {};
    if (added) residual = view(read<S>(*added), *added);
    const ImageCopy<S, A> pass(Types<S, A>::kernels(), sizes, view(read<S>(from), from), residual, view(write<S>(y), y),
                               finish_steps<A>(finish));
    run_pass<A>(pass, torch_threads(streamed<S>(3 * images.elements())), memory);
  });
  return y;
}

Tensor max_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, ReusedMemory* memory) {
  const TensorInfo info = info_of(x);
  check_images(info);
  const ImageSizes sizes = sizes_of(info);
  const Sizes padding = {call.padding[0], call.padding[2]};
  Axis axes[] = {{sizes.H, 0, call.dilation[0], call.stride[0], 1, padding[0]},
                 {sizes.W, 0, call.dilation[1], call.stride[1], 1, padding[1]}};
  bool fits = has_neighbours(info);
  for (Axis& axis : axes) {
    const int64_t twice = 2 * axis.pad;
    fits = fits && axis.input > 0 && axis.kernel > 0 && axis.stride > 0 && twice <= axis.kernel &&
           axis.input + twice >= axis.kernel;
    if (!fits) break;
    axis.output = output_size(axis.input, axis.kernel, axis.stride, 1, twice + (ceil_mode ? axis.stride - 1 : 0));
    if (ceil_mode && axis.input_of(axis.output - 1, 0) >= axis.input) --axis.output;
  }
  if (!fits) {  // aten computes it, or says what is wrong
    return call_overload<Tensor>("aten::max_pool2d", "", x, call.dilation, call.stride, padding, Sizes{1, 1},
                                 ceil_mode);
  }
  const Tensor y = empty_channels_last(4, {sizes.N, sizes.C, axes[0].output, axes[1].output}, info.dtype, memory);
  with_types(info.dtype, [&](auto types) {
    using S = typename decltype(types)::S;
    using A = typename decltype(types)::A;
    const MaxPool<S, A> pass(Types<S, A>::kernels(), sizes.N, sizes.C, axes[0], axes[1],
                             image_view(read<S>(x), *NhwcInfo(x, true)), image_view(write<S>(y), *NhwcInfo(y, true)));
    run_pass<A>(pass, torch_threads(streamed<S>(sizes.elements())));
  });
  return y;
}

Tensor average_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, bool counts_padding) {
  const Sizes padding = {call.padding[0], call.padding[2]};
  return call_overload<Tensor>("aten::avg_pool2d", "", x, call.dilation, call.stride, padding, ceil_mode,
                               counts_padding, std::optional<int64_t>());
}

// By the overloads whose kernels take symbolic sizes: others fail on lists of sizes in inference mode.
Tensor resize_images(const Tensor& x, int64_t mode, const Sizes& given, double scale_h, double scale_w) {
  check_images(info_of(x));
  std::optional<Sizes> sizes;
  std::optional<std::vector<double>> scales;
  if (scale_h > 0) {
    scales = {scale_h, scale_w};
  } else {
    sizes = given;
  }
  if (mode == kNearest) return call_overload<Tensor>("aten::upsample_nearest2d", "vec", x, sizes, scales);
  if (mode == kNearestExact) return call_overload<Tensor>("aten::_upsample_nearest_exact2d", "vec", x, sizes, scales);
  return call_overload<Tensor>("aten::upsample_bilinear2d", "vec", x, sizes, mode == kBilinearByCorners, scales);
}

Tensor shuffle_channels(const Tensor& x, int64_t groups) {
  return call_overload<Tensor>("aten::channel_shuffle", "", x, groups);
}

}  // namespace nhwc_conv
