// The weight gradient by Winograd's transforms: with V as in winograd.h and D[p][patch][o] the transform of the
// gradient of a patch's outputs,
//
//   S[p][c][o] = sum over patches of V[p][patch][c] * D[p][patch][o],   dw = transform of S
//
// Each item has some input channels and some output channels: it transforms a block of patches at a time, adds its
// products to S, and transforms S back at the end. Patches are summed in blocks that do not depend on threads.
#pragma once

#include "parallel.h"
#include "winograd_plan.h"

namespace nhwc_conv {

struct WinogradGradientPlan : PlanMemory {
  int64_t patch;                     // outputs along an axis
  ColumnTiles columns;               // of the output channels of one group
  int64_t rows;                      // input channels of a tile of the product
  int64_t blocks, block_patches;     // sums over patches that are added up, for accuracy, and the largest one's
  int64_t items_down, items_across;  // of a group: by input channels, and by tiles of columns
  int64_t part_rows, part_tiles;     // of S that an item computes before it goes on to the next: all, if it comes back
  int64_t sum_elements, v_elements, d_elements;  // of the scratch: S of a part, V and D of an item and a block

  Explanation explain() const {
    Explanation plan = {"weight_gradient_winograd", "winograd", "view"};
    plan.reduction = {blocks, 1, block_patches};
    plan.tile = {rows, columns.widest()};
    plan.partials = 1;
    return plan;
  }
};

// Every item transforms what it reads, so threads wait for nobody and share no cache line; but the more items there
// are, the more often x and grad are transformed. As many as the caches ask for, or the threads.
template <class A> void choose_gradient_items(const ConvGeometry& g, int threads, WinogradGradientPlan& plan) {
  const int64_t Cg = g.C_per_group(), tiles = plan.columns.tiles, width = plan.columns.widest();
  const int64_t points = winograd_points(plan.patch), patch_bytes = 2 * points * max(plan.block_patches, 1) * sizeof(A);
  const int64_t most =
      plan.blocks == 1 ? max(kWinogradItemBytes / patch_bytes, kWinogradPartColumns) : kWinogradItemChannels;
  const int64_t least_down = max(ceil_div(Cg, most), 1);
  const int64_t least_across = max(ceil_div(tiles, max(most / width, 1)), 1);
  double best = -1;
  const auto consider = [&](int64_t down, int64_t across) {
    const int64_t rows = ceil_div(Cg, down), columns = ceil_div(tiles, across) * width;
    const double item = double(points) * rows * columns + kInputTransformCost * rows + kGradientTransformCost * columns;
    const double cost = ceil_div(g.groups * down * across, threads) * item;
    if (best >= 0 && cost >= best) return;
    best = cost;
    plan.items_down = down;
    plan.items_across = across;
  };
  const int64_t most_down = max(min(least_down + threads, ceil_div(Cg, plan.rows)), least_down);
  for (int64_t down = least_down; down <= most_down; ++down) {
    consider(down, least_across);
    const int64_t across = ceil_div(threads, g.groups * down);
    if (across > least_across && across <= tiles) consider(down, across);
  }
}

template <class S, class A>
WinogradGradientPlan make_winograd_gradient_plan(const Kernels<S, A>& kernels, const ConvGeometry& g, int threads) {
  const int64_t Cg = g.C_per_group();
  WinogradGradientPlan plan = {};
  plan.patch = patch_size(g);
  plan.columns = choose_columns<A>(kernels, g.O_per_group(), Cg);
  plan.rows = widest_family<A>(kernels, plan.columns).most_rows(Cg);
  const int64_t points = winograd_points(plan.patch), patches = Patches(g, plan.patch).count;
  plan.blocks = max(ceil_div(patches, kPatchBlock), 1);
  plan.block_patches = min(kPatchBlock, patches);
  choose_gradient_items<A>(g, threads, plan);
  const bool one_block = plan.blocks == 1;
  const int64_t rows = ceil_div(Cg, plan.items_down), width = plan.columns.widest();
  const int64_t columns = min(ceil_div(plan.columns.tiles, plan.items_across) * width, g.O_per_group());
  plan.part_rows = one_block ? min(max(kWinogradPartRows / plan.rows, 1) * plan.rows, rows) : rows;
  plan.part_tiles = one_block ? max(kWinogradPartColumns / width, 1) : plan.columns.tiles;
  plan.sum_elements = points * (plan.part_rows * min(plan.part_tiles * width, columns) + kPointGap);
  plan.v_elements = points * (plan.block_patches * (rows + kPointGap) + kPointGap);
  plan.d_elements = points * (plan.block_patches * (columns + kPointGap) + kPointGap);
  plan.scratch_elements = plan.sum_elements + plan.v_elements + plan.d_elements + points * max(rows, columns);
  return plan;
}

template <class S, class A> class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const WinogradGradientPlan& plan, const GradientOperands<S, A>& o)
      : plan_(plan), o_(o), transforms_(winograd_transforms<A>(o.kernels, plan.patch)), patches_(o.g, plan.patch) {}

  void run(const Parallel& parallel, A* workspace) const {
    const int64_t down = plan_.items_down, across = min(plan_.items_across, plan_.columns.tiles);
    for_each_item(parallel, o_.g.groups * down * across, [&](int64_t item, int64_t slot) {
      const Range rows = share_of(o_.g.C_per_group(), item / across % down, down);
      const Range tiles = share_of(plan_.columns.tiles, item % across, across);
      run_item(item / across / down, rows, tiles, workspace + slot * plan_.scratch_elements);
    });
  }

 private:
  // Some input channels by the output channels of some tiles, counted in the group.
  void run_item(int64_t group, Range rows, Range tiles, A* scratch) const {
    const ConvGeometry& g = o_.g;
    const Range columns = plan_.columns.of(tiles), outputs = outputs_of(g, group, columns);
    const int64_t points = winograd_points(plan_.patch), first = group * g.C_per_group();
    const Squares<S> x = {
        o_.x, {first + rows.begin, first + rows.end}, g.h.input, g.w.input, g.h.pad, g.w.pad, plan_.patch + 2};
    const Squares<S> grad = {o_.grad, outputs, g.h.output, g.w.output, 0, 0, plan_.patch};
    A* const v_data = scratch + plan_.sum_elements;
    A* const d_data = v_data + plan_.v_elements;
    A* const field = d_data + plan_.d_elements;
    for (int64_t b = 0; b < plan_.blocks; ++b) {
      const Range block = share_of(patches_.count, b, plan_.blocks);
      const PointMatrices<A> v = with_gaps(v_data, block.size(), rows.size());
      const PointMatrices<A> d = with_gaps(d_data, block.size(), columns.size());
      transform_squares(o_.kernels, transforms_.input, x, patches_, block, field, v);
      transform_squares(o_.kernels, transforms_.output_gradient, grad, patches_, block, field, d);
      for (int64_t r = rows.begin; r < rows.end; r += plan_.part_rows) {
        for (int64_t t = tiles.begin; t < tiles.end; t += plan_.part_tiles) {
          const Range part = Range{r, r + plan_.part_rows}.within(rows);
          const Range part_tiles = Range{t, t + plan_.part_tiles}.within(tiles);
          const Range part_columns = plan_.columns.of(part_tiles);
          const PointMatrices<A> s = point_matrices(scratch, part.size(), part_columns.size());
          multiply_points(o_.kernels, points, plan_.columns, part_tiles, b > 0 ? Mode::add : Mode::fresh,
                          v.of_columns(part, rows.begin).transposed(), d.of_columns(part_columns, columns.begin), s);
          if (b + 1 == plan_.blocks) transform_back(part, outputs_of(g, group, part_columns), s);
        }
      }
    }
  }

  // V and D: [point][patch][channel], with a gap after each patch and each point.
  static PointMatrices<A> with_gaps(A* data, int64_t patches, int64_t channels) {
    const int64_t row = channels + kPointGap;
    return {data, patches, channels, row, 1, patches * row + kPointGap};
  }

  void transform_back(Range rows, Range outputs, const PointMatrices<A>& s) const {
    const int64_t tap = o_.tap();
    for (int64_t c = rows.begin; c < rows.end; ++c) {
      transforms_.weight_gradient({s.data + (c - rows.begin) * s.row, (plan_.patch + 2) * s.point, s.point,
                                   o_.dw + c * o_.channel() + outputs.begin, 3 * tap, tap, 3, 3, outputs.size(),
                                   nullptr});
    }
  }

  const WinogradGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
  const WinogradTransforms<A>& transforms_;
  Patches patches_;
};

}  // namespace nhwc_conv
