// The first step of an item: what it reads of the input, as matrices of the arithmetic's type A. That is a view, where
// the tensor is such a matrix already; else the input is staged: copied from its storage type S into the item's
// scratch, which stays in the caches, in one of four layouts:
//
//   pixels   [y][x][channel]       channels of a group are neighbours
//   planes   [y][channel][x]       pixels of a row are neighbours
//   lanes    [y][x][k][o]          output channels of all groups are neighbours, each with channel k of its group
//   fields   [(i, j, channel)]     the receptive field of one output: a row of the im2col matrix
#pragma once

#include <cstring>
#include <type_traits>

#include "../kernels/kernels.h"
#include "tuning.h"
#include "views.h"

namespace nhwc_conv {

// So many values of type S, counted in the size of A.
template <class S, class A> int64_t in_elements(int64_t values) {
  return values * static_cast<int64_t>(sizeof(S)) / static_cast<int64_t>(sizeof(A));
}

// Memory as it lies, for plans that read it so: they do only where S is A, or A pairs of S.
template <class A, class S> const A* in_place(const S* data) { return reinterpret_cast<const A*>(data); }
template <class A, class S> ImageView<const A> in_place(const ImageView<const S>& x) {
  const auto stride = in_elements<S, A>;
  return {in_place<A>(x.data), stride(x.n), stride(x.h), stride(x.w), stride(x.c)};
}

// Whether plans may read pixels so.
template <class A, class S> bool can_view(const ImageView<const S>& x) {
  if constexpr (kIsPair<A>) return x.c == 2 && x.n % 2 == 0 && x.h % 2 == 0 && x.w % 2 == 0 && !x.one_value;
  return std::is_same_v<S, A> && x.c == 1;
}

// What stage_pixels has made of a region, indexed as the image was, within the region.
template <class A> ImageView<const A> staged_pixels(const Region& region, const A* staged) {
  const int64_t width = region.xs.size(), channels = region.channels.size();
  return {staged - (region.ys.begin * width + region.xs.begin) * channels - region.channels.begin, 0, width * channels,
          channels, 1};
}

template <class S, class A>
ImageView<const A> stage_pixels(const Kernels<S, A>& kernels, const ImageView<const S>& x, int64_t n,
                                const Region& region, A* to) {
  const int64_t width = region.xs.size(), channels = region.channels.size();
  const S* from = x.data + n * x.n + region.ys.begin * x.h + region.xs.begin * x.w + region.channels.begin * x.c;
  // Rows without a gap between them are one.
  const bool whole = x.h == width * x.w;
  const int64_t lines = whole ? 1 : region.ys.size(), pixels = whole ? region.pixels() : width;
  for (int64_t line = 0; line < lines; ++line) {
    A* const row = to + line * width * channels;
    if (x.c == 1 && x.w == channels) {  // nor is there one between pixels
      kernels.copy({from + line * x.h, 0, 1, row, 0, 1, pixels * channels});
      continue;
    }
    kernels.copy({from + line * x.h, x.w, x.c, row, channels, pixels, channels, x.one_value});
  }
  return staged_pixels<A>(region, to);
}

// A region of several groups, one after the other and so far apart. Pixel by pixel: memory is read in its order, where
// one group has but a few bytes of each.
template <class S, class A>
void stage_groups(const Kernels<S, A>& kernels, const ImageView<const S>& x, int64_t n, const Region& region,
                  int64_t groups, A* to, int64_t apart) {
  const int64_t channels = region.channels.size() / groups, first = region.channels.begin;
  if (groups == 1 || x.c != 1) {
    for (int64_t group = 0; group < groups; ++group, to += apart) {
      const Range own = {first + group * channels, first + (group + 1) * channels};
      stage_pixels(kernels, x, n, {region.ys, region.xs, own}, to);
    }
    return;
  }
  for (int64_t y = region.ys.begin; y < region.ys.end; ++y) {
    const S* from = x.data + n * x.n + y * x.h + region.xs.begin * x.w + first;
    for (int64_t pixel = 0; pixel < region.xs.size(); ++pixel, from += x.w, to += channels) {
      kernels.copy({from, channels, 1, to, apart, groups, channels});
    }
  }
}

// These rows and channels of image n, in planes of so many elements a row, with the zeros left and right of the image.
template <class S, class A>
void stage_planes(const Kernels<S, A>& kernels, const Axis& w, const ImageView<const S>& x, int64_t n, Range rows,
                  Range channels, int64_t width, A* to) {
  const Range inside = Range{0, w.input}.within({-w.pad, width - w.pad});
  const int64_t before = inside.begin + w.pad, after = inside.end + w.pad;
  for (int64_t row = rows.begin; row < rows.end; ++row, to += channels.size() * width) {
    // Down the channels: along the row the compiler calls memset for what is mostly one element.
    const auto clear = [&](Range xs) {
      for (int64_t at = xs.begin; at < xs.end; ++at) {
        for (int64_t c = 0; c < channels.size(); ++c) to[c * width + at] = A{};
      }
    };
    clear({0, before});
    clear({after, w.span(w.output)});
    const S* from = x.data + n * x.n + row * x.h + inside.begin * x.w + channels.begin * x.c;
    kernels.pack({from, x.c, x.w, to + before, width, channels.size(), inside.size(), x.one_value});
  }
}

// Elements from one row of `elements` to the next, so that many do not fall into few cache sets.
template <class A> int64_t spread(int64_t elements) {
  const int64_t line = kLineBytes / sizeof(A);
  return elements % (kAlignedLines * line) == 0 ? elements + line : elements;
}

// Whether groups are single channels.
inline bool groups_are_channels(const ConvGeometry& g) { return g.C == g.groups && g.O == g.groups; }

// What the lanes of an item read: X[y][x][k][o] = x[y][x][o / (O/groups) * (C/groups) + k], or, where channels are not
// repeated, X[y][x][0][o] = x[y][x][o].
template <class A> struct LanesView {
  Range ys, xs;  // of the input
  const A* data;
  int64_t h, w, k;  // strides; lanes are contiguous
};

// How an item reads lanes.
struct LanesLayout {
  bool staged;            // else the tensor is read where it lies
  bool repeats;           // channels, for all outputs of their group
  bool padded;            // rows with the zeros left and right of the image; then xs count from the padding's first
  int64_t item_channels;  // output channels, of whole groups
  // Of the scratch, and of one row at its end whose channels are neighbours, where they are not in memory and are to be
  // repeated.
  int64_t elements, row_elements;

