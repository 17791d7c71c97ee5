// The outputs of a region, in runs whose taps are all the same.
#pragma once

#include "geometry.h"

namespace nhwc_conv {

// The outputs (ys, x) of one column in runs: emit(y, x, count, down, taps_h, taps_w) for those below each other whose
// kernel rows all exist, and for each of the others.
template <class Emit>
void walk_column(const ConvGeometry& g, Range ys, int64_t x, Range taps_w, const Emit& emit) {
  const Range upright = g.h.interior().within(ys), all_rows = {0, g.h.kernel};
  if (!upright.empty()) emit(upright.begin, x, upright.size(), true, all_rows, taps_w);
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    if (!upright.empty() && y == upright.begin) y = upright.end;
    if (y < ys.end) emit(y, x, int64_t(1), false, g.h.taps(y), taps_w);
  }
}

// Calls emit(y, x, count, down, taps_h, taps_w) for runs of `count` outputs from (y, x), to the right or downwards, and
// border(x, taps_w) for columns of outputs.
//
// Where every tap of a kernel row exists, runs lie along the output row. Left and right of that each output column has
// taps of its own; there runs stand upright. So borders need neither a padded copy of the input nor products with zero.
template <class Emit, class Border>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit, const Border& border) {
  const Range middle = g.w.interior().within(xs), all_columns = {0, g.w.kernel};
  if (!middle.empty()) {
    for (int64_t y = ys.begin; y < ys.end; ++y) emit(y, middle.begin, middle.size(), false, g.h.taps(y), all_columns);
  }
  for (int64_t x = xs.begin; x < xs.end; ++x) {
    if (!middle.empty() && x == middle.begin) x = middle.end;
    if (x < xs.end) border(x, g.w.taps(x));
  }
}
template <class Emit>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit) {
  walk(g, ys, xs, emit, [&](int64_t x, Range taps_w) { walk_column(g, ys, x, taps_w, emit); });
}

// Calls run(offset, m) for the fewest pieces of at most `most` that make up `count`, equal but for one.
template <class Run>
void in_pieces(int64_t count, int64_t most, const Run& run) {
  const int64_t pieces = ceil_div(count, most), shorter = count / pieces, longer = count % pieces;
  int64_t offset = 0;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t m = shorter + (piece < longer);
    run(offset, m);
    offset += m;
  }
}

}  // namespace nhwc_conv
