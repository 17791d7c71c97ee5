// The passes of a convolution, each behind one face, and the weights packed for them (packed_weights.h). Constructing
// it plans; memory() tells what workspace it wants, in elements of type A: packed_elements, and then scratch_elements
// for each thread; run(parallel, workspace) computes; explain() tells what would run. Storage has type S, arithmetic
// type A: those of storage_types.def.
#pragma once

#include "chain.h"
#include "channels.h"
#include "forward.h"
#include "input_gradient.h"
#include "packed_weights.h"
#include "pooling.h"
#include "weight_gradient.h"

namespace nhwc_conv {

#define NHWC_STORAGE(S, A, dtype)             \
  extern template class Forward<S, A>;        \
  extern template class Chain<S, A>;          \
  extern template class InputGradient<S, A>;  \
  extern template class WeightGradient<S, A>; \
  extern template class PackedWeights<S, A>;  \
  extern template class PackedPhases<S, A>;   \
  extern template class ChannelMeans<S, A>;   \
  extern template class ImageProduct<S, A>;   \
  extern template class MaxPool<S, A>;
#include "../kernels/storage_types.def"

}  // namespace nhwc_conv
