// The outputs of a region, in runs whose taps are all the same.
#pragma once

#include "geometry.h"

namespace nhwc_conv {

// Calls emit(y, x, count, down, taps_h, taps_w) for runs of `count` outputs from (y, x), to the right or downwards, and
// corner(ys, x, taps_w) for outputs below each other whose kernel rows do not all exist.
//
// Where every tap of a kernel row exists, runs lie along the output row. Left and right of that each output column has
// taps of its own; there runs stand upright, over the output rows whose kernel rows all exist. So borders need neither
// a padded copy of the input nor products with zero.
template <class Emit, class Corner>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit, const Corner& corner) {
  const Range middle = g.w.interior().within(xs), upright = g.h.interior().within(ys);
  const Range all_h = {0, g.h.kernel}, all_w = {0, g.w.kernel};
  if (!middle.empty()) {
    for (int64_t y = ys.begin; y < ys.end; ++y) emit(y, middle.begin, middle.size(), false, g.h.taps(y), all_w);
  }
  for (int64_t x = xs.begin; x < xs.end; ++x) {
    if (!middle.empty() && x == middle.begin) {
      x = middle.end - 1;
      continue;
    }
    const Range taps_w = g.w.taps(x);
    if (!upright.empty()) emit(upright.begin, x, upright.size(), true, all_h, taps_w);
    const Range above = ys.before(upright), below = ys.after(upright);
    if (!above.empty()) corner(above, x, taps_w);
    if (!below.empty()) corner(below, x, taps_w);
  }
}

// A corner as runs of one output.
template <class Emit>
void one_by_one(const ConvGeometry& g, Range ys, int64_t x, Range taps_w, const Emit& emit) {
  for (int64_t y = ys.begin; y < ys.end; ++y) emit(y, x, 1, false, g.h.taps(y), taps_w);
}
template <class Emit>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit) {
  walk(g, ys, xs, emit, [&](Range corner, int64_t x, Range taps_w) { one_by_one(g, corner, x, taps_w, emit); });
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
