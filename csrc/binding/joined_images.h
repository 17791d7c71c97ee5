// Images that stand side by side in the channels of a larger one, so that nothing is copied to concatenate them.
#pragma once

#include <optional>

#include "formats.h"

namespace nhwc_conv {

// So many channels of images [N, C, H, W], from one on.
inline Tensor channels_of(const Tensor& images, int64_t channel, int64_t count) {
  const TensorInfo info = info_of(images);
  const int64_t sizes[4] = {info.sizes[0], count, info.sizes[2], info.sizes[3]};
  AtenTensorHandle handle;
  const int64_t further = channel * info.strides[1];
  check_call(aoti_torch__reinterpret_tensor(images.get(), 4, sizes, info.strides, further, &handle), "making a tensor");
  return Tensor(handle);
}

class JoinedImages {
 public:
  // Of so many channels in all; in `memory`, if there is some.
  JoinedImages(int64_t channels, ReusedMemory* memory) : channels_(channels), memory_(memory) {}

  // Where images are to stand, from a channel on; nothing if they do not fit beside those that stand there.
  std::optional<Tensor> part(const int64_t (&nhwc)[4], int32_t dtype, int64_t channel) {
    const auto [N, H, W, C] = nhwc;
    if (N * H * W * C == 0 || channel < 0 || channel + C > channels_) return std::nullopt;
    if (!whole_) whole_ = empty_channels_last(4, {N, channels_, H, W}, dtype, memory_);
    const TensorInfo info = info_of(*whole_);
    if (info.dtype != dtype || info.sizes[0] != N || info.sizes[2] != H || info.sizes[3] != W) return std::nullopt;
    return channels_of(*whole_, channel, C);
  }

  bool leave() {
    if (!whole_) return false;
    if (memory_ != nullptr) memory_->leave(*whole_);
    whole_.reset();
    return true;
  }

 private:
  int64_t channels_;
  ReusedMemory* memory_;
  std::optional<Tensor> whole_;
};

// Where the result of a step is to stand: in `images`, if there are some, from a channel on; else in `memory`.
struct ResultPlace {
  ReusedMemory* memory = nullptr;
  JoinedImages* images = nullptr;
  int64_t channel = 0;
};

// As without a place; workspaces stand in its memory, too.
inline Tensor empty_images(int64_t dim, const int64_t (&nhwc)[4], int32_t dtype, ImageFormat format,
                           const ResultPlace& place) {
  if (place.images != nullptr && dim == 4 && format == ImageFormat::channels_last) {
    if (const auto y = place.images->part(nhwc, dtype, place.channel)) return *y;
  }
  return empty_images(dim, nhwc, dtype, format, place.memory);
}

}  // namespace nhwc_conv
