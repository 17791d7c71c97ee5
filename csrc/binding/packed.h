// Weights that were packed ahead of a call, as pack_weight returns them.
#pragma once

#include "check_arguments.h"
#include "convolve.h"
#include "dtypes.h"

namespace nhwc_conv {

// Of any tensor that somebody says is packed.
inline PackedHeader header_of(const Tensor& packed) {
  const TensorInfo info = info_of(packed);
  if (!is_computed_here(info.dtype) || arithmetic_dtype(info.dtype) != info.dtype) {
    fail("expected packed to be a result of pack_weight, but got a tensor of type " + dtype_name(info.dtype));
  }
  return with_types(info.dtype, [&](auto types) {
    using A = typename decltype(types)::A;
    if (info.sizes[0] < kPackedHeader<A>) fail("expected packed to be a result of pack_weight, but got " + text(info));
    return read_header(read<A>(packed));
  });
}

inline Sizes weight_size(const PackedHeader& header) {
  return {header.kernel_h, header.kernel_w, header.C_per_group, header.O};
}

// Of the weight as [O, C/groups, KH, KW] when it was packed.
inline bool packed_channels_last(const PackedHeader& header) {
  const int64_t* strides = header.weight.strides;
  const int64_t sizes[4] = {header.O, header.C_per_group, header.kernel_h, header.kernel_w};
  const int64_t oihw[4] = {strides[3], strides[2], strides[0], strides[1]};
  return suggests_channels_last({4, sizes, oihw, 0, 0});
}

// None where they were packed for another weight, or for other vectors. `info`: of the whole buffer.
template <class S, class A>
std::optional<GivenWeights<S, A>> packed_weights(const ConvGeometry& g, const A* packed, const TensorInfo& info) {
  if (info.dim != 1 || info.strides[0] != 1 || info.sizes[0] < kPackedHeader<A>) return std::nullopt;
  const PackedHeader header = read_header(packed);
  const PackedWeights<S, A> weights(Types<S, A>::kernels(), g, header.with_winograd != 0);
  if (!weights.matches(header, info.sizes[0])) return std::nullopt;
  return GivenWeights<S, A>{{}, packed + kPackedHeader<A>, weights.layout()};
}

}  // namespace nhwc_conv
