// Convolutions that are multiplied by pairs: two channels of a group are one element, so that a convolution of half as
// many channels is left, whose views are twice as wide. Of an odd number of channels the last pair has one value.
#pragma once

#include <type_traits>

#include "lanewise_plan.h"

namespace nhwc_conv {

template <class S, class A> constexpr bool kHasPairs = std::is_same_v<S, BFloat16> && std::is_same_v<A, float>;

// Whether a convolution that Winograd does not take is multiplied by pairs. By what is known of weights that are packed
// ahead of the calls, but for im2col by name where dilation breaks its rows, since panels know no pairs,
// or where steps of the reduction, which a row of taps ends within, would move with its borders.
template <class S, class A> bool takes_pairs(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm) {
  const int64_t Cg = g.C_per_group();
  const bool whole = Cg % 2 == 0 || (Cg > 1 && g.groups == 1);
  if (kernels.pairs == nullptr) return false;
  const bool one_by_one = kernels.pairs->reduction_step == 1;
  const bool runs = algorithm != Algorithm::im2col || g.w.kernel <= 1 || (g.w.dilation == 1 && one_by_one);
  return whole && g.O_per_group() > kMaxDotFamilies && runs && !takes_lanes<A>(kernels, g);
}

inline ConvGeometry in_pairs(ConvGeometry g) {
  g.C = g.groups * ceil_div(g.C_per_group(), 2);
  return g;
}

template <class S> ImageView<S> in_pairs(ImageView<S> x, const ConvGeometry& g) {
  x.c *= 2;
  x.one_value = g.C_per_group() % 2 != 0;
  return x;
}

template <class S> WeightView<S> in_pairs(WeightView<S> w, const ConvGeometry& g) {
  w.c *= 2;
  w.one_value = g.C_per_group() % 2 != 0;
  return w;
}

}  // namespace nhwc_conv
