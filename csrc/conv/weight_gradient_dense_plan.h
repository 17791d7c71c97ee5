// The dense weight gradient's choices: what are rows and columns of its tiles, blocks of pixels, and what is staged.
#pragma once

#include "operands.h"
#include "stage.h"
#include "tiles.h"

namespace nhwc_conv {

// One of the two tensors whose products are summed, and the pixel of it that an output meets under a tap: of grad, the
// output itself.
struct GradientOperand {
  bool is_x;
  Axis h, w;
  int64_t channels;  // of a group
  bool staged;
  int64_t elements;  // of the scratch

  template <class S, class A> const ImageView<const S>& tensor(const GradientOperands<S, A>& o) const {
    return is_x ? o.x : o.grad;
  }
};

struct DenseGradientPlan : PlanMemory {
  // Rows of tiles are channels of x and columns those of grad; or swapped, where output channels are too few for lanes
  // over them. Then the sums stand as [O][KH][KW][C/groups] until the end.
  GradientOperand by_rows, by_columns;
  bool merges_taps;  // the rows of a tile run over (kernel column, channel), else over the channels of one tap
  ColumnTiles columns;
  int rows;                     // of a tile, at most
  int64_t all_rows, row_tiles;  // of one kernel row, or of one tap
  // Tiles of rows by parts: a tile of columns, which stays in the first-level cache, meets all of a part in one call.
  int64_t row_parts;
  // Output pixels summed in registers before they are added to the gradient: a part of an image, or some whole ones.
  int64_t block_images, block_height, block_width;
  int64_t partials;  // sums over parts of the batch
  // What is staged of a block: on the side of a tile's rows, the channels of a part; on the other, tile by tile of
  // columns, those of one of column_shares.
  int64_t column_shares;
  bool by_kernel_row;   // of x: what one kernel row reads, else what all do
  bool finishes_parts;  // sums are finished, from the scratch, as soon as all taps of a part have theirs

  bool swapped() const { return by_columns.is_x; }
  int64_t block_pixels() const { return block_images * block_height * block_width; }
  Range rows_of(int64_t part) const {
    const Range tiles = share_of(row_tiles, part, row_parts);
    return {tiles.begin * rows, min(tiles.end * rows, all_rows)};
  }
  int64_t most_rows_of_part() const { return ceil_div(row_tiles, max(row_parts, 1)) * rows; }
  int64_t blocks_down(const ConvGeometry& g) const { return ceil_div(g.h.output, block_height); }
  int64_t blocks_across(const ConvGeometry& g) const { return ceil_div(g.w.output, block_width); }
  int64_t image_blocks(const ConvGeometry& g) const { return ceil_div(g.N, block_images); }
  int64_t blocks(const ConvGeometry& g) const { return image_blocks(g) * blocks_down(g) * blocks_across(g); }

