// Items that are regions: a part of one image's outputs, of a group or some, by a share of a group's tiles of columns.
#pragma once

#include "dense.h"
#include "parallel.h"

namespace nhwc_conv {

struct RegionPlan : DensePlan {
  int64_t item_height, item_width;  // outputs
  int64_t column_shares;
  int64_t item_groups;  // one; of narrow groups that are staged, as many as leave some to all threads
  // All groups of a region before the next region, else all regions of a group before the next group.
  bool groups_together;

  int64_t item_outputs() const {
    const ColumnTiles& columns = form.columns;
    const int64_t share = ceil_div(columns.tiles, column_shares) * columns.widest();
    return item_height * item_width * min(share, columns.columns);
  }
};

// Outputs of an item whose weights stay in the caches. Each tile of columns writes its piece of all pixels before the
// next does: on as few pages as the processor knows at once, unless pixels are so large that hardly any would be left.
inline int64_t pixels_on_few_pages(int64_t pixel_bytes) {
  return max(kItemOutputBytes / max(pixel_bytes, 1), kFewestItemPixels);
}

// Outputs of an item: what they read stays in the caches beside so many weights of a group. All groups that are staged
// at once are read one after the other, so they may be more; rows between items are staged for each.
template <class A>
int64_t pixels_of_items(const ConvGeometry& g, const RegionPlan& plan, bool staged, int64_t weights) {
  const int64_t size = sizeof(A), channels = plan.groups_together ? g.C : g.C_per_group();
  const int64_t pixel_bytes = max(g.h.stride * g.w.stride * channels * size, 1);
  const bool by_groups = staged && plan.groups_together;
  const int64_t input_bytes = by_groups ? kStagedGroupsBytes / 2 : kItemInputBytes;
  const int64_t pixels = clamp(input_bytes / pixel_bytes, kFewestTilesToPack * plan.rows, kMostItemPixels);
  if (by_groups || weights * size > kItemInputBytes) return pixels;
  return min(pixels, pixels_on_few_pages(g.O * size));
}

// Whether groups are so narrow, and pixels a page apart, that what items read of them pushes itself out of the caches:
// where it is read often, or there is much of it.
template <class A> bool groups_collide(const ConvGeometry& g) {
  const int64_t size = sizeof(A);
  const bool apart = cache_sets(g.C * size) == 1 && g.C_per_group() * size <= kNarrowGroupBytes;
  const bool often = g.taps() > kFewTaps * g.h.stride * g.w.stride;
  const bool many = g.h.input * g.w.input >= kFewestItemPixels;
  return g.groups > 1 && g.taps() > 1 && apart && (often || many);
}

// Whether so much of an image is read, in runs so long, and so seldom, that tiles of little work wait for memory.
template <class A> bool reads_from_far(const ConvGeometry& g) {
  const int64_t pixels = min(g.h.input * g.w.input, g.taps() * g.h.output * g.w.output);
  const int64_t run_bytes = g.C_per_group() * static_cast<int64_t>(sizeof(A));
  const bool is_far = g.N * g.groups * pixels * run_bytes >= kAskedImageBytes;
  return is_far && run_bytes >= kAskedRunBytes && g.taps() <= kOrderedTaps;
}

// Equal parts of rows for the threads, or of their pixels where there is one row, or rows are cut anyway.
inline void share_pixels(const ConvGeometry& g, bool staged, int threads, RegionPlan& plan) {
  const int64_t OH = max(g.h.output, 1), OW = max(g.w.output, 1), images = g.N * g.groups;
  const double more = kItemTiles * static_cast<double>(plan.rows);
  if (OH == 1 || plan.item_width < OW) {
    plan.item_width = rows_of_items(OW, plan.item_width, images * ceil_div(OH, plan.item_height), threads, more);
  } else {
    const double again = staged ? kStagedAgain * g.h.shared() : 0;
    plan.item_height = rows_of_items(OH, plan.item_height, images, threads, again + more / static_cast<double>(OW));
  }
}

struct RegionItem {
  int64_t n;
  Range groups, ys, xs, tiles;
};

inline int64_t region_items(const RegionPlan& plan, const ConvGeometry& g) {
  return ceil_div(g.groups, plan.item_groups) * g.N * ceil_div(g.h.output, plan.item_height) *
         ceil_div(g.w.output, plan.item_width) * plan.column_shares;
}

inline RegionItem region_item(const RegionPlan& plan, const ConvGeometry& g, int64_t item) {
  const int64_t across = ceil_div(g.w.output, plan.item_width), down = ceil_div(g.h.output, plan.item_height);
  const int64_t share = item % plan.column_shares, of_any_share = item / plan.column_shares;
  const int64_t regions = g.N * down * across, group_shares = ceil_div(g.groups, plan.item_groups);
  const int64_t groups = plan.groups_together ? of_any_share % group_shares : of_any_share / regions;
  const int64_t region = plan.groups_together ? of_any_share / group_shares : of_any_share % regions;
  const int64_t x = region % across * plan.item_width;
  return {region / across / down, share_of(g.groups, groups, group_shares),
          share_of(g.h.output, region / across % down, down), Range{x, x + plan.item_width}.within({0, g.w.output}),
          share_of(plan.form.columns.tiles, share, plan.column_shares)};
}

}  // namespace nhwc_conv
