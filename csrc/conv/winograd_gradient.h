// The weight gradient by Winograd's transforms: with V as in winograd.h and D[p][tile][o] the transform of the gradient
// of a tile's outputs,
//
//   S[p][c][o] = sum over tiles of V[p][tile][c] * D[p][tile][o],   dw = transform of S
//
// A chunk of tiles is transformed at a time, and S is computed in slices of input and output channels that are
// transformed back as soon as they are complete. Tiles are summed in blocks that do not depend on chunks or threads.
#pragma once

#include "parallel.h"
#include "plan.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace nhwc_conv {

struct WinogradGradientPlan {
  int64_t tile;                        // outputs of a tile, down and across
  ColumnTiles columns;                 // of the output channels of one group
  int64_t rows;                        // input channels of a tile of the product
  int64_t tile_blocks;                 // sums over tiles that are added up, for accuracy
  int64_t chunks;                      // of whole blocks
  int64_t chunk_tiles;                 // in the largest
  int64_t slices_down, slices_across;  // of S of one group: by input channels, and by tiles of columns
  int64_t slice_elements;              // of the largest
  int64_t shared_elements;             // V and D of a chunk, and S if it is summed over several
  int64_t scratch_elements;            // of each thread
};

// Whether `algorithm` means this: see takes_winograd. A weight gradient belongs to the whole batch.
template <class T>
bool takes_winograd_gradient(Algorithm algorithm, const ConvGeometry& g) {
  return takes_winograd<T>(algorithm, g, WinogradWeights::gradient, g.N);
}

template <class T>
WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g);

template <class T>
class WinogradWeightGradient {
 public:
  // x [N, H, W, C] and grad [N, OH, OW, O], any strides; dw [3, 3, C/groups, O] contiguous.
  WinogradWeightGradient(const Kernels<T>& kernels, const WinogradGradientPlan& plan, const ConvGeometry& g,
                         const ImageView<const T>& x, const ImageView<const T>& grad, T* dw)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), grad_(grad), dw_(dw) {}

  // workspace: plan.shared_elements, then plan.scratch_elements for each of parallel.threads
  void run(const Parallel& parallel, T* workspace) const;

 private:
  // Rows of V and D stand a gap more than their channels apart, so that rows do not share cache sets.
  int64_t v_row() const { return g_.C + kPointGap; }
  int64_t d_row() const { return g_.O + kPointGap; }

  Range blocks_of(int64_t chunk) const;
  int64_t first_tile(int64_t block) const;
  int64_t slices() const { return g_.groups * plan_.slices_down * plan_.slices_across; }
  void transform(int64_t tile, int64_t at, int64_t count, T* v, T* d, T* field) const;
  void sum_slice(int64_t slice, int64_t chunk, const T* v, const T* d, T* s) const;

  const Kernels<T>& kernels_;
  const WinogradGradientPlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_, grad_;
  T* dw_;
};

}  // namespace nhwc_conv
