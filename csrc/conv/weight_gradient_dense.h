// The dense weight gradient: dw[i, j, c, o] is the sum over output pixels of x under tap (i, j) times grad. Tiles of
// (kernel position, input channel) by output channels, reduced over pixels; no im2col buffer.
#pragma once

#include <cstring>

#include "partial_sums.h"
#include "weight_gradient_result.h"
#include "weight_gradient_stage.h"

namespace nhwc_conv {

template <class S, class A> class DenseWeightGradient {
 public:
  DenseWeightGradient(const DenseGradientPlan& plan, const GradientOperands<S, A>& o, const Gradient<S, A>& result)
      : plan_(plan), o_(o), result_(result), stage_(plan, o) {}

  void run(const Parallel& parallel, A* workspace) const {
    const Shares shares = choose_shares(parallel.threads);
    A* const total = plan_.swapped() ? workspace + (plan_.partials - 1) * o_.elements() : o_.dw;
    const auto sum = [&](int64_t share, Range blocks, A* dw, A* scratch) {
      const Range tiles = share_of(plan_.columns.tiles, share % shares.columns, shares.columns);
      const Range units = share_of(row_units(), share / shares.columns, shares.rows);
      if (tiles.empty() || units.empty()) return;
      plan_.finishes_parts ? run_finished(tiles, units, scratch) : run_share(tiles, units, blocks, dw, scratch);
    };
    add_partial_sums(o_, plan_, parallel, shares.columns * shares.rows, plan_.blocks(o_.g), total, workspace, sum);
    if (plan_.swapped()) swap_back(parallel, total);
  }

 private:
  using Block = GradientBlock<S, A>;
  struct Shares {
    int64_t columns, rows;  // of the tiles of columns and of the units of rows
  };
  // Where sums are made: of input channel 0, tap 0 and output 0.
  struct Sums {
    A* data;
    int64_t tap, channel;
  };

  int64_t taps_across() const { return plan_.merges_taps ? 1 : o_.g.w.kernel; }
  // What shares are cut of: parts of rows of one tap, or those with all their taps.
  int64_t row_units() const {
    const int64_t parts = o_.g.groups * plan_.row_parts;
    return plan_.finishes_parts ? parts : parts * o_.g.h.kernel * taps_across();
  }

  // As many shares as threads need, besides partial sums. Of rows, while there are enough: what a thread writes is then
  // one run of memory, where shares of columns would lie between each other's lines. Which tile is in which shows in no
  // bit.
  Shares choose_shares(int threads) const {
    const int64_t needed = ceil_div(threads, plan_.partials), least = clamp(needed, 1, row_units());
    const int64_t most_columns = max(plan_.columns.tiles, plan_.column_shares);
    Shares shares = {clamp(ceil_div(needed, least), plan_.column_shares, most_columns), least};
    if (threads == 1) return shares;
    // The last round of items should keep all threads busy.
    const auto rounds = [&](int64_t rows) {
      const int64_t items = plan_.partials * shares.columns * rows;
      return double(ceil_div(items, threads)) / items;
    };
    for (int64_t rows = least + 1; rows <= min(2 * least, row_units()); ++rows) {
      if (rounds(rows) < kBetterRounds * rounds(shares.rows)) shares.rows = rows;
    }
    return shares;
  }

  // Units whose rows read the same staged pixels are neighbours, so that these are staged once a block: the same
  // channels for all kernel rows, or all channels for one kernel row.
  GradientRows rows_of(int64_t unit) const {
    const int64_t across = taps_across(), KH = o_.g.h.kernel, parts = plan_.row_parts;
    const int64_t index = unit / across % (KH * parts);
    const int64_t part = plan_.by_kernel_row ? index % parts : index / KH;
    const int64_t i = plan_.by_kernel_row ? index / parts : index % KH;
    return {unit / across / KH / parts, part, i, unit % across, plan_.rows_of(part)};
  }

  void run_share(Range tiles, Range units, Range blocks, A* dw, A* scratch) const {
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
      Block block = stage_.block(b, tiles, scratch);
      if (b + 1 < blocks.end) stage_.look_ahead(block, stage_.block(b + 1, tiles, scratch));
      const Mode mode = b == blocks.begin ? Mode::fresh : Mode::add;
      const Sums sums = {dw, o_.tap(), o_.channel()};
      for (int64_t unit = units.begin; unit < units.end; ++unit) add(block, rows_of(unit), sums, mode);
    }
  }

