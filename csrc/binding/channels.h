// Means and maxima of channels, products, concatenations and sums of images, on NCHW tensors; images stand in `memory`,
// if there is some.
#pragma once

#include "joined_images.h"
#include "short_call.h"

namespace nhwc_conv {

// fail unless x is [N, C, H, W].
void check_images(const TensorInfo& x);

// [N, C, 1, 1]: means over all pixels, as aten::adaptive_avg_pool2d has them but for their last bits.
Tensor channel_means(const Tensor& x, ReusedMemory* memory);

// x [N, C, H, W] times factors, [N, C, 1, 1] or as large as x; aten multiplies others.
Tensor multiply_images(const Tensor& x, const Tensor& factors, ReusedMemory* memory);

// As aten::cat along channels.
Tensor join_channels(const std::vector<Tensor>& images, ReusedMemory* memory);

// Where images have been copied to: not by their memory, which others may stand in later.
struct CopyOfImages {
  const JoinedImages* joined = nullptr;
  int64_t channel = 0;
};

struct PartOfImages {
  const Tensor& images;
  CopyOfImages& copy;
};

// The same in `joined` from a channel on, without copying what stands there already. Nothing where they do not fit.
std::optional<Tensor> join_in_place(const std::vector<PartOfImages>& parts, JoinedImages& joined, int64_t channel);

// Those from `begin` to before `end`, where they lie.
Tensor some_channels(const Tensor& x, int64_t begin, int64_t end);

// x, or x + residual, of one size and type, and the activation of that.
Tensor finish_images(const Tensor& x, const FinishOptions& finish, ReusedMemory* memory);

// As aten::max_pool2d. Of `call`: the strides, the sizes of windows in place of dilations, and the padding.
Tensor max_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, ReusedMemory* memory);

// What aten does between convolutions, called without Python on the way. Of averages `call` tells the same.
Tensor average_pool(const Tensor& x, const ShortCall& call, bool ceil_mode, bool counts_padding);
Tensor shuffle_channels(const Tensor& x, int64_t groups);

// Images of the height and width `given`, or of scale_h and scale_w times theirs where these are not zero.
constexpr int64_t kNearest = 0, kNearestExact = 1, kBilinear = 2, kBilinearByCorners = 3;
Tensor resize_images(const Tensor& x, int64_t mode, const Sizes& given, double scale_h, double scale_w);

}  // namespace nhwc_conv