  Explanation explain() const {
    const bool staged = by_rows.staged || by_columns.staged;
    Explanation plan = {"weight_gradient_dense", "direct", staged ? "pixels" : "view"};
    plan.reduction = {block_images, block_height, block_width};
    plan.tile = {rows, columns.widest()};
    plan.partials = partials;
    return plan;
  }
};

template <class A>
void choose_gradient_tiles(const Arithmetic<A>& kernels, const ConvGeometry& g, DenseGradientPlan& plan) {
  const auto outputs = [](const Axis& axis) { return Axis{axis.output, axis.output, 1, 1, 0, 0}; };
  const GradientOperand x = {true, g.h, g.w, g.C_per_group()};
  const GradientOperand grad = {false, outputs(g.h), outputs(g.w), g.O_per_group()};
  const int64_t channel_bytes = x.channels * static_cast<int64_t>(sizeof(A));
  const bool swapped = grad.channels <= kMaxDotFamilies && channel_bytes >= kSwappedBytes;
  plan.by_rows = swapped ? grad : x;
  plan.by_columns = swapped ? x : grad;
  // Few channels leave rows of a tile idle; then the taps of one kernel row share it, and pixels at the borders, where
  // not all of these taps exist, are summed tap by tap.
  plan.merges_taps =
      !swapped && g.groups == 1 && g.w.kernel > 1 && g.w.dilation == 1 && x.channels < kMergedTapChannels;
  plan.all_rows = plan.merges_taps ? g.w.kernel * x.channels : plan.by_rows.channels;
  plan.columns = choose_columns(kernels, plan.by_columns.channels, plan.all_rows, TilesOf::weight_gradient);
  plan.rows = widest_family(kernels, plan.columns).most_rows(plan.all_rows);
  plan.row_tiles = ceil_div(plan.all_rows, plan.rows);
}

// By the geometry alone: the ends of blocks and of parts show in the last bits.
template <class A> void choose_gradient_blocks(const ConvGeometry& g, int64_t elements, DenseGradientPlan& plan) {
  const int64_t size = sizeof(A), OH = max(g.h.output, 1), OW = max(g.w.output, 1);
  const int64_t pixel_bytes = (g.h.stride * g.w.stride * g.C_per_group() + g.O_per_group()) * size;
  const int64_t pixels = clamp(kBlockOperandBytes / max(pixel_bytes, 1), kFewestBlockPixels, kMostBlockPixels);
  plan.block_width = ceil_div(OW, ceil_div(OW, 2 * pixels));
  plan.block_height = clamp(pixels / plan.block_width, 1, OH);
  // Enough independent parts for many threads: kernel positions and channels, then pixels.
  const int64_t small_parts = kPartialElements / max(elements, 1);
  const int64_t parts = max(small_parts, min(2 * kPartialElements / max(elements, 1), kLargePartials));
  const int64_t whole = plan.block_width == OW && plan.block_height == OH ? pixels / (OH * OW) : 1;
  // A small gradient stays in the cache meanwhile, and its parts need blocks.
  plan.block_images = parts > 1 ? 1 : clamp(whole, 1, max(g.N, 1));
  plan.partials = clamp(parts, 1, clamp(plan.blocks(g), 1, kMaxPartials));
  // The first sum stands in the gradient itself, unless swapped.
  plan.packed_elements = (plan.swapped() ? plan.partials : plan.partials - 1) * elements;
}

template <class S, class A> void choose_gradient_staging(const GradientOperands<S, A>& o, DenseGradientPlan& plan) {
  const ConvGeometry& g = o.g;
  const Machine& machine = o.kernels.machine;
  const int64_t size = sizeof(A), taps = g.h.kernel * (plan.merges_taps ? 1 : g.w.kernel);
  GradientOperand &by_rows = plan.by_rows, &by_columns = plan.by_columns;
  const int64_t far_pixel = machine.second_level_cache < kLargeCacheBytes ? machine.page / 2 : machine.page;
  const auto stages = [&](const GradientOperand& operand, int64_t channels, int64_t reads) {
    const ImageView<const S>& view = operand.tensor(o);
    if (!can_view<A>(view)) return true;
    if (view.w <= channels || plan.block_pixels() <= kCacheWays) return false;
    return taps * reads >= (taps > 1 || view.w * size >= far_pixel ? kManyReads : kVeryManyReads);
  };
  plan.row_parts = ceil_div(plan.row_tiles, plan.merges_taps ? max(plan.row_tiles, 1) : max(kPartRows / plan.rows, 1));
  const int64_t row_channels = min(plan.most_rows_of_part(), by_rows.channels);
  // Merged taps are neighbours only where pixels are.
  by_rows.staged = stages(by_rows, row_channels, plan.columns.tiles) ||
                   (plan.merges_taps && by_rows.tensor(o).w != by_rows.channels);
  by_columns.staged = stages(by_columns, min(plan.columns.widest(), plan.columns.columns), plan.row_tiles / kNearReads);
  plan.column_shares = by_columns.staged ? max(ceil_div(plan.columns.columns, kStagedColumns), 1) : 1;
  // Rows between the taps of dilated kernels are not worth staging: kernel row by kernel row there are fewer.
  plan.by_kernel_row = g.h.reach(plan.block_height) > g.h.kernel * g.h.of_tap(0).reach(plan.block_height);
  // Whole lines each, so that vectors do not cross from one to the next.
  const int64_t line = kLineBytes / size;
  const auto elements = [&](const GradientOperand& operand, int64_t channels) {
    const Axis h = plan.by_kernel_row ? operand.h.of_tap(0) : operand.h;
    const int64_t pixels = h.reach(plan.block_height) * operand.w.reach(plan.block_width);
    return operand.staged ? ceil_div(channels * pixels * plan.block_images, line) * line : 0;
  };
  const int64_t vectors = ceil_div(plan.columns.tiles, plan.column_shares) * plan.columns.vectors;
  by_rows.elements = elements(by_rows, row_channels);
  by_columns.elements = elements(by_columns, min(vectors * plan.columns.lanes, plan.columns.columns));
  plan.scratch_elements = by_rows.elements + by_columns.elements;
}

// Where one block of pixels makes complete sums: there is no need for a second copy of a large gradient.
inline void finish_from_scratch(const ConvGeometry& g, DenseGradientPlan& plan) {
  if (plan.blocks(g) != 1 || plan.partials != 1 || plan.merges_taps || plan.swapped() || plan.by_kernel_row) return;
  const int64_t channels = max(kFinishedChannels, ceil_div(kFinishedRows, g.taps()));
  plan.finishes_parts = true;
  plan.row_parts = max(plan.row_parts, ceil_div(plan.row_tiles, ceil_div(channels, plan.rows)));
  const int64_t columns = ceil_div(plan.columns.tiles, plan.column_shares) * plan.columns.widest();
  plan.scratch_elements += plan.most_rows_of_part() * g.taps() * min(columns, plan.columns.columns);
}

template <class S, class A> DenseGradientPlan make_dense_gradient_plan(const GradientOperands<S, A>& o) {
  DenseGradientPlan plan = {};
  choose_gradient_tiles<A>(o.kernels, o.g, plan);
  choose_gradient_blocks<A>(o.g, o.elements(), plan);
  choose_gradient_staging(o, plan);
  return plan;
}

}  // namespace nhwc_conv
