// In which order lanewise tiles go over outputs: down columns of tiles, whose neighbours read the same rows, or row by
// row.
#pragma once

#include "tiles.h"

namespace nhwc_conv {

template <class A> int64_t pixel_bytes(const ConvGeometry& g) { return g.C * static_cast<int64_t>(sizeof(A)); }

// Of an image, or of its result if that is larger.
template <class A> int64_t image_bytes(const ConvGeometry& g) {
  return max(g.h.output * g.w.output, g.h.input * g.w.input) * pixel_bytes<A>(g);
}

// Whether rows of so many elements begin in few sets of the first-level cache.
template <class A> bool meets_in_few_sets(int64_t row) {
  return cache_sets(row * static_cast<int64_t>(sizeof(A))) < kFewestSpreadSets;
}

// Whether neighbouring rows share little, and pixels are so large that whole ones are a run of memory.
template <class A> bool shares_little(const ConvGeometry& g) {
  const bool few = (g.taps() <= kFewTaps && g.h.kernel < kFewTaps) || g.w.stride > 1;
  return groups_are_channels(g) && few && pixel_bytes<A>(g) >= kLargePixelBytes;
}

// Whether tiles go row by row. What rows do share stays in the cache from one to the next, unless pixels meet in few
// of its sets.
template <class A> bool goes_by_rows(const ConvGeometry& g) {
  const bool shares = g.h.kernel > g.h.stride || g.w.kernel > g.w.stride;
  return shares_little<A>(g) && (!shares || meets_in_few_sets<A>(g.C));
}

// Whether few rows of outputs make an item. Going down a column of tiles, a processor that meets only a short piece of
// each row does not foresee the next; where images come from the third-level cache or memory, that is most of the time.
template <class A> bool goes_in_few_rows(const ConvGeometry& g) { return g.N * image_bytes<A>(g) >= kFewRowsBytes; }

// Rows of outputs of such an item: twice as many as the rows of input that the next one reads again.
inline int64_t few_rows(const ConvGeometry& g) { return max(kFewRows, 2 * (g.h.kernel - 1)); }

// Whether images that come from far are read in the order of memory, though a tile then finds less of what it reads in
// the cache. Not where every row is read for many others.
template <class A> bool reads_in_order(const ConvGeometry& g) {
  const int64_t pixel = pixel_bytes<A>(g), far = pixel >= kLargePixelBytes ? kFarImageBytes : kAskedImageBytes;
  return g.N * image_bytes<A>(g) >= far && g.taps() <= kOrderedTaps && pixel >= kOrderedPixelBytes;
}

// The same of images from memory at a stride, under which a column of tiles keeps little of what it reads: whatever
// tiles keep otherwise.
template <class A> bool strides_in_order(const ConvGeometry& g) {
  return g.h.stride > 1 && g.h.kernel <= kMostStridedKernelRows && pixel_bytes<A>(g) >= kSharedPixelBytes;
}

struct LanewiseOrder {
  bool by_rows;     // one row of outputs after the other; else down columns of tiles
  int64_t rows;     // of a tile: outputs side by side, at most
  bool asks_ahead;  // for what is read next, which processors do not foresee
};

// Whether a tile of few outputs, two vectors of each, which asks for the next one's, is faster than one of eight, whose
// weights serve more: images of the third-level cache, whose pixels are whole pairs of vectors, not too many.
template <class A> bool takes_pairs(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const bool is_whole = g.C % (2 * kernels.lanewise[0].lanes) == 0;
  return is_whole && image_bytes<A>(g) >= kFarImageBytes && pixel_bytes<A>(g) <= kMostPairedBytes;
}

// Input pixels are so many elements apart. By rows where rows share nothing; and where no column of tiles keeps in
// registers what they share, if the cache keeps it, or all comes from far anyway.
template <class A>
LanewiseOrder choose_order(const Arithmetic<A>& kernels, const ConvGeometry& g, bool staged, int64_t pixel) {
  const LanewiseFamily<A>& family = kernels.lanewise[0];
  const bool is_signal = g.h.output == 1, rolls = family.rows_of_rolling != family.rows_of_many;
  const bool comes_from_memory = !staged && !is_signal && g.N * image_bytes<A>(g) >= kAskedImageBytes;
  // What a tile reads and writes: in too few sets of the cache, lines push each other out. Single taps have no loop of
  // their own to gain by.
  const int64_t apart = pixel * g.w.sharing_step(g.w.output) * static_cast<int64_t>(sizeof(A));
  const int64_t pixels = g.h.kernel * ((kMaxLanewiseRows - 1) * g.w.stride + g.w.kernel) + kMaxLanewiseRows;
  const bool takes_few = comes_from_memory || g.taps() == 1 || pixels > kCacheWays * cache_sets(apart);
  const bool finds = !rolls && !takes_few && g.h.kernel <= kFewKernelRows;
  const bool in_order = !rolls && !staged && reads_in_order<A>(g);
  const bool shares_nothing = is_signal || (g.h.kernel == 1 && g.w.kernel > 1) || goes_by_rows<A>(g);
  const bool strides = comes_from_memory && strides_in_order<A>(g);
  const bool pairs = finds && !staged && !shares_nothing && takes_pairs(kernels, g);
  LanewiseOrder order = {};
  order.by_rows = groups_are_channels(g) && (shares_nothing || strides || finds || in_order);
  order.rows = !takes_few && !pairs ? kMaxLanewiseRows : order.by_rows ? kFewTileRows : family.rows_of_many;
  order.asks_ahead = pairs || (comes_from_memory && pixel_bytes<A>(g) < kLargePixelBytes);
  return order;
}

}  // namespace nhwc_conv
