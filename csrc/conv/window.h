// Parts of an image, copied so that channels are neighbours where memory does not have them so.
#pragma once

#include "../kernels/kernels.h"
#include "geometry.h"
#include "views.h"

namespace nhwc_conv {

struct Window {
  Range rows, columns, channels;
  int64_t pixels() const { return rows.size() * columns.size(); }
};

// A copy of a window, indexed as the image was, within the window; its n is 0.
template <class T>
ImageView<const T> window_view(const Window& window, const T* copy) {
  const int64_t width = window.columns.size(), channels = window.channels.size();
  return {copy - (window.rows.begin * width + window.columns.begin) * channels - window.channels.begin, 0,
          width * channels, channels, 1};
}

// Copies this window of image n.
template <class T>
ImageView<const T> copy_window(const Kernels<T>& kernels, const ImageView<const T>& image, int64_t n,
                               const Window& window, T* to) {
  const int64_t width = window.columns.size(), channels = window.channels.size();
  const T* from = image.data + n * image.n + window.rows.begin * image.h + window.columns.begin * image.w +
                  window.channels.begin * image.c;
  // Rows without a gap between them are one.
  const bool whole = image.h == width * image.w;
  const int64_t lines = whole ? 1 : window.rows.size(), pixels = whole ? window.pixels() : width;
  for (int64_t line = 0; line < lines; ++line) {
    kernels.copy({from + line * image.h, image.w, image.c, to + line * width * channels, channels, pixels, channels});
  }
  return window_view<T>(window, to);
}

}  // namespace nhwc_conv
