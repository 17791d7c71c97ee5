#include "dense.h"

#include "walk.h"
#include "window.h"

namespace nhwc_conv {

template <class T>
int64_t DenseConv<T>::pack_items() const {
  return plan_.pack_weights && !plan_.in_pieces ? g_.groups * plan_.columns.tiles * g_.h.kernel * g_.w.kernel : 0;
}

template <class T>
void DenseConv<T>::pack(int64_t item) const {
  const int64_t Cg = g_.C_per_group(), taps = g_.h.kernel * g_.w.kernel;
  const int64_t t = item % taps, tile = item / taps % plan_.columns.tiles, group = item / taps / plan_.columns.tiles;
  const T* from = tap(group, tile, t / g_.w.kernel, t % g_.w.kernel);
  if (plan_.dot) {
    const int64_t depth = taps * Cg;
    kernels_.copy({from, w_.o, w_.c, packed_ + group * g_.O_per_group() * depth + t * Cg, depth, g_.O_per_group(), Cg});
    return;
  }
  const int64_t width = plan_.columns.vectors_of(tile) * plan_.columns.lanes;
  const int64_t columns_before = group * plan_.columns.padded_columns() + plan_.columns.begin(tile);
  kernels_.copy({from, w_.c, w_.o, packed_ + taps * Cg * columns_before + t * Cg * width, width, Cg,
                 plan_.columns.end(tile) - plan_.columns.begin(tile)});
}

template <class T>
int64_t DenseConv<T>::items() const {
  if (plan_.in_pieces) return g_.groups * plan_.column_groups;
  if (plan_.source == Source::planes)
    return ceil_div(g_.groups, plan_.item_groups) * g_.N * ceil_div(g_.h.output, plan_.item_rows);
  return g_.groups * g_.N * ceil_div(g_.h.output, plan_.item_rows) * ceil_div(g_.w.output, plan_.item_columns) *
         plan_.column_groups;
}

template <class T>
void DenseConv<T>::run(int64_t item, T* scratch) const {
  if (plan_.source == Source::planes) {
    const int64_t shares = ceil_div(g_.groups, plan_.item_groups), blocks = ceil_div(g_.h.output, plan_.item_rows);
    run_planes(share_of(g_.groups, item % shares, shares), item / shares % g_.N,
               share_of(g_.h.output, item / shares / g_.N, blocks), scratch);
    return;
  }
  const int64_t share = item % plan_.column_groups;
  item /= plan_.column_groups;
  const Range tiles = share_of(plan_.columns.tiles, share, plan_.column_groups);
  if (plan_.in_pieces) {
    run_pieces(item, tiles, scratch);
    return;
  }
  const int64_t blocks_w = ceil_div(g_.w.output, plan_.item_columns), blocks_h = ceil_div(g_.h.output, plan_.item_rows);
  const int64_t regions = g_.N * blocks_h * blocks_w;
  const int64_t group = plan_.groups_together ? item % g_.groups : item / regions;
  const int64_t region = plan_.groups_together ? item / g_.groups : item % regions;
  const int64_t x_block = region % blocks_w, y_block = region / blocks_w % blocks_h, n = region / blocks_w / blocks_h;
  const Range ys = share_of(g_.h.output, y_block, blocks_h);
  const Range xs = {x_block * plan_.item_columns, clamp((x_block + 1) * plan_.item_columns, 0, g_.w.output)};
  if (plan_.source == Source::panel) {
    run_panel(group, n, ys, xs, tiles, scratch);
  } else if (plan_.source == Source::window) {
    const int64_t Cg = g_.C_per_group();
    const Window window = {g_.h.inputs(ys), g_.w.inputs(xs), {group * Cg, (group + 1) * Cg}};
    run_view(group, n, copy_window(kernels_, x_, n, window, scratch), ys, xs, tiles);
  } else {
    run_view(group, n, x_, ys, xs, tiles);
  }
}

template <class T>
typename DenseConv<T>::Column DenseConv<T>::column(int64_t group, int64_t n, int64_t tile) const {
  const ColumnTiles& tiles = plan_.columns;
  const int64_t Cg = g_.C_per_group(), width = tiles.vectors_of(tile) * tiles.lanes;
  const int64_t o = group * g_.O_per_group() + tiles.begin(tile);
  Column column;
  if (plan_.dot) {
    const DotFamily<T>& family = kernels_.dot[tiles.columns - 1];
    column.kernels = family.rows;
    column.packing_kernels = nullptr;
    column.max_rows = family.max_rows;
    column.b_k = 1;
    column.b_j = Cg;
    column.b_i = g_.w.kernel * Cg;
    column.b_n = g_.h.kernel * column.b_i;
    column.b = packed_ + group * tiles.columns * column.b_n;
  } else {
    const TileFamily<T>& family = family_of(kernels_, tiles.lanes, tiles.vectors_of(tile));
    column.kernels = family.rows;
    column.packing_kernels = family.packing_rows;
    column.max_rows = family.max_rows;
    column.b_n = 1;
    if (plan_.pack_weights) {
      column.b = packed_ + g_.h.kernel * g_.w.kernel * Cg * (group * tiles.padded_columns() + tiles.begin(tile));
      column.b_k = width;
      column.b_j = Cg * width;
      column.b_i = g_.w.kernel * Cg * width;
    } else {
      column.b = tap(group, tile, 0, 0);
      column.b_k = w_.c;
      column.b_j = w_.j;
      column.b_i = w_.i;
    }
  }
  column.columns = tiles.end(tile) - tiles.begin(tile);
  column.bias = bias_ == nullptr ? nullptr : bias_ + o;
  column.y = y_.data + n * y_.n + o;
  return column;
}

template <class T>
typename DenseConv<T>::Block DenseConv<T>::block(int64_t index) const {
  const int64_t inner = inner_depth(plan_.algorithm, g_);
  const int64_t row_block = index / plan_.inner_blocks, inner_block = index % plan_.inner_blocks;
  return {share_of(g_.h.kernel, row_block, plan_.row_blocks), share_of(inner, inner_block, plan_.inner_blocks),
          index == 0};
}

template <class T>
ImageView<const T> DenseConv<T>::of_group(const ImageView<const T>& x, int64_t group, int64_t n) const {
  ImageView<const T> image = of_image(x, n);
  image.data += group * g_.C_per_group() * x.c;
  return image;
}

template <class T>
void DenseConv<T>::run_view(int64_t group, int64_t n, const ImageView<const T>& x, Range ys, Range xs,
                            Range tiles) const {
  const ImageView<const T> image = of_group(x, group, n);
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const Column target = column(group, n, tile);
    for (int64_t b = 0; b < plan_.row_blocks * plan_.inner_blocks; ++b) run_block(target, block(b), image, ys, xs);
  }
}