  // The only block.
  void run_finished(Range tiles, Range units, A* scratch) const {
    const int64_t taps = o_.g.taps();
    const Range columns = plan_.columns.of(tiles);
    Block block = stage_.block(0, tiles, scratch);
    A* const room = scratch + plan_.by_rows.elements + plan_.by_columns.elements;
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      const Range channels = plan_.rows_of(unit % plan_.row_parts);
      const Range outputs = outputs_of(o_.g, unit / plan_.row_parts, columns);
      Sums sums = {nullptr, columns.size(), taps * columns.size()};
      sums.data = room - channels.begin * sums.channel - outputs.begin;
      for (int64_t tap = 0; tap < taps; ++tap) add(block, rows_of(unit * taps + tap), sums, Mode::fresh);
      result_.finish(o_, room, sums.tap, sums.channel, channels, outputs);
    }
  }

  void add(Block& block, const GradientRows& rows, const Sums& sums, Mode mode) const {
    stage_.aim(block, rows);
    const Axis& w = o_.g.w;
    const Range ys = o_.g.h.outputs(rows.i).within(block.ys);
    if (!plan_.merges_taps) {
      add_products(block, rows, ys, w.outputs(rows.j).within(block.xs), sums, mode);
      return;
    }
    const int64_t Cg = plan_.by_rows.channels;
    const Range all = {rows.range.begin / Cg, ceil_div(rows.range.end, Cg)};
    walk_taps(w, all, block.xs, w.interior().within(block.xs), mode, [&](Range taps, Range outputs, Mode mode) {
      GradientRows part = rows;
      part.range = rows.range.within({taps.begin * Cg, taps.end * Cg});
      add_products(block, part, ys, outputs, sums, mode);
    });
  }

  // Products of the pixels ys x xs with all tiles of columns; the range of rows is counted from tap (i, j).
  void add_products(Block& block, const GradientRows& rows, Range ys, Range xs, const Sums& sums, Mode mode) const {
    const GradientOperand &by_rows = plan_.by_rows, &by_columns = plan_.by_columns;
    const int64_t row = rows.group * by_rows.channels + rows.range.begin, tap = rows.i * o_.g.w.kernel + rows.j;
    // Swapped, sums stand as [O][KH][KW][C/groups].
    const int64_t c_m = plan_.swapped() ? o_.g.depth() : sums.channel;
    const auto sums_of = [&](int64_t column) {
      return sums.data + (plan_.swapped()
                              ? row * c_m + tap * o_.g.C_per_group() + column
                              : tap * sums.tap + rows.range.begin * c_m + rows.group * by_columns.channels + column);
    };
    if (ys.empty() || xs.empty()) {
      if (mode == Mode::add) return;
      const Range columns = plan_.columns.of(block.tiles);
      for (int64_t m = 0; m < rows.range.size(); ++m) {
        std::memset(sums_of(columns.begin) + m * c_m, 0, columns.size() * sizeof(A));
      }
      return;
    }
    const auto first_pixel = [&](const GradientOperand& operand, const ImageView<const A>& view) {
      return view.data + operand.h.input_of(ys.begin, rows.i) * view.h + operand.w.input_of(xs.begin, rows.j) * view.w;
    };
    const ImageView<const A>& left = block.rows;
    TileArgs<A> args = {};
    args.mode = mode;
    args.c_m = c_m;
    const A* const first = first_pixel(by_rows, left) + row;
    stage_.each_tile(block, [&](int64_t tile, Range columns, const ImageView<const A>& right) {
      const int64_t column = rows.group * by_columns.channels + columns.begin;
      args.set_a(first, 1, left.n, by_rows.h.stride * left.h, by_rows.w.stride * left.w);
      args.set_b(first_pixel(by_columns, right) + column, right.n, by_columns.h.stride * right.h,
                 by_columns.w.stride * right.w);
      args.set_sums(block.images.size(), ys.size(), xs.size());
      join_loops(args);
      args.c = sums_of(columns.begin);
      args.columns = columns.size();
      const TileFamily<A>& family = family_of(o_.kernels, plan_.columns, tile);
      const int64_t height = family.most_rows(rows.range.size()), rest = rows.range.size() % height;
      const auto multiply = [&](int64_t tiles, int64_t height) {
        args.set_tiles(tiles, height, height * c_m);
        ask(args, block);
        family.columns_of_a[height - 1](args);
        args.a += tiles * height;
        args.c += tiles * height * c_m;
      };
      if (rows.range.size() >= height) multiply(rows.range.size() / height, height);
      if (rest > 0) multiply(1, rest);
    });
  }

  // Rows of pixels that follow each other evenly are one, and images likewise: longer loops, in the same order.
  static void join_loops(TileArgs<A>& args) {
    if (args.a_j == args.K * args.a_k && args.b_j == args.K * args.b_k) args.K *= args.J, args.J = 1;
    if (args.J == 1 && args.a_i == args.K * args.a_k && args.b_i == args.K * args.b_k) args.K *= args.I, args.I = 1;
  }

  // A line at each step of the reduction. What tiles of one call ask for is a_t apart.
  void ask(TileArgs<A>& args, Block& block) const {
    args.set_ahead(nullptr, 0, 0, 0);
    for (typename Block::Ahead& ahead : block.ahead) {
      if (ahead.elements <= 0) continue;
      const int64_t line = o_.kernels.machine.line / sizeof(A), step = max(line, args.tiles * args.a_t);
      args.set_ahead(in_place<A>(ahead.from), args.J * args.K * step, args.K * step, step);
      ahead.from += args.I * args.J * args.K * step;
      ahead.elements -= args.I * args.J * args.K * step;
      return;
    }
  }

  // From sums [O][KH][KW][C/groups].
  void swap_back(const Parallel& parallel, const A* sums) const {
    const int64_t per_output = o_.elements() / o_.g.O, chunk = 1024;
    for_each_item(parallel, ceil_div(per_output, chunk), [&](int64_t item, int64_t) {
      const Range part = Range{item * chunk, (item + 1) * chunk}.within({0, per_output});
      A* const to = o_.dw + part.begin * o_.g.O;
      o_.kernels.rearrange({sums + part.begin, 1, per_output, to, o_.g.O, part.size(), o_.g.O});
    });
  }

  const DenseGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
  const Gradient<S, A>& result_;
  const GradientStage<S, A> stage_;
};

}  // namespace nhwc_conv
