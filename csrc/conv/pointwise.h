// 1x1 convolutions of stride 1 without padding: products of two matrices, if pixels lie evenly in memory.
#pragma once

#include "planes.h"

namespace nhwc_conv {

inline bool is_pointwise(const ConvGeometry& g) {
  const auto keeps = [](const Axis& axis) {
    return axis.kernel == 1 && axis.stride == 1 && axis.pad == 0 && axis.output == axis.input;
  };
  return keeps(g.h) && keeps(g.w);
}

// One product over all pixels: the geometry becomes that of one long row. Not where that is too long for planes, which
// hold some rows of the image.
template <class S, class A>
void join_pixels(const Arithmetic<A>& kernels, ConvGeometry& g, const ImageView<const S>& x,
                 const Result<S, A>& result) {
  const auto is_even = [&](const auto& view) {
    return view.h == g.w.input * view.w && (g.N == 1 || view.n == g.h.input * view.h);
  };
  if (!is_pointwise(g) || !is_even(x) || !is_even(result.y)) return;
  if (result.residual.data != nullptr && !is_even(result.residual)) return;
  ConvGeometry row = g;
  row.N = row.h.input = row.h.output = 1;
  row.w.input = row.w.output = g.N * g.h.input * g.w.input;
  if (g.groups == 1 || takes_planes(kernels, row) || !takes_planes(kernels, g)) g = row;
}

// Whether images and weights may exchange roles. Of an image in NCHW memory, pixels are neighbours as the outputs of a
// weight are: its transpose is the weights times the image. Each sum has the same products in the same order, where it
// is one block and not of the dot form either way. Not images so large that to pack them takes much memory, nor a batch
// of small ones, each of which would read the weights anew.
template <class S, class A>
bool exchanges_roles(const Arithmetic<A>& kernels, const ConvGeometry& g, const ImageView<const S>& x,
                     const Result<S, A>& result) {
  const auto is_planar = [&](const auto& view) { return view.w == 1 && view.c != 1 && view.h == g.w.input; };
  if (!std::is_same_v<S, A> || g.groups != 1 || !is_pointwise(g) || !is_planar(x) || !is_planar(result.y)) return false;
  if (result.residual.data != nullptr && !is_planar(result.residual)) return false;
  const int64_t pixels = g.h.input * g.w.input;
  const int64_t size = sizeof(A), row_bytes = kWidestTile * kernels.family[0].lanes * size;
  if ((g.N > 1 && pixels <= kVeryFewPixels) || g.C * pixels * size > kExchangedBytes) return false;
  return min(pixels, g.O) > kMaxDotFamilies && g.C > 0 && g.C * row_bytes <= kBlockWeightBytes;
}

// The first image of a batch as weights, and the weights as an image whose pixels are the outputs.
template <class S, class A>
void exchange_roles(ConvGeometry& g, ImageView<const S>& x, WeightView<const S>& w, Result<S, A>& result) {
  const int64_t pixels = g.h.input * g.w.input;
  const ImageView<const S> outputs = {w.data, 0, 0, w.o, w.c};
  w = {x.data, 0, 0, x.c, 1, 0};
  x = outputs;
  result.y = {result.y.data, 0, 0, result.y.c, 1};
  if (result.residual.data != nullptr) result.residual = {result.residual.data, 0, 0, result.residual.c, 1};
  g.N = g.h.input = g.h.output = 1;
  g.w.input = g.w.output = g.O;
  g.O = pixels;
}

}  // namespace nhwc_conv
