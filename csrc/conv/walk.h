// The outputs of a region, in rectangles whose taps are all the same.
#pragma once

#include "geometry.h"

namespace nhwc_conv {

// The outputs ys x xs, whose kernel columns taps_w exist: those whose kernel rows all exist, and row by row the others.
template <class Emit> void walk_columns(const ConvGeometry& g, Range ys, Range xs, Range taps_w, const Emit& emit) {
  const Range inside = g.h.interior().within(ys);
  if (!inside.empty()) emit(inside, xs, Range{0, g.h.kernel}, taps_w);
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    if (!inside.empty() && y == inside.begin) y = inside.end;
    if (y < ys.end) emit(Range{y, y + 1}, xs, g.h.taps(y), taps_w);
  }
}

// Calls emit(ys, xs, taps_h, taps_w) for rectangles of outputs, and border(x, taps_w) for columns of outputs that lack
// some kernel column: each has taps of its own. So borders need neither a padded copy of the input nor products with
// zero.
template <class Emit, class Border>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit, const Border& border) {
  const Range middle = g.w.interior().within(xs);
  if (!middle.empty()) walk_columns(g, ys, middle, {0, g.w.kernel}, emit);
  for (int64_t x = xs.begin; x < xs.end; ++x) {
    if (!middle.empty() && x == middle.begin) x = middle.end;
    if (x < xs.end) border(x, g.w.taps(x));
  }
}
template <class Emit> void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit) {
  walk(g, ys, xs, emit, [&](int64_t x, Range taps_w) { walk_columns(g, ys, {x, x + 1}, taps_w, emit); });
}

// The fewest tiles of at most `most` rows that make up `count`, equal but for one row: calls run(offset, m, tiles) for
// those of equal height, which follow each other.
template <class Run> void in_equal_tiles(int64_t count, int64_t most, const Run& run) {
  if (count == 0) return;
  const int64_t tiles = ceil_div(count, most), shorter = count / tiles, longer = count % tiles;
  if (longer > 0) run(0, shorter + 1, longer);
  run(longer * (shorter + 1), shorter, tiles - longer);
}

// Calls run(offset, m) for each of them.
template <class Run> void in_tiles(int64_t count, int64_t most, const Run& run) {
  in_equal_tiles(count, most, [&](int64_t offset, int64_t m, int64_t tiles) {
    for (; tiles > 0; --tiles, offset += m) run(offset, m);
  });
}

}  // namespace nhwc_conv
