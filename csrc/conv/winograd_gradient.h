// The weight gradient by Winograd's transforms: with V as in winograd.h and D[p][tile][o] the transform of the gradient
// of a tile's outputs,
//
//   S[p][c][o] = sum over tiles of V[p][tile][c] * D[p][tile][o],   dw = transform of S
//
// Each item has some input channels and some output channels: it transforms a block of tiles at a time, adds its
// products to S, and transforms S back at the end. Tiles are summed in blocks that do not depend on threads.
#pragma once

#include "parallel.h"
#include "plan.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace nhwc_conv {

struct WinogradGradientPlan {
  int64_t tile;                      // outputs of a tile, down and across
  ColumnTiles columns;               // of the output channels of one group
  int64_t rows;                      // input channels of a tile of the product
  int64_t tile_blocks, block_tiles;  // sums over tiles that are added up, for accuracy, and the largest one's tiles
  int64_t items_down, items_across;  // of a group: by input channels, and by tiles of columns
  int64_t part_rows, part_tiles;     // of S that an item computes before it goes on to the next: all, if it comes back
  // Of each thread: S of a part, V and D of an item and a block, and all of them with what transforms need.
  int64_t sum_elements, x_elements, grad_elements, scratch_elements;
};

// Whether `algorithm` means this: see takes_winograd. A weight gradient belongs to the whole batch.
template <class T>
bool takes_winograd_gradient(Algorithm algorithm, const ConvGeometry& g) {
  return takes_winograd<T>(algorithm, g, WinogradWeights::gradient, g.N);
}

template <class T>
WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g, int threads);

template <class T>
class WinogradWeightGradient {
 public:
  // x [N, H, W, C] and grad [N, OH, OW, O], any strides; dw [3, 3, C/groups, O] contiguous.
  WinogradWeightGradient(const Kernels<T>& kernels, const WinogradGradientPlan& plan, const ConvGeometry& g,
                         const ImageView<const T>& x, const ImageView<const T>& grad, T* dw)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), grad_(grad), dw_(dw) {}

  // workspace: plan.scratch_elements for each of parallel.threads
  void run(const Parallel& parallel, T* workspace) const;

 private:
  // Input channels by output channels of one group, which are whole tiles of columns; counted in the group.
  struct Slice {
    int64_t group;
    Range rows, tiles, columns;
  };

  Slice slice(int64_t group, Range rows, Range tiles) const;
  Range block(int64_t index) const;
  void run_item(const Slice& whole, T* scratch) const;
  void transform(const Slice& slice, Range block, T* v, T* d, T* field) const;
  // Of V and D of `whole`, [point][tile][channel], to S of a part of it, [point][input channel][output channel].
  void add_products(const Slice& whole, const Slice& part, int64_t tiles, bool first, const T* v, const T* d,
                    T* s) const;
  void transform_back(const Slice& part, const T* s) const;

  const Kernels<T>& kernels_;
  const WinogradGradientPlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_, grad_;
  T* dw_;
};

}  // namespace nhwc_conv
