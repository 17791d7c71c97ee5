// What tiles of a dense weight gradient read of x and grad: a block of output pixels at a time, where it lies or
// staged.
#pragma once

#include "weight_gradient_dense_plan.h"

namespace nhwc_conv {

// A part of the rows: of one kernel row (i), or of one tap (i, j), of one group.
struct GradientRows {
  int64_t group, part, i, j;
  Range range;
};

// A block of output pixels, the same of all its images, and some tiles of columns.
template <class S, class A> struct GradientBlock {
  // What is left to ask for of a run of memory.
  struct Ahead {
    const S* from;
    int64_t elements;
  };
  Range images, ys, xs, tiles;
  A* scratch;
  // The rows' operand as it is now, and of which group, part and kernel row it is if it is staged.
  ImageView<const A> rows = {};
  int64_t group = -1, part = -1, kernel_row = -1;
  bool stages_columns = false;  // the columns' operand is still to be staged
  Ahead ahead[2] = {};          // the next block's pixels of each operand
};

template <class S, class A> class GradientStage {
 public:
  using Block = GradientBlock<S, A>;

  GradientStage(const DenseGradientPlan& plan, const GradientOperands<S, A>& o) : plan_(plan), o_(o) {}

  Block block(int64_t index, Range tiles, A* scratch) const {
    const int64_t down = plan_.blocks_down(o_.g), across = plan_.blocks_across(o_.g);
    const Range ys = share_of(o_.g.h.output, index / across % down, down);
    return {share_of(o_.g.N, index / across / down, plan_.image_blocks(o_.g)), ys,
            share_of(o_.g.w.output, index % across, across), tiles, scratch};
  }

  // Makes these rows and the columns of their group what the block's tiles read.
  void aim(Block& block, const GradientRows& rows) const {
    const auto is_there = [&](const GradientOperand& operand) {
      return rows.group == block.group && (rows.i == block.kernel_row || !plan_.by_kernel_row || !operand.is_x);
    };
    const bool has_rows = is_there(plan_.by_rows) && rows.part == block.part;
    if (!is_there(plan_.by_columns)) block.stages_columns = plan_.by_columns.staged;
    block.group = rows.group;
    block.kernel_row = rows.i;
    block.part = rows.part;
    if (!has_rows) read_rows(block);
  }

  // Calls visit(tile, columns, operand) for each tile of columns of the block's group: its channels, counted in the
  // group, and the columns' operand, which is staged before the first visit.
  template <class Visit> void each_tile(Block& block, const Visit& visit) const {
    const GradientOperand& operand = plan_.by_columns;
    const ImageView<const A> images = from_image(in_place<A>(operand.tensor(o_)), block.images.begin);
    const int64_t before = block.group * operand.channels;
    Region part = pixels(block, operand, {});
    A* staged = block.scratch + plan_.by_rows.elements;
    Range columns = {0, plan_.columns.begin(block.tiles.begin)};
    for (int64_t tile = block.tiles.begin; tile < block.tiles.end; ++tile) {
      columns = {columns.end, plan_.columns.end(tile)};
      part.channels = {before + columns.begin, before + columns.end};
      if (block.stages_columns) stage(operand, block, part, staged);
      visit(tile, columns, operand.staged ? staged_images(part, staged) : images);
      if (operand.staged) staged += block.images.size() * part.elements();
    }
    block.stages_columns = false;
  }

  // Makes tiles of this block ask for the next one's pixels, which else wait for memory in its first tiles. Only where
  // whole rows of the image are one run: line after line gains more than one line of each pixel, and skips no page.
  void look_ahead(Block& block, const Block& next) const {
    if (plan_.by_kernel_row) return;
    const auto ahead = [&](const GradientOperand& operand) -> typename Block::Ahead {
      const ImageView<const S>& view = operand.tensor(o_);
      const int64_t channels = o_.g.groups * operand.channels;
      const Region part = pixels(next, operand, {0, channels});
      const bool one_run = view.c == 1 && view.w == channels && view.h == part.xs.size() * channels;
      const bool one_image = next.images.size() == 1 || view.n == part.elements();
      if (!one_run || !one_image || operand.w.stride > operand.w.kernel) return {};
      return {view.data + next.images.begin * view.n + part.ys.begin * view.h, next.images.size() * part.elements()};
    };
    block.ahead[0] = ahead(plan_.by_rows);
    block.ahead[1] = ahead(plan_.by_columns);
  }

 private:
  // The pixels of an operand that belong to a block.
  Region pixels(const Block& block, const GradientOperand& operand, Range channels) const {
    const Axis h = plan_.by_kernel_row ? operand.h.of_tap(block.kernel_row) : operand.h;
    return {h.inputs(block.ys), operand.w.inputs(block.xs), channels};
  }

  void read_rows(Block& block) const {
    const GradientOperand& operand = plan_.by_rows;
    if (!operand.staged) {
      block.rows = from_image(in_place<A>(operand.tensor(o_)), block.images.begin);
      return;
    }
    const int64_t before = block.group * operand.channels;
    const Range some = plan_.merges_taps ? Range{0, operand.channels} : plan_.rows_of(block.part);
    const Region part = pixels(block, operand, {before + some.begin, before + some.end});
    stage(operand, block, part, block.scratch);
    block.rows = staged_images(part, block.scratch);
  }

  // The region of every image of the block, one after the other.
  void stage(const GradientOperand& operand, const Block& block, const Region& part, A* to) const {
    for (int64_t n = block.images.begin; n < block.images.end; ++n, to += part.elements()) {
      stage_pixels(o_.kernels, operand.tensor(o_), n, part, to);
    }
  }
  static ImageView<const A> staged_images(const Region& part, const A* staged) {
    ImageView<const A> images = staged_pixels<A>(part, staged);
    images.n = part.elements();
    return images;
  }

  const DenseGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
};

}  // namespace nhwc_conv
