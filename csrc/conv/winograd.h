// Winograd's convolution: 3x3 kernels of stride 1, with 2.25 products an output instead of nine in F(4x4, 3x3) and four
// in F(2x2, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016). A block of tiles at a
// time is transformed, multiplied and transformed back, so that it stays in the caches:
//
//   V[p][tile][c] = input transform of x     M[p][tile][o] = sum over c of V[p][tile][c] * U[p][c][o]
//   y             = output transform of M    U[p][c][o] = transform of the weight
//
// where p counts the points of a tile. Results differ from the direct path's in the last bits; an output whose inputs
// are all zero may come out as a tiny number, and a NaN or an infinity spreads to its whole tile.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace nhwc_conv {

// Whether it can compute this geometry at all.
bool winograd_fits(const ConvGeometry& g);

// What a pass does with weights: transforms them, has them transformed already, or sums their gradient.
enum class WinogradWeights { given, prepacked, gradient };

// Whether `algorithm` means Winograd here: by name, or because it is automatic and Winograd is clearly the faster way
// for this many images. Where a result belongs to one image that is one, so that the batch shows in no bit.
template <class T>
bool takes_winograd(Algorithm algorithm, const ConvGeometry& g, WinogradWeights weights, int64_t images = 1);

// Whether Algorithm::automatic may choose it: yes, until told otherwise.
void set_winograd_enabled(bool value);

// Outputs of a tile, down and across: 4, or 2 for images so low or narrow that larger tiles would mostly lie outside.
int64_t winograd_tile(const ConvGeometry& g);

// Whether what was packed ahead holds this geometry's weights transformed.
inline bool keeps_winograd(const Prepacked& packed, const ConvGeometry& g) {
  return packed.winograd_elements > 0 && winograd_tile(g) == 4;
}

struct WinogradPlan {
  int64_t tile;         // outputs of a tile, down and across
  ColumnTiles columns;  // of the output channels
  int64_t block_tiles;  // tiles transformed together
  // Sums over input channels that are added up at the end, for accuracy; and the unit of weights transformed together.
  int64_t depth_blocks;
  // All weights are transformed before the first item, or were ahead of the call; else each item transforms what it
  // needs, a chunk at a time: writing a large U to memory and reading it back would cost more.
  bool pack_weights;
  bool from_panels;          // what items transform are weights packed for the direct path
  int64_t column_groups;     // shares of the column tiles
  int64_t packed_elements;   // shared by all threads
  int64_t scratch_elements;  // of each thread
};

// Elements of U that pack_weight lays down behind the weights of the direct path; none where it does not pay.
template <class T>
int64_t winograd_prepacked_elements(const ConvGeometry& weights, const ColumnTiles& columns);

template <class T>
WinogradPlan make_winograd_plan(const Kernels<T>& kernels, const ConvGeometry& g, int threads,
                                const Prepacked* prepacked = nullptr);

template <class T>
class WinogradConv {
 public:
  // x and y are whole tensors (all groups); bias has O values or is null; packed has plan.packed_elements, or what was
  // prepacked.
  WinogradConv(const Kernels<T>& kernels, const WinogradPlan& plan, const ConvGeometry& g, const ImageView<const T>& x,
               const WeightView<const T>& w, const ImageView<T>& y, const T* bias, T* packed)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), w_(w), y_(y), bias_(bias), packed_(packed) {}

  int64_t pack_items() const;
  void pack(int64_t item) const;
  int64_t items() const;
  void run(int64_t item, T* scratch) const;

 private:
  // Parts of a thread's scratch.
  struct Scratch {
    T *v, *field, *m, *u;
  };

  Range depth(int64_t block) const;
  int64_t width(int64_t tile) const { return plan_.columns.vectors_of(tile) * plan_.columns.lanes; }
  WeightView<const T> weights(int64_t group, int64_t tile) const;
  T* packed_chunk(int64_t group, int64_t tile, int64_t block) const;
  // part: of the block's channels, counted in it.
  void transform_weights(int64_t group, int64_t tile, int64_t block, Range part, T* u) const;
  void transform_input(int64_t group, Range tiles, const Scratch& scratch) const;
  void multiply(int64_t tile, int64_t block, int64_t tiles, const T* v, const T* u, T* m) const;
  void transform_output(int64_t group, int64_t tile, Range tiles, const T* m) const;

  const Kernels<T>& kernels_;
  const WinogradPlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_;
  WeightView<const T> w_;
  ImageView<T> y_;
  const T* bias_;
  T* packed_;
};

}  // namespace nhwc_conv
