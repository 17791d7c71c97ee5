// Tensors as the conv layer sees them: a pointer and strides in elements.
#pragma once

#include <cstdint>

namespace nhwc_conv {

template <class T>
struct ImageView {
  T* data;
  int64_t n, h, w, c;
};

// [KH, KW, C/groups, O/groups] of each group
template <class T>
struct WeightView {
  T* data;
  int64_t i, j, c, o, group;
};

}  // namespace nhwc_conv
