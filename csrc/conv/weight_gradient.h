// The weight gradient: dw[i, j, c, o] is the sum over output pixels of x under tap (i, j) times grad. Tiles of (kernel
// position, input channel) by output channels, reduced over pixels; no im2col buffer.
#pragma once

#include "parallel.h"
#include "plan.h"
#include "window.h"

namespace nhwc_conv {

// Images of one pixel become the pixels of one image, whatever their layout: a reduction of one product for each image
// is mostly calls (512 to 10 channels, 128 images: 20 times as fast).
template <class T>
void join_single_pixels(ConvGeometry& g, ImageView<const T>& x, ImageView<const T>& grad) {
  const auto is_one = [](const Axis& axis) {
    return axis.input == 1 && axis.output == 1 && axis.kernel == 1 && axis.pad == 0;
  };
  if (!is_one(g.h) || !is_one(g.w)) return;
  g.w = {g.N, g.N, 1, 1, 1, 0};
  x.w = x.n;
  grad.w = grad.n;
  g.N = 1;
}

template <class T>
class WeightGradient {
 public:
  // x [N, H, W, C], grad [N, OH, OW, O]; dw [KH, KW, C/groups, O] contiguous.
  WeightGradient(const Kernels<T>& kernels, const WeightGradientPlan& plan, const ConvGeometry& g,
                 const ImageView<const T>& x, const ImageView<const T>& grad, T* dw)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), grad_(grad), dw_(dw) {}

  // workspace: plan.partial_elements and then plan.scratch_elements() for each of parallel.threads.
  void run(const Parallel& parallel, T* workspace) const;

 private:
  // Rows of tiles: of one kernel row (i), or of one tap (i, j), of one group.
  struct Rows {
    int64_t group, row_tile, i, j;
    Range range;
  };
  // What is left to ask for of a piece of memory.
  struct Ahead {
    const T* from;
    int64_t elements;
  };
  // A block of output pixels of one image, some tiles of columns, and where their sums go.
  struct Block {
    int64_t n;
    Range ys, xs, tiles;
    T* dw;
    bool first;
    T* scratch;
    // What is there to read: the rows' operand, where it lies or in a window, of these channels.
    ImageView<const T> by_rows;
    int64_t group, window, kernel_row;
    // What tiles ask for meanwhile: the next block's pixels of x and of grad.
    Ahead ahead[2];
  };

  // Of the tiles of columns and of the units of rows.
  struct Shares {
    int64_t columns, rows;
  };

  int64_t row_units() const;
  Shares choose_shares(int threads) const;
  Rows rows(int64_t unit) const;
  void advance(Rows& rows) const;
  Range run_of(int64_t row_tile) const;
  int64_t blocks() const;
  Block block(int64_t index) const;
  Window window(const Block& block, bool of_x, Range channels) const;
  template <class Visit>
  void each_tile(const Block& block, const Visit& visit) const;
  void look_ahead(Block& block, const Block& next) const;
  void read(Block& block, const Rows& rows) const;
  void add(Block& block, const Rows& rows) const;
  static void ask(TileArgs<T>& args, Block& block);
  // Products of the pixels ys x xs, rows `range` counted from tap (i, j), with all tiles of columns.
  void emit(Block& block, const Rows& rows, Range ys, Range xs, int64_t j, Range range, bool accumulate) const;

  const Kernels<T>& kernels_;
  const WeightGradientPlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_, grad_;
  T* dw_;
};

}  // namespace nhwc_conv
