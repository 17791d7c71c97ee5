// How results lie in memory: those of our ops, and those of NCHW tensors by PyTorch's rules.
#pragma once

#include "../conv/operands.h"
#include "reused_memory.h"
#include "tensor.h"

namespace nhwc_conv {

// Images: NHWC tensors, contiguous; NCHW ones, contiguous or in channels_last.
enum class ImageFormat { nhwc, nchw, channels_last };

// PyTorch's rule for the memory format of what an operator on the tensor returns: [N, C, H, W], or [C, H, W] as a batch
// of one.
inline bool suggests_channels_last(const TensorInfo& info) {
  if (info.dim != 3 && info.dim != 4) return false;
  int64_t sizes[4] = {1}, strides[4] = {info.sizes[0] * info.strides[0]};
  for (int64_t d = 0; d < info.dim; ++d) {
    sizes[d + 4 - info.dim] = info.sizes[d];
    strides[d + 4 - info.dim] = info.strides[d];
  }
  if (strides[1] == 0) return false;
  int64_t least = 0;
  for (const int d : {1, 3, 2, 0}) {
    if (sizes[d] == 0 || strides[d] < least || (d == 0 && least == strides[1])) return false;
    least = strides[d] * (sizes[d] > 1 ? sizes[d] : 1);
  }
  return true;
}

// Of the result of a convolution, and of the gradient of its input.
inline ImageFormat image_format(bool nchw, const TensorInfo& input, const TensorInfo& weight) {
  if (!nchw) return ImageFormat::nhwc;
  return suggests_channels_last(input) || suggests_channels_last(weight) ? ImageFormat::channels_last
                                                                         : ImageFormat::nchw;
}

// Of the gradient of a weight.
inline WeightOrder weight_order(bool oihw, const TensorInfo& weight) {
  return !oihw ? WeightOrder::hwio : suggests_channels_last(weight) ? WeightOrder::ohwi : WeightOrder::oihw;
}

// [N, C, H, W], or [C, H, W] where `dim` is 3, in the memory of [N, H, W, C].
inline Tensor empty_channels_last(int64_t dim, const int64_t (&sizes)[4], int32_t dtype,
                                  ReusedMemory* memory = nullptr) {
  const auto at_least_one = [&](int d) { return sizes[d] > 1 ? sizes[d] : 1; };
  const int64_t pixel = at_least_one(1), row = at_least_one(3) * pixel;
  const int64_t strides[4] = {at_least_one(2) * row, 1, row, pixel};
  if (memory != nullptr) return memory->empty(dim, sizes + 4 - dim, strides + 4 - dim, dtype);
  return empty_dense(dim, sizes + 4 - dim, strides + 4 - dim, dtype);
}

// `dim` is 3 for one image, else 4. In `memory` if they are in channels_last and there is some.
inline Tensor empty_images(int64_t dim, const int64_t (&nhwc)[4], int32_t dtype, ImageFormat format,
                           ReusedMemory* memory = nullptr) {
  if (format == ImageFormat::nhwc) return empty_contiguous(dim, nhwc + 4 - dim, dtype);
  const int64_t sizes[4] = {nhwc[0], nhwc[3], nhwc[1], nhwc[2]};
  if (format == ImageFormat::channels_last) return empty_channels_last(dim, sizes, dtype, memory);
  return empty_contiguous(dim, sizes + 4 - dim, dtype);
}

// [KH, KW, C/groups, O], or in the other orders [O, C/groups, KH, KW].
inline Tensor empty_weight(const int64_t (&hwio)[4], int32_t dtype, WeightOrder order) {
  if (order == WeightOrder::hwio) return empty_contiguous(4, hwio, dtype);
  const int64_t sizes[4] = {hwio[3], hwio[2], hwio[0], hwio[1]};
  if (order == WeightOrder::ohwi) return empty_channels_last(4, sizes, dtype);
  return empty_contiguous(4, sizes, dtype);
}

}  // namespace nhwc_conv
