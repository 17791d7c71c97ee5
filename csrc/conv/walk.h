// The outputs of a region, in rectangles whose taps are all the same.
#pragma once

#include <initializer_list>

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

// The columns of outputs from the first of xs on that have the same kernel columns.
inline Range with_equal_taps(const Axis& w, Range xs) {
  const Range taps = w.taps(xs.begin);
  int64_t end = xs.begin + 1;
  while (end < xs.end && w.taps(end) == taps) ++end;
  return {xs.begin, end};
}

// Calls emit(ys, xs, taps_h, taps_w) for rectangles of outputs, and border(xs) for columns of outputs, next to each
// other, that lack some kernel column. So borders need neither a padded copy of the input nor products with zero.
template <class Emit, class Border>
void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit, const Border& border) {
  const Range middle = g.w.interior().within(xs);
  if (!middle.empty()) walk_columns(g, ys, middle, {0, g.w.kernel}, emit);
  for (const Range side : {xs.before(middle), xs.after(middle)}) {
    if (!side.empty()) border(side);
  }
}

// The border, too, in rectangles: those with the same taps along their rows, or one column at a time if that is longer.
template <class Emit> void walk_in_rectangles(const ConvGeometry& g, Range ys, Range xs, const Emit& emit) {
  while (!xs.empty()) {
    const Range equal = with_equal_taps(g.w, xs);
    const int64_t width = equal.size() > ys.size() ? equal.size() : 1;
    for (int64_t x = equal.begin; x < equal.end; x += width) {
      walk_columns(g, ys, {x, x + width}, g.w.taps(x), emit);
    }
    xs.begin = equal.end;
  }
}
template <class Emit> void walk(const ConvGeometry& g, Range ys, Range xs, const Emit& emit) {
  walk(g, ys, xs, emit, [&](Range border) { walk_in_rectangles(g, ys, border, emit); });
}

// Calls run(taps, outputs) for those of `taps`, one after the other, that meet the same of some outputs.
template <class Run> void each_with_equal_outputs(const Axis& axis, Range taps, Range outputs, const Run& run) {
  for (int64_t tap = taps.begin, end; tap < taps.end; tap = end) {
    const Range active = axis.outputs(tap).within(outputs);
    for (end = tap + 1; end < taps.end && axis.outputs(end).within(outputs) == active;) ++end;
    run(Range{tap, end}, active);
  }
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