template <class T>
void DenseConv<T>::run_block(const Column& column, const Block& block, const ImageView<const T>& x, Range ys,
                             Range xs) const {
  TileArgs<T> args = product(column, block);
  const auto run = [&](Range rows, Range columns, Range taps_h, Range taps_w) {
    emit(args, column, block, x, rows, columns, taps_h, taps_w);
  };
  walk(g_, ys, xs, run, [&](int64_t x0, Range taps_w) {
    // The dot form has no chain to go on with.
    if (plan_.dot) {
      walk_columns(g_, ys, {x0, x0 + 1}, taps_w, run);
    } else {
      emit_column(args, column, block, x, ys, x0, taps_w);
    }
  });
}

template <class T>
typename DenseConv<T>::Terms DenseConv<T>::terms(const Block& block, Range taps_h, Range taps_w) const {
  const Range rows = block.rows.within(taps_h);
  if (plan_.algorithm != Algorithm::im2col) return {rows, taps_w, block.inner};
  const int64_t Cg = g_.C_per_group();
  return {rows, {0, 1}, block.inner.within({taps_w.begin * Cg, taps_w.end * Cg})};
}

// What every product of a column tile with a block has in common.
template <class T>
TileArgs<T> DenseConv<T>::product(const Column& column, const Block& block) {
  TileArgs<T> args = {};
  args.a_k = 1;
  args.b_n = column.b_n;
  args.b_i = column.b_i;
  args.b_j = column.b_j;
  args.b_k = column.b_k;
  args.columns = column.columns;
  args.bias = block.first ? column.bias : kNothing<T>.values;
  args.mode = block.first ? Mode::fresh : Mode::add;
  return args;
}

