// The dense convolution where weights outgrow the second-level cache and meet few pixels: to pack them all, to memory
// and back, costs as much as the products. Here an item packs a piece of them, multiplies it with all outputs that have
// its tap, while the next piece comes from memory, and forgets it.
#include "dense.h"
#include "walk.h"
#include "window.h"

namespace nhwc_conv {

// The pieces of a block of the reduction, in the order of the sum. Taps of a row that the same outputs have are one run
// for im2col, and short rows that the same outputs have share a piece.
template <class T>
template <class Visit>
void DenseConv<T>::each_piece(const Block& block, const Visit& visit) const {
  const int64_t Cg = g_.C_per_group();
  const bool im2col = plan_.algorithm == Algorithm::im2col;
  const Range all = im2col ? block.inner : Range{0, g_.w.kernel * Cg};
  Piece piece = {};
  piece.first_block = block.first;
  piece.opens = true;
  for (int64_t i = block.rows.begin, next = i; i < block.rows.end; i = next) {
    next = i + 1;
    for (int64_t begin = all.begin, end; begin < all.end; begin = end) {
      const int64_t j = begin / Cg;
      for (end = (j + 1) * Cg; im2col && end < all.end && g_.w.outputs(end / Cg) == g_.w.outputs(j);) end += Cg;
      end = min(end, all.end);
      const Range run = im2col ? Range{begin, end} : block.inner;
      if (im2col && run == all) {
        while (next < block.rows.end && g_.h.outputs(next) == g_.h.outputs(i) &&
               (next + 1 - i) * run.size() <= plan_.piece_depth)
          ++next;
      }
      const int64_t pieces = ceil_div(run.size(), plan_.piece_depth);
      for (int64_t p = 0; p < pieces; ++p) {
        const Range share = share_of(run.size(), p, pieces);
        piece.rows = {i, next};
        piece.j = j;
        piece.inner = {run.begin + share.begin, run.begin + share.end};
        piece.closes = next == block.rows.end && end == all.end && p + 1 == pieces;
        visit(piece);
        piece.opens = false;
      }
    }
  }
}

// Calls visit(from, depth) for parts of a piece's weights that are one matrix in memory.
template <class T>
template <class Visit>
void DenseConv<T>::each_part(int64_t group, const Piece& piece, const Visit& visit) const {
  const int64_t Cg = g_.C_per_group();
  for (int64_t i = piece.rows.begin; i < piece.rows.end; ++i) {
    for (int64_t at = piece.inner.begin, end; at < piece.inner.end; at = end) {
      end = min((at / Cg + 1) * Cg, piece.inner.end);
      visit(tap(group, piece.tile, i, first_tap(piece) + at / Cg) + at % Cg * w_.c, end - at);
    }
  }
}

// Where a piece stands among weights that are packed already.
template <class T>
const T* DenseConv<T>::prepacked(const Column& column, const Piece& piece) const {
  return column.b + piece.rows.begin * column.b_i + first_tap(piece) * column.b_j + piece.inner.begin * column.b_k;
}

template <class T>
int64_t DenseConv<T>::first_tap(const Piece& piece) const {
  return plan_.algorithm == Algorithm::im2col ? 0 : piece.j;
}

// What tiles ask for: of packed weights one line after the other, else each tile for one line of every row of weights,
// or for some of every column where these lie along the reduction. `depth` is the reduction of the tiles that ask.
template <class T>
typename DenseConv<T>::Coming DenseConv<T>::coming(int64_t group, const Piece& piece, int64_t depth) const {
  constexpr int64_t line = kLineBytes / sizeof(T);
  const Column target = column(group, 0, piece.tile);
  if (plan_.prepacked) return {prepacked(target, piece), 1, 0, line, depth * line, ceil_div(target.b_k, line)};
  Coming first;
  each_part(group, piece, [&](const T* from, int64_t part) {
    if (first.from != nullptr) return;
    if (w_.o == 1) {
      first = {from, 1, 0, w_.c, line, ceil_div(target.columns, line)};
    } else if (w_.c == 1) {
      const int64_t lines = depth % target.columns == 0 ? depth / target.columns : 1;
      first = {from, lines, line, w_.o, lines * line, ceil_div(part, lines * line)};
    }
  });
  return first;
}

// Where pieces follow each other in memory, all columns of some rows before the next rows: the tiles of each column ask
// for their share of the rows behind this piece, whole.
template <class T>
typename DenseConv<T>::Coming DenseConv<T>::rows_ahead(int64_t group, const Piece& piece, Range tiles) const {
  constexpr int64_t line = kLineBytes / sizeof(T);
  const ColumnTiles& columns = plan_.columns;
  const int64_t depth = piece.inner.size(), first_column = columns.begin(tiles.begin);
  const int64_t wide = columns.end(tiles.end - 1) - first_column, rows = depth / (wide / line);
  const int64_t before = columns.begin(piece.tile) - first_column,
                mine = columns.end(piece.tile) - columns.begin(piece.tile);
  const T* from = tap(group, tiles.begin, piece.rows.begin, first_tap(piece));
  from += (piece.inner.begin + depth + depth * before / wide) * w_.c;
  return {from, rows, w_.c, line, rows * w_.c, ceil_div(mine, line)};
}

template <class T>
void DenseConv<T>::run_pieces(int64_t group, Range tiles, T* scratch) const {
  const ColumnTiles& columns = plan_.columns;
  const int64_t Cg = g_.C_per_group(), elements = g_.h.input * g_.w.input * Cg, pixels = g_.h.output * g_.w.output;
  const Window whole = {{0, g_.h.input}, {0, g_.w.input}, {group * Cg, (group + 1) * Cg}};
  T* windows = scratch;
  if (plan_.source == Source::window) {
    for (int64_t n = 0; n < g_.N; ++n) copy_window(kernels_, x_, n, whole, windows + n * elements);
    scratch += g_.N * elements;
  }
  T* const packed = scratch;
  T* const sums = scratch + (plan_.prepacked ? 0 : plan_.piece_depth * columns.vectors * columns.lanes);
  // In the order of memory, if the sums of all columns stay in the second-level cache meanwhile.
  const int64_t line = kLineBytes / sizeof(T), wide = columns.end(tiles.end - 1) - columns.begin(tiles.begin);
  const bool by_rows =
      !plan_.prepacked && w_.o == 1 && g_.N * pixels * wide * static_cast<int64_t>(sizeof(T)) <= kPieceRowsBytes;
  // Rows of weights, all as far apart: the first tile packs them while it multiplies. Else they are copied before.
  const bool by_tiles = w_.o == 1 && (g_.w.kernel == 1 || w_.j == Cg * w_.c);
  Piece held = {};
  bool any = false;
  const auto multiply_held = [&](const Piece* next) {
    if (!any) return;
    const int64_t depth = held.inner.size();
    const bool whole_lines = wide % line == 0 && held.rows.size() == 1 && depth % (wide / line) == 0;
    Coming ahead = by_rows && whole_lines ? rows_ahead(group, held, tiles)
                   : next                 ? coming(group, *next, depth)
                                          : Coming{};
    for (int64_t n = 0; n < g_.N; ++n) {
      const ImageView<const T> x =
          plan_.source == Source::window ? window_view<T>(whole, windows + n * elements) : of_image(x_, n);
      Column target = column(group, n, held.tile);
      Unpacked unpacked = {nullptr, packed};
      if (plan_.prepacked) {
        target.b = prepacked(target, held);
      } else {
        target.b = packed;
        target.b_i = held.inner.size() * target.b_k;
        if (by_tiles && n == 0) {
          unpacked.b = tap(group, held.tile, held.rows.begin, first_tap(held)) + held.inner.begin * w_.c;
        }
      }
      const int64_t before = g_.N * (columns.begin(held.tile) - columns.begin(tiles.begin)) + n * target.columns;
      multiply(target, held, of_group(x, group, 0), unpacked, sums + pixels * before, ahead);
    }
  };
  const auto take = [&](Piece piece, int64_t tile) {
    piece.tile = tile;
    multiply_held(&piece);
    T* to = packed;
    if (!plan_.prepacked && !by_tiles) {
      const int64_t width = columns.vectors_of(tile) * columns.lanes;
      each_part(group, piece, [&](const T* from, int64_t depth) {
        kernels_.copy({from, w_.c, w_.o, to, width, depth, columns.end(tile) - columns.begin(tile)});
        to += depth * width;
      });
    }
    held = piece;
    any = true;
  };
  const int64_t blocks = plan_.row_blocks * plan_.inner_blocks;
  for (int64_t tile = tiles.begin; tile < (by_rows ? tiles.begin + 1 : tiles.end); ++tile) {
    for (int64_t b = 0; b < blocks; ++b) {
      each_piece(block(b), [&](const Piece& piece) {
        for (int64_t t = tile; t < (by_rows ? tiles.end : tile + 1); ++t) take(piece, t);
      });
    }
  }
  multiply_held(nullptr);
}

// Adds the products of a piece with all outputs of an image that have its tap. Those of the first block go on in y;
// sums of a later one stand apart until it closes.
template <class T>
void DenseConv<T>::multiply(const Column& column, const Piece& piece, const ImageView<const T>& x, Unpacked unpacked,
                            T* apart, Coming& ahead) const {
  const int64_t OH = g_.h.output, OW = g_.w.output, depth = piece.inner.size();
  T* const sums = piece.first_block ? column.y : apart;
  const int64_t sums_h = piece.first_block ? y_.h : OW * column.columns;
  TileArgs<T> args = {};
  args.c_m = piece.first_block ? y_.w : column.columns;
  args.columns = column.columns;
  const Range xs = g_.w.outputs(piece.j), ys = xs.empty() ? Range{0, 0} : g_.h.outputs(piece.rows.begin);
  if (piece.opens) args.bias = piece.first_block ? column.bias : kNothing<T>.values;
  args.mode = piece.opens ? Mode::fresh : Mode::go_on;
  if (piece.opens && ys.size() * xs.size() < OH * OW) {
    // Some outputs have no such tap: all sums begin before its products.
    for (int64_t y = 0; y < OH; ++y) {
      in_pieces(OW, column.max_rows, [&](int64_t offset, int64_t m) {
        args.c = sums + y * sums_h + offset * args.c_m;
        column.kernels[m - 1](args);
      });
    }
    args.mode = Mode::go_on;
  }
  args.a_m = g_.w.stride * x.w;
  args.b = column.b;
  args.b_k = column.b_k;
  args.I = piece.rows.size();
  args.J = ahead.lines;
  args.K = depth / ahead.lines;
  args.a_i = g_.h.dilation * x.h;
  args.a_j = args.K;
  args.b_j = args.K * args.b_k;
  args.b_i = column.b_i;
  args.ahead_j = ahead.step_j;
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    const T* a = x.data + (y * g_.h.stride - g_.h.pad + piece.rows.begin * g_.h.dilation) * x.h +
                 (xs.begin * g_.w.stride - g_.w.pad + first_tap(piece) * g_.w.dilation) * x.w + piece.inner.begin;
    in_pieces(xs.size(), column.max_rows, [&](int64_t offset, int64_t m) {
      args.a = a + offset * args.a_m;
      args.c = sums + y * sums_h + (xs.begin + offset) * args.c_m;
      args.ahead = nullptr;
      args.ahead_k = 0;
      if (ahead.tiles > 0) {
        args.ahead = ahead.from;
        args.ahead_k = ahead.step;
        args.ahead_i = depth * ahead.step;
        ahead.from += ahead.next;
        --ahead.tiles;
      }
      if (unpacked.b != nullptr) {
        TileArgs<T> first = args;
        first.b = unpacked.b;
        first.b_i = w_.i;
        first.b_j = args.K * w_.c;
        first.b_k = w_.c;
        first.packed = unpacked.packed;
        column.packing_kernels[m - 1](first);
        unpacked.b = nullptr;
        return;
      }
      column.kernels[m - 1](args);
    });
  }
  if (piece.first_block || !piece.closes) return;
  for (int64_t y = 0; y < OH; ++y) {
    for (int64_t ox = 0; ox < OW; ++ox)
      kernels_.add(column.y + y * y_.h + ox * y_.w, apart + y * sums_h + ox * args.c_m, column.columns);
  }
}

#define NHWC_INSTANTIATE(T) template void DenseConv<T>::run_pieces(int64_t, Range, T*) const;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
