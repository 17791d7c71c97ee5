// What the runners of dense convolutions share: weights in tiles of columns, blocks of the reduction, and the arguments
// of the tile kernels. im2col multiplies one run of KW*C values for each kernel row, matmul KH*KW separate runs of C.
#pragma once

#include "operands.h"
#include "stage.h"
#include "tiles.h"
#include "walk.h"

namespace nhwc_conv {

// What was packed ahead of the call: weights in the direct path's form, and behind them, where it pays, Winograd's.
struct Prepacked {
  DenseForm form;
  int64_t direct_elements, winograd_elements;
};

struct DensePlan : PlanMemory {
  const char *runner, *source;  // as explained
  Algorithm algorithm;          // im2col or matmul
  DenseForm form;
  int rows;              // of the widest tile, at most
  int64_t tile_columns;  // likewise
  bool pack_weights;     // into rows of one tile of columns; else they are read where they lie
  bool prepacked;        // weights are packed already
  bool transposed;       // weights are read where they lie, along the reduction, and tiles have one row
  // The reduction in blocks whose weights stay in the second-level cache: over kernel rows, then within one.
  int64_t row_blocks, inner_blocks;

  bool im2col() const { return algorithm == Algorithm::im2col; }
  int64_t blocks() const { return row_blocks * inner_blocks; }
  // Length of the innermost reduction: a kernel row's KW*C values for im2col, one tap's C for matmul.
  int64_t inner_depth(const ConvGeometry& g) const { return im2col() ? g.w.kernel * g.C_per_group() : g.C_per_group(); }

