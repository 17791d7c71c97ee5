// When Winograd's algorithm is chosen, and in which blocks of patches.
#pragma once

#include "dense.h"
#include "patches.h"

namespace nhwc_conv {

struct WinogradPlan : PlanMemory {
  int64_t patch;          // outputs along an axis
  ColumnTiles columns;    // of the output channels
  int rows;               // patches of a tile of the product
  int64_t block_patches;  // transformed together
  int64_t depth_blocks;   // of input channels, whose sums are added up, for accuracy
  // All weights are transformed before the first item, or were ahead of the call; else each item transforms what it
  // needs, a chunk at a time: writing a large U to memory and reading it back would cost more.
  bool pack_weights;
  bool from_panels;  // what items transform are weights packed for the direct path
  int64_t column_shares;
  int64_t sums_offset;  // of the result's sums in the scratch

  Explanation explain(const ConvGeometry& g) const {
    Explanation plan = {"winograd", "winograd", "view", pack_weights};
    plan.reduction = {1, 1, g.C_per_group()};
    plan.tile = {rows, columns.widest()};
    plan.reduction_blocks = {1, depth_blocks};
    plan.winograd_tile = patch;
    plan.block_tiles = block_patches;
    return plan;
  }
};

// Whether what was packed ahead holds this geometry's weights transformed.
inline bool keeps_winograd(const Prepacked& packed, const ConvGeometry& g) {
  return packed.winograd_elements > 0 && patch_size(g) == 4;
}

// Whether Algorithm::automatic may choose it: yes, until told otherwise.
void set_winograd_enabled(bool value);
bool is_winograd_enabled();

// What a pass does with weights: transforms them, has them transformed already, or sums their gradient.
enum class WinogradWeights { given, prepacked, gradient };

// Whether it can compute this geometry at all.
inline bool winograd_fits(const ConvGeometry& g) {
  const auto fits = [](const Axis& axis) { return axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1; };
  return fits(g.h) && fits(g.w);
}

// Whether that is clearly the faster way, counted in products of an input and an output channel, of the pass: C is what
// the products are summed over; direct_cost is that of a product of the direct path, weight_cost that of the weights by
// kWeightCost. Narrow outputs have no lanes over them, and packings that it cannot read.
template <class A>
bool winograd_wins(const ConvGeometry& g, WinogradWeights weights, int64_t images, double direct_cost,
                   double weight_cost) {
  const int64_t C = g.C_per_group(), O = g.O_per_group(), size = sizeof(A), patch = patch_size(g);
  if (!winograd_fits(g) || C < kFewestWinogradChannels || C * O < kFewestWinogradPairs) return false;
  if (O * size < kFewestWinogradBytes) return false;
  const double per_pair = weights == WinogradWeights::prepacked ? kKeptWeightCost
                          : weights == WinogradWeights::given   ? kWeightCost + kWeightByteCost * size
                                                                : kGradientByteCost * size;
  const Patches patches(g, patch);
  const double count = double(images) * (patches.down * patches.across), pairs = double(C) * O;
  const double winograd =
      count * (winograd_points(patch) * pairs + kPatchCost * (C + O)) + weight_cost * per_pair * pairs;
  const auto taps_inside = [](const Axis& axis) {
    return axis.outputs(0).size() + axis.outputs(1).size() + axis.outputs(2).size();
  };
  const double direct = double(images) * taps_inside(g.h) * taps_inside(g.w) * pairs;
  return kWinogradMargin * winograd < direct_cost * direct;
}

// By name, or because it is automatic and Winograd wins for this many images. Where a result belongs to one image that
// is one, so that the batch shows in no bit.
template <class A>
bool takes_winograd(Algorithm algorithm, const ConvGeometry& g, WinogradWeights weights, int64_t images = 1,
                    double direct_cost = 1, double weight_cost = 1) {
  if (algorithm == Algorithm::winograd) return true;
  return algorithm == Algorithm::automatic && is_winograd_enabled() &&
         winograd_wins<A>(g, weights, images, direct_cost, weight_cost);
}

inline int64_t depth_blocks_of(const ConvGeometry& g) { return max(ceil_div(g.C_per_group(), kWinogradDepth), 1); }

// Elements of U. Each chunk ends with a gap for every point, for which a row of it is room.
inline int64_t transformed_elements(const ConvGeometry& g, const ColumnTiles& columns, int64_t patch) {
  const int64_t depth = g.C_per_group() + depth_blocks_of(g) * kPointGap;
  return g.groups * winograd_points(patch) * columns.padded_columns() * depth;
}

// Those that pack_weight lays down behind the weights of the direct path; none where it does not pay.
template <class A> int64_t winograd_prepacked_elements(const ConvGeometry& weights, const ColumnTiles& columns) {
  const bool fits = weights.h.kernel == 3 && weights.w.kernel == 3 && weights.C_per_group() >= kFewestWinogradChannels;
  const int64_t elements = transformed_elements(weights, columns, 4);
  return fits && elements * static_cast<int64_t>(sizeof(A)) <= kKeptWinogradBytes ? elements : 0;
}

// Of `most` patches at most. As many blocks for each thread; smaller ones for their sake only where blocks do not
// transform the weights anew. Too few blocks are shared by columns, each share of which transforms x anew.
inline void choose_patch_blocks(const ConvGeometry& g, int64_t most, int threads, WinogradPlan& plan) {
  const int64_t patches = Patches(g, plan.patch).count;
  const int64_t fair = threads > 1 && plan.pack_weights ? ceil_div(patches * g.groups, 2 * threads) : patches;
  int64_t blocks = max(ceil_div(patches, clamp(fair, kFewPatches, most)), 1);
  if (g.groups * blocks > threads) blocks = ceil_div(g.groups * blocks, threads) * threads / g.groups;
  plan.block_patches = max(ceil_div(patches, blocks), 1);
  blocks = g.groups * max(ceil_div(patches, plan.block_patches), 1);
  const int64_t shares = plan.pack_weights ? 2 * threads : threads;
  plan.column_shares = threads > 1 ? clamp(ceil_div(shares, blocks), 1, max(plan.columns.tiles, 1)) : 1;
}

template <class S, class A>
WinogradPlan make_winograd_plan(const Kernels<S, A>& kernels, const ConvGeometry& g, int threads,
                                const Result<S, A>& result, const Prepacked* prepacked) {
  const int64_t Cg = g.C_per_group(), size = sizeof(A);
  WinogradPlan plan = {};
  plan.patch = patch_size(g);
  plan.columns = prepacked ? prepacked->form.columns : choose_columns<A>(kernels, g.O_per_group(), kFewPatches);
  plan.rows = widest_family<A>(kernels, plan.columns).max_rows;
  plan.depth_blocks = depth_blocks_of(g);
  const int64_t points = winograd_points(plan.patch), packed = transformed_elements(g, plan.columns, plan.patch);
  const bool transformed = prepacked && keeps_winograd(*prepacked, g);
  plan.pack_weights = prepacked ? transformed : packed * size <= kPackedWinogradBytes;
  plan.from_panels = prepacked && !transformed;
  plan.packed_elements = plan.pack_weights && !prepacked ? packed : 0;
  const int64_t most = plan.pack_weights ? kFewPatches : kMostPatches;
  choose_patch_blocks(g, most, threads, plan);
  // By the largest block, so that N does not show.
  const int64_t widest = plan.columns.widest();
  const int64_t chunk = plan.pack_weights ? 0 : ceil_div(Cg, plan.depth_blocks) * widest + kPointGap;
  plan.sums_offset = points * (most * (Cg + widest) + 2 * kPointGap + Cg + chunk);
  plan.scratch_elements = plan.sums_offset + result.scratch_elements(plan.patch * plan.patch * widest);
  return plan;
}

}  // namespace nhwc_conv