  // The axis over an input that has its padding around it, or not.
  Axis across(const ConvGeometry& g) const {
    Axis axis = g.w;
    if (padded) axis.input = axis.span(axis.output), axis.pad = 0;
    return axis;
  }

  // From one staged pixel to the next.
  template <class A> int64_t pixel(const ConvGeometry& g) const {
    return spread<A>((repeats ? g.C_per_group() : 1) * item_channels);
  }
};

// What some outputs of image n read, whose channels are whole groups.
template <class S, class A>
LanesView<A> read_lanes(const Kernels<S, A>& kernels, const LanesLayout& layout, const ConvGeometry& g,
                        const ImageView<const S>& x, int64_t n, const Region& outputs, A* to) {
  const Range lanes = outputs.channels;
  if (!layout.staged) return {{0, 0}, {0, 0}, of_image(in_place<A>(x), n).data + lanes.begin, x.h, x.w, 0};
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group(), width = lanes.size(), channels = width / Og * Cg;
  const int64_t pixel = layout.pixel<A>(g), shift = layout.padded ? g.w.pad : 0;
  A* const neighbours = to + layout.elements - layout.row_elements;
  LanesView<A> staged = {g.h.inputs(outputs.ys), layout.across(g).inputs(outputs.xs), to, 0, pixel, width};
  staged.h = staged.xs.size() * pixel;
  const Range inside = Range{shift, g.w.input + shift}.within(staged.xs);
  const auto clear = [&](Range pixels) {
    std::memset(to, 0, pixels.size() * pixel * sizeof(A));
    to += pixels.size() * pixel;
  };
  for (int64_t row = staged.ys.begin; row < staged.ys.end; ++row) {
    clear(staged.xs.before(inside));
    const S* from = x.data + n * x.n + row * x.h + (inside.begin - shift) * x.w + lanes.begin / Og * Cg * x.c;
    if (!layout.repeats) {
      kernels.copy({from, x.w, x.c, to, pixel, inside.size(), width});
    } else if (layout.row_elements > 0) {
      kernels.copy({from, x.w, x.c, neighbours, channels, inside.size(), channels});
      kernels.repeat({neighbours, channels, to, pixel, inside.size(), Cg, width, Og});
    } else {
      kernels.repeat({in_place<A>(from), x.w, to, pixel, inside.size(), Cg, width, Og});
    }
    to += inside.size() * pixel;
    clear(staged.xs.after(inside));
  }
  return staged;
}

// A receptive field: size_h x size_w taps from pixel (y, x) on, of which those in taps_h x taps_w lie in the image.
struct Field {
  int64_t y, x, size_h, size_w, dilation_h, dilation_w;
  Range taps_h, taps_w;
};

// Of the first `channels` of an image. The field's origin may lie outside it; only taps inside are read.
template <class S, class A>
void stage_field(const Kernels<S, A>& kernels, const ImageView<const S>& image, const Field& field, int64_t channels,
                 A* to) {
  kernels.field({image.data + field.y * image.h + field.x * image.w, field.dilation_h * image.h,
                 field.dilation_w * image.w, image.c, field.size_h, field.size_w, channels, field.taps_h.begin,
                 field.taps_h.end, field.taps_w.begin, field.taps_w.end, to});
}

}  // namespace nhwc_conv