  Explanation explain(const ConvGeometry& g) const {
    Explanation plan = {runner, im2col() ? "im2col" : "matmul", source, pack_weights};
    plan.reduction = {g.h.kernel, im2col() ? 1 : g.w.kernel, inner_depth(g)};
    plan.tile = {rows, tile_columns};
    plan.reduction_blocks = {row_blocks, inner_blocks};
    return plan;
  }
};

// Whether all taps of an input and an output channel lie in a row, as those of OIHW weights do.
template <class A, class S> bool taps_are_neighbours(const WeightView<const S>& w, const ConvGeometry& g) {
  return !kIsPair<A> && g.taps() > 1 && (w.j == 1 || w.j == -1) && w.i == g.w.kernel * w.j;
}

// All taps of some channels and columns, of which the first begins at `from`: to[tap*to_tap + c*to_c + o].
template <class S, class A>
void copy_neighbouring_taps(const Kernels<S, A>& kernels, const ConvGeometry& g, const WeightView<const S>& w,
                            const S* from, int64_t channels, int64_t columns, A* to, int64_t to_tap, int64_t to_c) {
  // In memory they may go backwards: an input gradient's do.
  const int64_t last = g.taps() - 1;
  if (w.j < 0) from += last * w.j, to += last * to_tap, to_tap = -to_tap;
  kernels.copy_taps({from, w.c, w.o, to, to_tap, to_c, g.taps(), channels, columns});
}

// Weights in tiles of columns: where they lie, and the panels into which they are packed.
template <class S, class A> class DenseWeights {
 public:
  DenseWeights(const Kernels<S, A>& kernels, const ConvGeometry& g, const DenseForm& form, const WeightView<const S>& w,
               A* packed)
      : kernels_(kernels), g_(g), form_(form), w_(w), packed_(packed) {}

  // Tap (i, j) for a tile of columns, where it lies.
  const S* tap(int64_t group, int64_t tile, int64_t i, int64_t j) const {
    return w_.data + group * w_.group + form_.columns.begin(tile) * w_.o + i * w_.i + j * w_.j;
  }

  // The panel of a tile of columns: its taps one after the other, in each a row of columns for every channel; of the
  // dot form, the whole group.
  A* panel(int64_t group, int64_t tile) const {
    const ColumnTiles& columns = form_.columns;
    return packed_ + g_.depth() * (form_.dot ? group * columns.columns : columns.padded_before(group, tile));
  }

  int64_t pack_items() const { return g_.groups * form_.columns.tiles * g_.taps(); }

  void pack(int64_t item) const {
    const ColumnTiles& columns = form_.columns;
    const int64_t Cg = g_.C_per_group(), taps = g_.taps();
    const int64_t t = item % taps, tile = item / taps % columns.tiles, group = item / taps / columns.tiles;
    if (!form_.dot && taps_are_neighbours<A>(w_, g_)) {
      pack_taps(group, tile, share_of(Cg, t, taps), panel(group, tile));
      return;
    }
    const S* from = tap(group, tile, t / g_.w.kernel, t % g_.w.kernel);
    if (form_.dot) {
      kernels_.copy({from, w_.o, w_.c, panel(group, tile) + t * Cg, taps * Cg, columns.columns, Cg});
    } else {
      const int64_t width = columns.padded(tile);
      pack_channels(from, {0, Cg}, panel(group, tile) + t * Cg * width, tile);
    }
  }

  // Some channels of all taps, which are read together, into a panel.
  void pack_taps(int64_t group, int64_t tile, Range channels, A* panel) const {
    const int64_t width = form_.columns.padded(tile);
    copy_neighbouring_taps(kernels_, g_, w_, tap(group, tile, 0, 0) + channels.begin * w_.c, channels.size(),
                           form_.columns.size(tile), panel + channels.begin * width, g_.C_per_group() * width, width);
  }

  // Some channels of a tap, which begins at `from`, into rows of the tile's columns.
  void pack_channels(const S* from, Range channels, A* to, int64_t tile) const {
    const bool ends_in_one_value = w_.one_value && channels.end == g_.C_per_group();
    kernels_.pack({from + channels.begin * w_.c, w_.c, w_.o, to, form_.columns.padded(tile), channels.size(),
                   form_.columns.size(tile), ends_in_one_value});
  }

 private:
  const Kernels<S, A>& kernels_;
  const ConvGeometry& g_;
  const DenseForm& form_;
  WeightView<const S> w_;
  A* packed_;
};

// A tile of columns of one group: its kernels and, of their arguments, weights and bias; and where its sums are made.
template <class A> struct Column : TileHeights {
  const TileFn<A>* kernels;           // by rows
  const TileFn<A>* packing_kernels;   // likewise; the dot form has none,
  const TileFn<A>* rounding_kernels;  // nor of these
  TileArgs<A> args;
  ImageView<Sum<A>> sums;  // of an image, from the tile's first channel on
};

// A part of the reduction: kernel rows, and a range within one (over KW*C for im2col, over C for matmul).
struct Block {
  Range rows, inner;
  bool first;
};

// What is left of a block where only some taps exist; im2col counts `inner` over the taps of a row, which are then one.
struct Terms {
  Range rows, taps, inner;
  bool none() const { return rows.empty() || taps.empty() || inner.empty(); }
};

// What sums of a later block of the reduction start from. Added to sums where no tap falls into the block, it leaves
// even the sign of a zero, so that it does not matter whether it is added.
template <class A> struct Nothing {
  A values[kMaxTileColumns];
  constexpr Nothing() : values() {
    for (A& value : values) value = A(-0.0);
  }
};
template <class A> constexpr Nothing<A> kNothing;

template <class S, class A> class DenseProduct {
 public:
  DenseProduct(const DensePlan& plan, const Operands<S, A>& o)
      : weights(o.kernels, o.g, plan.form, o.w, o.packed), plan_(plan), o_(o) {}

  const DenseWeights<S, A> weights;
  int64_t pack_items() const { return plan_.pack_weights ? weights.pack_items() : 0; }

  // Its sums go to an image of all channels.
  Column<A> column(int64_t group, int64_t tile, const ImageView<Sum<A>>& sums) const {
    const ColumnTiles& tiles = plan_.form.columns;
    const ConvGeometry& g = o_.g;
    const int64_t o = group * g.O_per_group() + tiles.begin(tile);
    const bool dot = plan_.form.dot;
    Column<A> column = {};
    if (dot) {
      column.kernels = o_.kernels.dot[tiles.columns - 1].rows;
      column.max_rows = column.rows_of_many = o_.kernels.dot[tiles.columns - 1].max_rows;
    } else {
      const TileFamily<A>& family = family_of(o_.kernels, tiles, tile);
      column.kernels = family.rows;
      column.packing_kernels = family.packing_rows;
      column.rounding_kernels = family.rounding_rows;
      static_cast<TileHeights&>(column) = family;
      if (plan_.transposed) column.kernels = &family.transposed_row, column.max_rows = column.rows_of_many = 1;
    }
    const int64_t Cg = g.C_per_group(), k = dot ? 1 : tiles.padded(tile);
    if (plan_.pack_weights) {
      column.args.set_b(weights.panel(group, tile), g.w.kernel * Cg * k, Cg * k, k);
    } else {
      column.args.set_b(in_place<A>(weights.tap(group, tile, 0, 0)), o_.w.i, o_.w.j, o_.w.c);
    }
    column.args.b_n = dot ? g.depth() : plan_.transposed ? o_.w.o : 1;
    column.args.columns = tiles.size(tile);
    column.args.bias = o_.bias == nullptr ? nullptr : o_.bias + o;
    column.sums = sums;
    column.sums.data += o;
    return column;
  }

  Block block(int64_t index) const {
    const int64_t inner = plan_.inner_depth(o_.g);
    return {share_of(o_.g.h.kernel, index / plan_.inner_blocks, plan_.row_blocks),
            share_of(inner, index % plan_.inner_blocks, plan_.inner_blocks), index == 0};
  }

  Terms terms(const Block& block, Range taps_h, Range taps_w) const {
    const Range rows = block.rows.within(taps_h);
    if (!plan_.im2col()) return {rows, taps_w, block.inner};
    const int64_t Cg = o_.g.C_per_group();
    return {rows, {0, 1}, block.inner.within({taps_w.begin * Cg, taps_w.end * Cg})};
  }

  // What every product of a tile of columns with a block has in common.
  static TileArgs<A> args(const Column<A>& column, const Block& block) {
    TileArgs<A> args = column.args;
    args.mode = block.first ? Mode::fresh : Mode::add;
    if (!block.first) args.bias = kNothing<Sum<A>>.values;
    return args;
  }

  static const A* weights_of(const Column<A>& column, const Terms& left) {
    const TileArgs<A>& all = column.args;
    return all.b + left.rows.begin * all.b_i + left.taps.begin * all.b_j + left.inner.begin * all.b_k;
  }

  // Makes args the products of `left` with the receptive field of output (y, x0) and those that follow it, along its
  // row or down. x: an image from the group's first channel on.
  void aim(TileArgs<A>& args, const Column<A>& column, const Terms& left, const ImageView<const A>& x, int64_t y,
           int64_t x0, bool down) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const bool nothing = left.none();
    args.set_sums(nothing ? 0 : left.rows.size(), left.taps.size(), left.inner.size());
    args.set_a(x.data, down ? h.stride * x.h : w.stride * x.w, h.dilation * x.h, w.dilation * x.w, 1);
    if (!nothing) {
      args.a += h.input_of(y, left.rows.begin) * x.h + w.input_of(x0, left.taps.begin) * x.w + left.inner.begin;
    }
    args.b = weights_of(column, left);
  }

 private:
  const DensePlan& plan_;
  const Operands<S, A>& o_;
};

// Channels of a group, counted in the tensor.
inline Range channels_of(int64_t group, int64_t per_group) { return {group * per_group, (group + 1) * per_group}; }
inline Range outputs_of(const ConvGeometry& g, int64_t group, Range columns) {
  return {group * g.O_per_group() + columns.begin, group * g.O_per_group() + columns.end};
}

// An image from the group's first channel on.
template <class A> ImageView<const A> from_group(ImageView<const A> image, const ConvGeometry& g, int64_t group) {
  image.data += group * g.C_per_group() * image.c;
  return image;
}

}  // namespace nhwc_conv
