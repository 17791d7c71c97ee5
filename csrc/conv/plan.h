// Every choice, made once and kept in a struct; running a plan decides nothing.
#pragma once

#include <cstdint>

#include "../kernels/kernels.h"
#include "geometry.h"
#include "views.h"

namespace nhwc_conv {

constexpr int64_t kLineBytes = 64, kPageBytes = 4096;

// direct: im2col or matmul, whichever suits; automatic: that or Winograd.
enum class Algorithm { automatic, direct, im2col, matmul, winograd };
inline bool is_direct_by_name(Algorithm a) { return a == Algorithm::im2col || a == Algorithm::matmul; }

// How the input reaches the tile kernel: read where it lies; from a window, a copy of what one item reads, where
// channels are no neighbours in memory; as im2col rows copied into a panel of one tile, where dilation breaks its rows;
// or from planes of one channel each, where lanes run along the row.
enum class Source { view, window, panel, planes };

// Output channels of one group, cut into tiles of whole vectors. Only the last vector may be partial; then it stands
// back from the end and overlaps its neighbour in the same tile, so a tile that ends partial has two vectors or more.
struct ColumnTiles {
  int64_t columns;  // output channels
  int lanes;        // per vector
  int vectors;      // of the widest tile
  int64_t total;    // vectors in all
  int64_t tiles;

  int64_t first_vector(int64_t tile) const { return tile * total / tiles; }
  int64_t begin(int64_t tile) const { return first_vector(tile) * lanes; }
  int64_t end(int64_t tile) const { return tile + 1 == tiles ? columns : begin(tile + 1); }
  int64_t vectors_of(int64_t tile) const { return first_vector(tile + 1) - first_vector(tile); }
  int64_t padded_columns() const { return total * lanes; }
};

// The form of the tile kernels, and with it the layout of packed weights.
struct DenseForm {
  bool dot;  // too few columns for lanes over them: lanes run over the reduction, and weights are packed [O][KH][KW][C]
  ColumnTiles columns;
};

// What was packed ahead of the call: weights in the direct path's form, and behind them, where it pays, Winograd's.
struct Prepacked {
  DenseForm form;
  int64_t direct_elements, winograd_elements;
};

// A dense convolution: forward, or one phase of an input gradient.
struct DensePlan {
  Algorithm algorithm;
  Source source;
  bool dot;
  ColumnTiles columns;
  int rows;           // of the widest tile, at most
  bool pack_weights;  // into rows of one column tile; else they are read where they lie
  bool prepacked;     // weights are packed already
  // Weights that outgrow the second-level cache and meet few pixels: an item takes them a piece at a time, which it
  // packs into its own scratch, if they are not. Otherwise all weights are packed before the first item.
  bool in_pieces;
  int64_t piece_depth;  // products in a row of a piece
  // The reduction in blocks whose weights stay in the second-level cache: over kernel rows, then within one.
  int64_t row_blocks, inner_blocks;
  // One item: this many output rows and columns, and a share of the column tiles.
  int64_t item_rows, item_columns, column_groups;
  // All groups of a region before the next region, else all regions of a group before the next group.
  bool groups_together;
  // Tiles ask for the pixels of the next one.
  bool prefetch;
  int64_t packed_elements;   // shared by all threads
  int64_t scratch_elements;  // of each thread
  int64_t panel_stride;
  // With planes: the tiles of a row of outputs, from one row of a plane to the next, and groups of one item.
  ColumnTiles across;
  int64_t plane_width, item_groups;
};

// Of a second-level cache: what the sums of an item that takes pieces may take, and the rows of weights that its tiles
// ask for ahead.
constexpr int64_t kPieceRowsBytes = 512 * 1024;

// What a plan may know about memory beyond the geometry.
struct DenseLayout {
  bool channels_contiguous;  // of the input
  bool rows_contiguous;      // of the input: one kernel row of taps is one run of KW*C values
  bool weights_usable;       // where they lie: output channels contiguous and the three reduction axes as one
};

template <class T>
DenseLayout dense_layout(const ConvGeometry& g, const ImageView<const T>& x, const WeightView<const T>& w);

// The sets of a first-level cache, which has kCacheWays ways of a page each, into which lines so many bytes apart fall.
constexpr int64_t kCacheWays = 8;
inline int64_t cache_sets(int64_t apart) {
  const int64_t power_of_two = apart & -apart;
  return power_of_two == 0 ? 1 : clamp(kPageBytes / power_of_two, 1, kPageBytes / kLineBytes);
}

// Rows of A that stand so many elements apart and stay in the cache together, beside B and C.
template <class T>
int64_t rows_together(int64_t apart) {
  return (kCacheWays - 1) * cache_sets(apart * static_cast<int64_t>(sizeof(T)));
}

// Vectors per tile for runs of `run` rows. of_weight_gradient: narrow tiles are no taller than the widest, and where
// there are several, none is wider than what its panel may be.
template <class T>
ColumnTiles choose_columns(const Kernels<T>& kernels, int64_t columns, int64_t run, bool of_weight_gradient = false);

// Groups whose outputs fill half a vector or less, one group alone less, and rows of outputs that fill one: there lanes
// run along the rows, if enough products share the work of copying x into planes and results back.
template <class T>
bool takes_planes(const Kernels<T>& kernels, const ConvGeometry& g);

// run: outputs in a row that share all taps; depth: products in a row.
template <class T>
DenseForm choose_form(const Kernels<T>& kernels, int64_t columns, int64_t run, int64_t depth);

// prepacked: the form of weights that are packed already, or null.
template <class T>
DensePlan make_dense_plan(const Kernels<T>& kernels, const ConvGeometry& g, const DenseLayout& layout,
                          Algorithm algorithm, int threads, const DenseForm* prepacked = nullptr);

// A weight gradient: tiles of kernel positions and input channels by output channels, reduced over output pixels.
struct WeightGradientPlan {
  // Too few output channels for lanes over them: they become the rows of a tile and the input channels its columns, and
  // the sums stand as [O][KH][KW][C/groups] until the end.
  bool swapped;
  bool merge_taps;  // the rows of a tile run over (kernel column, channel), else over the channels of one tap
  ColumnTiles columns;
  int rows;
  int64_t row_tiles;  // along the rows of one kernel row, or of one tap
  // Output pixels summed in registers before they are added to the gradient.
  int64_t block_rows, block_columns;
  int64_t partials;  // sums over parts of the batch, added in order at the end
  // Operands in windows: of a block, and of the channels of window_row_tiles on the side of a tile's rows; of one tile
  // of columns each, for one of column_shares, on the other.
  int64_t window_row_tiles, column_shares;
  bool window_of_tap_rows;                              // of x: what one kernel row reads, else what all do
  int64_t row_window_elements, column_window_elements;  // of each thread; zero: read where it lies
  // Shared by all threads; the first sum stands in the result itself, unless swapped.
  int64_t partial_elements;

  int64_t scratch_elements() const { return row_window_elements + column_window_elements; }
};

template <class T>
WeightGradientPlan make_weight_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g,
                                             const ImageView<const T>& x, const ImageView<const T>& grad);

// Length of the innermost reduction: a kernel row's KW*C values for im2col, one tap's C for matmul.
int64_t inner_depth(Algorithm algorithm, const ConvGeometry& g);

// The tile kernels of one shape. The plan named it from these kernels, so it is there.
template <class T>
const TileFamily<T>& family_of(const Kernels<T>& kernels, int lanes, int64_t vectors);

}  // namespace nhwc_conv
