// The dense convolution: tiles of output pixels by output channels, straight from the NHWC tensor. Forward passes
// and the phases of input gradients both run here.
#pragma once

#include "plan.h"

namespace nhwc_conv {

// What sums of a later block of the reduction start from. Added to the result where no tap falls into the block, it
// leaves even the sign of a zero, so that it does not matter whether it is added.
template <class T>
struct Nothing {
  T values[kMaxTileColumns];
  constexpr Nothing() : values() {
    for (T& value : values) value = T(-0.0);
  }
};
template <class T>
constexpr Nothing<T> kNothing;

// One call's convolution. Weights are packed by pack(item), item < pack_items(), all of them before the first
// run(item, ...), item < items(). Items write disjoint parts of y and may run in any order, in any thread.
template <class T>
class DenseConv {
 public:
  // x and y are whole tensors (all groups); bias has O values or is null; packed has plan.packed_elements.
  DenseConv(const Kernels<T>& kernels, const DensePlan& plan, const ConvGeometry& g, const ImageView<const T>& x,
            const WeightView<const T>& w, const ImageView<T>& y, const T* bias, T* packed)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), w_(w), y_(y), bias_(bias), packed_(packed) {}

  int64_t pack_items() const;
  void pack(int64_t item) const;

  int64_t items() const;
  // scratch: plan.scratch_elements, used by no other thread meanwhile.
  void run(int64_t item, T* scratch) const;

 private:
  // Weights of one column tile of one group, and where its results go.
  struct Column {
    const TileFn<T>* kernels;          // by rows
    const TileFn<T>* packing_kernels;  // likewise; the dot form has none
    int max_rows;
    const T* b;
    int64_t b_n, b_i, b_j, b_k;
    int64_t columns;
    const T* bias;
    T* y;  // of the image
  };
  // A part of the reduction: kernel rows, and a range within one (over KW*C for im2col, over C for matmul).
  struct Block {
    Range rows, inner;
    bool first;
  };
  // What is left of a block where only some taps exist; im2col counts `inner` over the taps of a row, which are then
  // one.
  struct Terms {
    Range rows, taps, inner;
    bool none() const { return rows.empty() || taps.empty() || inner.empty(); }
  };

  Column column(int64_t group, int64_t n, int64_t tile) const;
  // The weights of tap (i, j) for a column tile, where they lie.
  const T* tap(int64_t group, int64_t tile, int64_t i, int64_t j) const {
    return w_.data + group * w_.group + plan_.columns.begin(tile) * w_.o + i * w_.i + j * w_.j;
  }
  Block block(int64_t index) const;
  // The part of image n that this group reads.
  ImageView<const T> of_group(const ImageView<const T>& x, int64_t group, int64_t n) const;
  void run_view(int64_t group, int64_t n, const ImageView<const T>& x, Range ys, Range xs, Range tiles) const;
  Terms terms(const Block& block, Range taps_h, Range taps_w) const;
  static TileArgs<T> product(const Column& column, const Block& block);
  // From here on, x is what of_group returns.
  void run_block(const Column& column, const Block& block, const ImageView<const T>& x, Range ys, Range xs) const;
  void fill_planes(Range rows, int64_t n, Range channels, T* planes) const;
  void run_planes(Range groups, int64_t n, Range ys, T* scratch) const;
  void run_panel(int64_t group, int64_t n, Range ys, Range xs, Range tiles, T* panel) const;
  void aim(TileArgs<T>& args, const Column& column, const Terms& left, const ImageView<const T>& x, int64_t y,
           int64_t x0, bool down) const;
  void emit(TileArgs<T>& args, const Column& column, const Block& block, const ImageView<const T>& x, Range ys,
            Range xs, Range taps_h, Range taps_w) const;
  void emit_column(TileArgs<T>& args, const Column& column, const Block& block, const ImageView<const T>& x, Range ys,
                   int64_t x0, Range taps_w) const;

  // Weights of a tile of columns, of kernel rows and of a run within each whose taps the same outputs have as have tap
  // j. For im2col the run is counted over KW*C, for matmul over the C of tap j. They may open a block of the reduction,
  // and close it.
  struct Piece {
    int64_t tile;
    Range rows;
    int64_t j;
    Range inner;
    bool first_block, opens, closes;
  };
  // What is left to ask for of the next weights: so many tiles, the next one's `next` further, go through `lines` runs
  // that stand step_j apart, in steps of `step`.
  struct Coming {
    const T* from = nullptr;
    int64_t lines = 1, step_j = 0, step = 0, next = 0, tiles = 0;
  };
  template <class Visit>
  void each_piece(const Block& block, const Visit& visit) const;
  template <class Visit>
  void each_part(int64_t group, const Piece& piece, const Visit& visit) const;
  const T* prepacked(const Column& column, const Piece& piece) const;
  // The tap that `inner` of a piece is counted from.
  int64_t first_tap(const Piece& piece) const;
  Coming coming(int64_t group, const Piece& piece, int64_t depth) const;
  Coming rows_ahead(int64_t group, const Piece& piece, Range tiles) const;
  void run_pieces(int64_t group, Range tiles, T* scratch) const;
  // A piece's weights where they lie, which the first tile packs; or null.
  struct Unpacked {
    const T* b;
    T* packed;
  };
  void multiply(const Column& column, const Piece& piece, const ImageView<const T>& x, Unpacked unpacked, T* apart,
                Coming& ahead) const;

  const Kernels<T>& kernels_;
  const DensePlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_;
  WeightView<const T> w_;
  ImageView<T> y_;
  const T* bias_;
  T* packed_;
};

}  // namespace nhwc_conv