// Makes args the products of `left` with the receptive field of output (y, x0) and those that follow it.
template <class T>
void DenseConv<T>::aim(TileArgs<T>& args, const Column& column, const Terms& left, const ImageView<const T>& x,
                       int64_t y, int64_t x0, bool down) const {
  const Range rows = left.rows, taps = left.taps, inner = left.inner;
  const bool nothing = left.none();
  args.I = nothing ? 0 : rows.size();
  args.J = taps.size();
  args.K = inner.size();
  args.a_i = g_.h.dilation * x.h;
  args.a_j = g_.w.dilation * x.w;
  args.a_m = down ? g_.h.stride * x.h : g_.w.stride * x.w;
  args.a = x.data;
  if (!nothing) {
    args.a += (y * g_.h.stride - g_.h.pad + rows.begin * g_.h.dilation) * x.h +
              (x0 * g_.w.stride - g_.w.pad + taps.begin * g_.w.dilation) * x.w + inner.begin;
  }
  args.b = column.b + rows.begin * column.b_i + taps.begin * column.b_j + inner.begin * column.b_k;
}

// Tiles over outputs that all have the same taps, along their rows, or down their only column. `args` are those of
// product(), or of an earlier call.
template <class T>
void DenseConv<T>::emit(TileArgs<T>& args, const Column& column, const Block& block, const ImageView<const T>& x,
                        Range ys, Range xs, Range taps_h, Range taps_w) const {
  const Terms left = terms(block, taps_h, taps_w);
  if (left.none() && !block.first) return;
  const bool down = xs.size() == 1;
  const int64_t count = down ? ys.size() : xs.size();
  args.c_m = down ? y_.h : y_.w;
  aim(args, column, left, x, ys.begin, xs.begin, down);
  const int64_t most = min(column.max_rows, rows_together<T>(args.a_m));
  const T* a = args.a;
  T* c = column.y + ys.begin * y_.h + xs.begin * y_.w;
  for (int64_t row = 0; row < (down ? 1 : ys.size()); ++row, a += g_.h.stride * x.h, c += y_.h) {
    args.a = a;
    args.c = c;
    in_pieces(count, most, [&](int64_t, int64_t m) {
      if (plan_.prefetch) {
        args.ahead = args.a + m * args.a_m;
        args.ahead_i = args.a_i;
        args.ahead_j = args.a_j;
        args.ahead_k = ceil_div(m * args.a_m, max(args.K, 1));
      }
      column.kernels[m - 1](args);
      args.a += m * args.a_m;
      args.c += m * args.c_m;
    });
  }
}

// Outputs below each other. Where some of their kernel rows do not exist, each kernel row is multiplied with all
// outputs that have it, and goes on where the row before ended: one chain for each output, as in emit(), but tall
// tiles.
template <class T>
void DenseConv<T>::emit_column(TileArgs<T>& args, const Column& column, const Block& block, const ImageView<const T>& x,
                               Range ys, int64_t x0, Range taps_w) const {
  const Range all_rows = {0, g_.h.kernel}, upright = g_.h.interior().within(ys);
  in_pieces(ys.size(), column.max_rows, [&](int64_t offset, int64_t m) {
    const Range piece = {ys.begin + offset, ys.begin + offset + m};
    if (piece.within(upright).size() == m) {
      emit(args, column, block, x, piece, {x0, x0 + 1}, all_rows, taps_w);
      return;
    }
    const auto having = [&](int64_t i) { return g_.h.outputs(i).within(piece); };
    T* const y = column.y + piece.begin * y_.h + x0 * y_.w;
    // Sums of a later block are complete before they are added to y.
    T apart[kMaxTileRows * kMaxTileColumns];
    T* const sums = block.first ? y : apart;
    TileArgs<T> part = product(column, block);
    part.mode = Mode::fresh;
    part.c = sums;
    part.c_m = block.first ? y_.h : column.columns;
    column.kernels[m - 1](part);
    part.mode = Mode::go_on;
    for (int64_t i = block.rows.begin, end; i < block.rows.end; i = end) {
      const Range active = having(i);
      for (end = i + 1; end < block.rows.end && having(end) == active;) ++end;
      const Terms left = terms({{i, end}, block.inner, block.first}, all_rows, taps_w);
      if (active.empty() || left.none()) continue;
      aim(part, column, left, x, active.begin, x0, true);
      part.c = sums + (active.begin - piece.begin) * part.c_m;
      column.kernels[active.size() - 1](part);
    }
    if (block.first) return;
    for (int64_t row = 0; row < m; ++row) kernels_.add(y + row * y_.h, apart + row * part.c_m, column.columns);
  });
}

template class DenseConv<float>;
template class DenseConv<double>;

}  // namespace nhwc_conv
