// The dense runner for inputs that are read where they lie, or from staged pixels: tiles of outputs by columns, whose
// rows of A are runs of the NHWC tensor.
#pragma once

#include "regions.h"

namespace nhwc_conv {

struct ViewPlan : RegionPlan {
  bool staged;
  // Tiles ask for the pixels of the next one; of the dot form, of one further on.
  bool prefetch;
  // Tiles make results of their sums; else they make sums where the result is finished from.
  bool finishes;
};

template <class S, class A> class ViewRunner {
 public:
  ViewRunner(const ViewPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o), product_(plan, o) {}

  int64_t pack_items() const { return product_.pack_items(); }
  void pack(int64_t item) const { product_.weights.pack(item); }
  int64_t items() const { return region_items(plan_, o_.g); }

  void run(int64_t item, Sum<A>* scratch) const {
    const ConvGeometry& g = o_.g;
    const RegionItem at = region_item(plan_, g, item);
    const int64_t Cg = g.C_per_group();
    const Region inputs = {g.h.inputs(at.ys), g.w.inputs(at.xs), {at.groups.begin * Cg, at.groups.end * Cg}};
    const int64_t apart = spread<A>(inputs.pixels() * Cg);
    A* const staged = elements_in<A>(scratch);
    if (plan_.staged) stage_groups(o_.kernels, o_.x, at.n, inputs, at.groups.size(), staged, apart);
    Sum<A>* const room = scratch + (plan_.staged ? at.groups.size() * apart : 0);
    for (int64_t group = at.groups.begin; group < at.groups.end; ++group) {
      const Region own = {inputs.ys, inputs.xs, channels_of(group, Cg)};
      const ImageView<const A> image = plan_.staged ? staged_pixels<A>(own, staged + (group - at.groups.begin) * apart)
                                                    : of_image(in_place<A>(o_.x), at.n);
      run_group(at, group, from_group(image, g, group), room);
    }
  }

 private:
  struct ItemColumn : Column<A> {
    ImageView<S> result;  // of an image, from the tile's first channel on
    Region outputs;       // of the item
    // The weights of the next tile, which the tiles of this one ask for, bit by bit: a network's do not stay in the
    // caches from one call to the next. Else they ask for pixels.
    const A* next = nullptr;
    int64_t next_elements = 0;
  };

  // The first tile of an item asks for pixels, if these are new.
  bool asks_for_weights(const RegionItem& at, int64_t tile) const {
    return plan_.pack_weights && !plan_.form.dot && tile + 1 < at.tiles.end &&
           !(plan_.prefetch && tile == at.tiles.begin);
  }

  void run_group(const RegionItem& at, int64_t group, const ImageView<const A>& x, Sum<A>* room) const {
    const ConvGeometry& g = o_.g;
    for (int64_t tile = at.tiles.begin; tile < at.tiles.end; ++tile) {
      const Region outputs = {at.ys, at.xs, outputs_of(g, group, plan_.form.columns.of({tile, tile + 1}))};
      const ImageView<Sum<A>> sums = plan_.finishes ? ImageView<Sum<A>>{} : o_.result.sums(at.n, outputs, room);
      ItemColumn column = {product_.column(group, tile, sums), of_image(o_.result.y, at.n), {at.ys, at.xs, {}}};
      if (plan_.finishes) o_.result.finish_in_tiles(column.args);
      if (asks_for_weights(at, tile)) {
        column.next = product_.weights.panel(group, tile + 1);
        column.next_elements = g.depth() * plan_.form.columns.padded(tile + 1);
      }
      column.result.data += outputs.channels.begin * column.result.c;
      for (int64_t b = 0; b < plan_.blocks(); ++b) run_block(column, product_.block(b), x, at.ys, at.xs);
      if (!plan_.finishes && !o_.result.holds_sums()) o_.result.finish(o_.kernels, at.n, outputs, sums);
    }
    // Sums that stand in the result are finished over all tiles: rows of one tile are short, and a residual's would
    // come from memory in as short pieces.
    if (!plan_.finishes && o_.result.holds_sums()) {
      const Region outputs = {at.ys, at.xs, outputs_of(g, group, plan_.form.columns.of(at.tiles))};
      o_.result.finish(o_.kernels, at.n, outputs, o_.result.sums(at.n, outputs, room));
    }
  }

  // Asks for the part of the next weights that `m` outputs a tile bring, from output (y, x) on.
  void ask_for_weights(TileArgs<A>& args, const ItemColumn& column, int64_t y, int64_t x, int64_t m) const {
    const Region& all = column.outputs;
    const int64_t before = (y - all.ys.begin) * all.xs.size() + x - all.xs.begin, count = column.next_elements;
    const int64_t terms = max(args.I * args.J * args.K, 1);
    const int64_t step = ceil_div(max(args.a_t, count * m / all.pixels()), terms);
    args.set_ahead(column.next + count * before / all.pixels(), args.J * args.K * step, args.K * step, step);
  }

  // From here on, x is an image from the group's first channel on.
  void run_block(const ItemColumn& column, const Block& block, const ImageView<const A>& x, Range ys, Range xs) const {
    TileArgs<A> args = product_.args(column, block);
    const auto run = [&](Range some_ys, Range some_xs, Range taps_h, Range taps_w) {
      run_rectangle(args, column, block, x, some_ys, some_xs, taps_h, taps_w);
    };
    walk(o_.g, ys, xs, run, [&](Range border) {
      // The dot form has no chain to go on with, and no other call may end within a step.
      if (plan_.form.dot || (plan_.im2col() && o_.kernels.reduction_step > 1)) {
        walk_in_rectangles(o_.g, ys, border, run);
      } else if (ys.size() < min(border.size(), column.max_rows)) {
        run_along(run, column, block, x, ys, border);
      } else {
        for (int64_t x0 = border.begin; x0 < border.end; ++x0) {
          run_upright(args, column, block, x, ys, x0, o_.g.w.taps(x0));
        }
      }
    });
  }

  // Tiles over outputs that all have the same taps, along their rows, or down, where they are one pixel wide. `args`
  // are those of DenseProduct::args, or of an earlier call.
  void run_rectangle(TileArgs<A>& args, const ItemColumn& column, const Block& block, const ImageView<const A>& x,
                     Range ys, Range xs, Range taps_h, Range taps_w) const {
    const Terms left = product_.terms(block, taps_h, taps_w);
    if (left.none() && !block.first) return;
    const bool down = xs.size() == 1;
    const int64_t count = down ? ys.size() : xs.size(), lines = down ? 1 : ys.size();
    product_.aim(args, column, left, x, ys.begin, xs.begin, down);
    args.asks_ahead = plan_.prefetch;
    const auto run_to = [&](const auto& to, const TileFn<A>* kernels) {
      args.c_m = down ? to.h : to.w;
      const int64_t most = min(column.most_rows(count), rows_together<A>(args.a_m));
      const A* a = args.a;
      auto* c = to.data + ys.begin * to.h + xs.begin * to.w;
      for (int64_t line = 0; line < lines; ++line, a += o_.g.h.stride * x.h, c += to.h) {
        in_equal_tiles(count, most, [&](int64_t offset, int64_t m, int64_t tiles) {
          args.set_tiles(tiles, m * args.a_m, m * args.c_m);
          args.a = a + offset * args.a_m;
          args.c = reinterpret_cast<Sum<A>*>(c + offset * args.c_m);
          if (column.next != nullptr) {
            ask_for_weights(args, column, ys.begin + (down ? offset : line), xs.begin + (down ? 0 : offset), m);
          } else if (plan_.prefetch) {
            args.set_ahead(args.a + args.a_t, args.a_i, args.a_j, ceil_div(args.a_t, max(args.K, 1)));
          }
          kernels[m - 1](args);
        });
      }
    };
    if (plan_.finishes) {
      run_to(column.result, std::is_same_v<S, Sum<A>> ? column.kernels : column.rounding_kernels);
    } else {
      run_to(column.sums, column.kernels);
    }
  }

  // Outputs below each other. Where some of their kernel rows do not exist, kernel row by kernel row.
  void run_upright(TileArgs<A>& args, const ItemColumn& column, const Block& block, const ImageView<const A>& x,
                   Range ys, int64_t x0, Range taps_w) const {
    const Range whole = o_.g.h.interior().within(ys);
    in_tiles(ys.size(), column.max_rows, [&](int64_t offset, int64_t m) {
      const Range rows = {ys.begin + offset, ys.begin + offset + m}, xs = {x0, x0 + 1};
      if (rows.within(whole).size() == m) {
        run_rectangle(args, column, block, x, rows, xs, {0, o_.g.h.kernel}, taps_w);
      } else {
        run_by_taps(column, block, x, rows, xs, taps_w);
      }
    });
  }

  // Outputs beside each other, of few rows. Where fewer than half a tile have the same kernel columns, kernel column by
  // kernel column.
  template <class Emit>
  void run_along(const Emit& run, const ItemColumn& column, const Block& block, const ImageView<const A>& x, Range ys,
                 Range xs) const {
    while (!xs.empty()) {
      const Range equal = with_equal_taps(o_.g.w, xs);
      const Range tile = {xs.begin, min(xs.begin + column.max_rows, xs.end)};
      if (2 * equal.size() >= tile.size()) {
        walk_columns(o_.g, ys, equal, o_.g.w.taps(equal.begin), run);
        xs.begin = equal.end;
        continue;
      }
      for (int64_t y = ys.begin; y < ys.end; ++y) {
        run_by_taps(column, block, x, {y, y + 1}, tile, o_.g.h.taps(y));
      }
      xs.begin = tile.end;
    }
  }

  // A tile of outputs below or beside each other, of which not all have the same kernel rows, or columns: each of these
  // is multiplied with all outputs that have it, and goes on where the one before ended: one chain for each output, as
  // in run_rectangle, but whole tiles. Outputs beside each other are two or more. `others`: the kernel columns, or
  // rows, that all of them have.
  void run_by_taps(const ItemColumn& column, const Block& block, const ImageView<const A>& x, Range ys, Range xs,
                   Range others) const {
    const bool down = xs.size() == 1;
    const Range outputs = down ? ys : xs;
    const ImageView<Sum<A>>& into = column.sums;
    Sum<A>* const to = into.data + ys.begin * into.h + xs.begin * into.w;
    const int64_t to_step = down ? into.h : into.w;
    // Those of a later block are complete before they are added, and those that are finished before they are.
    const bool are_apart = !block.first || plan_.finishes;
    Sum<A> apart[kMaxTileRows * kMaxTileColumns];
    Sum<A>* const sums = are_apart ? apart : to;
    TileArgs<A> args = product_.args(column, block);
    args.mode = Mode::fresh;
    args.clamps = false;
    args.c = sums;
    args.c_m = are_apart ? column.args.columns : to_step;
    column.kernels[outputs.size() - 1](args);
    args.mode = Mode::go_on;
    const auto go_on = [&](const Terms& left, Range active) {
      if (active.empty() || left.none()) return;
      product_.aim(args, column, left, x, down ? active.begin : ys.begin, down ? xs.begin : active.begin, down);
      args.c = sums + (active.begin - outputs.begin) * args.c_m;
      column.kernels[active.size() - 1](args);
    };
    if (down) {
      each_with_equal_outputs(o_.g.h, block.rows, outputs, [&](Range rows, Range active) {
        go_on(product_.terms({rows, block.inner, block.first}, {0, o_.g.h.kernel}, others), active);
      });
    } else {
      for (int64_t i = block.rows.begin; i < block.rows.end; ++i) {
        each_with_equal_outputs(o_.g.w, {0, o_.g.w.kernel}, outputs, [&](Range columns, Range active) {
          go_on(product_.terms({{i, i + 1}, block.inner, block.first}, others, columns), active);
        });
      }
    }
    if (plan_.finishes) {
      const ImageView<S>& y = column.result;
      S* const finished = y.data + ys.begin * y.h + xs.begin * y.w;
      const int64_t step = down ? y.h : y.w;
      o_.kernels.finish({apart, args.c_m, finished, step, 1, outputs.size(), column.args.columns, o_.result.steps});
      return;
    }
    if (block.first) return;
    for (int64_t row = 0; row < outputs.size(); ++row) {
      o_.kernels.add(to + row * to_step, apart + row * args.c_m, column.args.columns);
    }
  }

  const ViewPlan& plan_;
  const Operands<S, A>& o_;
  DenseProduct<S, A> product_;
};

}  // namespace nhwc_conv
