#include "weight_gradient.h"

#include "partial_sums.h"

namespace nhwc_conv {

template <class T>
int64_t WeightGradient<T>::tiles() const {
  return g_.groups * plan_.columns.tiles * g_.h.kernel * (plan_.merge_taps ? 1 : g_.w.kernel) * plan_.row_tiles;
}

template <class T>
typename WeightGradient<T>::Tile WeightGradient<T>::tile(int64_t index) const {
  const int64_t across = plan_.merge_taps ? 1 : g_.w.kernel;
  const int64_t run = plan_.swapped      ? g_.O_per_group()
                      : plan_.merge_taps ? g_.w.kernel * g_.C_per_group()
                                         : g_.C_per_group();
  const int64_t column = index % plan_.columns.tiles;
  index /= plan_.columns.tiles;
  const int64_t row = index % plan_.row_tiles;
  index /= plan_.row_tiles;
  const int64_t j = index % across;
  index /= across;
  return {index / g_.h.kernel, index % g_.h.kernel, j, column, share_of(run, row, plan_.row_tiles)};
}

template <class T>
void WeightGradient<T>::run(const Parallel& parallel, T* workspace) const {
  const int64_t blocks_h = ceil_div(g_.h.output, plan_.block_rows), blocks = g_.N * blocks_h;
  const int64_t elements = g_.h.kernel * g_.w.kernel * g_.C_per_group() * g_.O;
  T* total = plan_.swapped ? workspace : dw_;
  T* partials = plan_.swapped ? workspace + elements : workspace;
  // Each share of the tiles reads all of x and grad, so there are few; which tile is in which share shows in no bit.
  const int64_t shares = clamp(parallel.threads > 1 ? ceil_div(2 * parallel.threads, plan_.partials) : 1, 1, tiles());
  for_each_item(parallel, plan_.partials * shares, [&](int64_t item, int64_t) {
    const int64_t partial = item / shares, share = item % shares;
    T* dw = partial == 0 ? total : partials + (partial - 1) * elements;
    const Range mine = share_of(tiles(), share, shares);
    const Range pixels = share_of(blocks, partial, plan_.partials);
    for (int64_t block = pixels.begin; block < pixels.end; ++block) {
      const int64_t n = block / blocks_h, part = block % blocks_h;
      const Range ys = share_of(g_.h.output, part, blocks_h);
      for (int64_t t = mine.begin; t < mine.end; ++t) add_block(tile(t), dw, n, ys, block == pixels.begin);
    }
  });
  add_partial_sums(kernels_, parallel, total, partials, elements, plan_.partials);
  if (!plan_.swapped) return;
  const int64_t Cg = g_.C_per_group(), taps = g_.h.kernel * g_.w.kernel;
  for_each_item(parallel, taps, [&](int64_t tap, int64_t) {
    kernels_.copy({total + tap * Cg, 1, taps * Cg, dw_ + tap * Cg * g_.O, g_.O, Cg, g_.O});
  });
}

template <class T>
void WeightGradient<T>::add_block(const Tile& tile, T* dw, int64_t n, Range ys, bool first) const {
  const Range valid = g_.h.outputs(tile.i).within(ys);
  if (!plan_.merge_taps) {
    emit(tile, dw, n, valid, g_.w.outputs(tile.j), tile.j, tile.rows, !first);
    return;
  }
  const Range inside = g_.w.interior();
  emit(tile, dw, n, valid, inside, 0, tile.rows, !first);
  const int64_t Cg = g_.C_per_group();
  for (int64_t j = tile.rows.begin / Cg; j * Cg < tile.rows.end; ++j) {
    const Range outputs = g_.w.outputs(j);
    const Range rows = tile.rows.within({j * Cg, (j + 1) * Cg});
    const Range left = {outputs.begin, clamp(inside.begin, outputs.begin, outputs.end)};
    const Range right = {clamp(inside.end, left.end, outputs.end), outputs.end};
    if (!left.empty()) emit(tile, dw, n, valid, left, 0, rows, true);
    if (!right.empty()) emit(tile, dw, n, valid, right, 0, rows, true);
  }
}

template <class T>
void WeightGradient<T>::emit(const Tile& tile, T* dw, int64_t n, Range ys, Range xs, int64_t j, Range rows,
                             bool accumulate) const {
  const bool nothing = ys.empty() || xs.empty();
  if (nothing && accumulate) return;
  const int64_t Cg = g_.C_per_group();
  const ColumnTiles& columns = plan_.columns;
  const TileFamily<T>& family = family_of(kernels_, columns.lanes, columns.vectors_of(tile.column));
  // First channels of this tile: in x, and of the output.
  const int64_t c = tile.group * Cg + (plan_.swapped ? columns.begin(tile.column) : rows.begin);
  const int64_t o = tile.group * g_.O_per_group() + (plan_.swapped ? rows.begin : columns.begin(tile.column));
  const T* x = x_.data;
  const T* grad = grad_.data;
  if (!nothing) {
    x += n * x_.n + (ys.begin * g_.h.stride - g_.h.pad + tile.i * g_.h.dilation) * x_.h +
         (xs.begin * g_.w.stride - g_.w.pad + j * g_.w.dilation) * x_.w + c;
    grad += n * grad_.n + ys.begin * grad_.h + xs.begin * grad_.w + o;
  }
  const int64_t x_row = g_.h.stride * x_.h, x_pixel = g_.w.stride * x_.w;
  TileArgs<T> args = {};
  args.I = nothing ? 0 : ys.size();
  args.J = 1;
  args.K = xs.size();
  args.a_m = 1;
  if (plan_.swapped) {
    args.a = grad;
    args.a_i = grad_.h;
    args.a_k = grad_.w;
    args.b = x;
    args.b_i = x_row;
    args.b_k = x_pixel;
    args.c_m = g_.h.kernel * g_.w.kernel * Cg;
    args.c = dw + o * args.c_m + (tile.i * g_.w.kernel + j) * Cg + columns.begin(tile.column);
  } else {
    args.a = x;
    args.a_i = x_row;
    args.a_k = x_pixel;
    args.b = grad;
    args.b_i = grad_.h;
    args.b_k = grad_.w;
    args.c_m = g_.O;
    args.c = dw + ((tile.i * g_.w.kernel + j) * Cg + rows.begin) * g_.O + o;
  }
  args.columns = columns.end(tile.column) - columns.begin(tile.column);
  args.accumulate = accumulate;
  family.columns_of_a[rows.size() - 1](args);
}

template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace nhwc_conv
