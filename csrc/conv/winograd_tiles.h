// The tiles of a Winograd convolution: where they lie, and their way into the transformed domain.
#pragma once

#include "../kernels/kernels.h"
#include "geometry.h"
#include "views.h"

namespace nhwc_conv {

template <class T>
const WinogradTransforms<T>& winograd_transforms(const Kernels<T>& kernels, int64_t tile) {
  return tile == 4 ? kernels.winograd4 : kernels.winograd2;
}

// Products of all points share one scratch array; rows that stand a power of two apart would fight for the same cache
// sets, so each point gets a cache line more.
constexpr int64_t kPointGap = 16;

inline int64_t winograd_points(int64_t tile) { return (tile + 2) * (tile + 2); }

struct WinogradTile {
  int64_t n, y, x;  // image, first output
};

// Tiles of all images, numbered image by image and row by row.
struct WinogradTiles {
  int64_t tile, down, across, count;

  WinogradTiles(const ConvGeometry& g, int64_t tile)
      : tile(tile), down(ceil_div(g.h.output, tile)), across(ceil_div(g.w.output, tile)), count(g.N * down * across) {}

  WinogradTile at(int64_t index) const {
    return {index / (down * across), index / across % down * tile, index % across * tile};
  }
};

// Channels of `channels` starting at channel 0 of `image`, of size H x W, under a window of `size` pixels from (y, x):
// its transform, to[p*to_p + n]. Pixels outside the image are zero; `field` holds size*size*channels elements for
// windows that cannot be read in place.
template <class T>
void transform_window(const Kernels<T>& kernels, TransformFn<T> transform, int64_t points,
                      const ImageView<const T>& image, int64_t H, int64_t W, int64_t y, int64_t x, int64_t size,
                      int64_t channels, T* field, T* to, int64_t to_p) {
  const Range rows = Range{-y, H - y}.within({0, size}), columns = Range{-x, W - x}.within({0, size});
  TransformArgs<T> args = {};
  args.from = image.data + y * image.h + x * image.w;
  args.from_i = image.h;
  args.from_j = image.w;
  if (rows.size() < size || columns.size() < size || image.c != 1) {
    kernels.field({args.from, image.h, image.w, image.c, size, size, channels, rows.begin, rows.end, columns.begin,
                   columns.end, field});
    args.from = field;
    args.from_i = size * channels;
    args.from_j = channels;
  }
  args.to = to;
  args.to_i = points * to_p;
  args.to_j = to_p;
  args.to_rows = args.to_columns = points;
  args.columns = channels;
  transform(args);
}

}  // namespace nhwc_conv
