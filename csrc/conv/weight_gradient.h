// The weight gradient: dw[i, j, c, o] = sum over n, y, x of X[n, y*s_h + i*d_h - p_h, x*s_w + j*d_w - p_w, c] * grad[n,
// y, x, o], by the tile kernel whose rows are input channels (neighbours in memory) and whose reduction runs over
// output pixels.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace nhwc_conv {

template <class T>
class WeightGradient {
 public:
  // x [N, H, W, C] and grad [N, OH, OW, O] with contiguous channels; dw [KH, KW, C/groups, O] contiguous.
  WeightGradient(const Kernels<T>& kernels, const WeightGradientPlan& plan, const ConvGeometry& g,
                 const ImageView<const T>& x, const ImageView<const T>& grad, T* dw)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), grad_(grad), dw_(dw) {}

  // workspace: plan.partial_elements
  void run(const Parallel& parallel, T* workspace) const;

 private:
  // A tile: rows of one kernel row (i) or tap (i, j) by a tile of columns of one group.
  struct Tile {
    int64_t group, i, j, column;
    Range rows;
  };

  int64_t tiles() const;
  Tile tile(int64_t index) const;
  void add_block(const Tile& tile, T* dw, int64_t n, Range ys, bool first) const;
  // Products of the pixels ys x xs, input channels `rows` counted from tap (i, j), with one tile of columns.
  void emit(const Tile& tile, T* dw, int64_t n, Range ys, Range xs, int64_t j, Range rows, bool accumulate) const;

  const Kernels<T>& kernels_;
  const WeightGradientPlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_, grad_;
  T* dw_;
};

}  // namespace nhwc_conv
