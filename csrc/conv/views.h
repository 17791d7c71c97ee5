// Tensors as the conv layer sees them: a pointer and strides in elements.
#pragma once

#include <cstdint>

#include "geometry.h"
#include "tuning.h"

namespace nhwc_conv {

template <class T> struct ImageView {
  T* data;
  int64_t n, h, w, c;
  bool one_value = false;  // of channels that are pairs (pairs.h): the last has no second value
};

// Values of all output channels, or none.
template <class T> struct BiasView {
  const T* data;
  int64_t step;
};

// One image of a batch.
template <class T> ImageView<T> of_image(const ImageView<T>& images, int64_t n) {
  return {images.data + n * images.n, 0, images.h, images.w, images.c, images.one_value};
}

// A batch from one image on.
template <class T> ImageView<T> from_image(ImageView<T> images, int64_t n) {
  images.data += n * images.n;
  return images;
}

// Asks for every line that so many values touch, to the second-level cache: the first-level one may have lost rows that
// stand far apart before they are read.
template <class T> void ask_for(const T* from, int64_t values) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from), end = reinterpret_cast<uintptr_t>(from + values);
  for (uintptr_t line = begin - begin % kLineBytes; line < end; line += kLineBytes) {
    __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
  }
}

// Pixels of one image, and some of their channels.
struct Region {
  Range ys, xs, channels;
  int64_t pixels() const { return ys.size() * xs.size(); }
  int64_t elements() const { return pixels() * channels.size(); }
};

// [KH, KW, C/groups, O/groups] of each group
template <class T> struct WeightView {
  T* data;
  int64_t i, j, c, o, group;
  bool one_value = false;  // as of an image
};

}  // namespace nhwc_conv
