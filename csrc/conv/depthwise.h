// Convolutions of many groups with few output channels each: a vector's lanes run over the channels of all groups.
// Depthwise layers (C/groups = O/groups = 1) read the tensor where it lies. Elsewhere input channels are first repeated
// so that lane o finds its channel at place o: X[pixel][k][o] = x[pixel][o / (O/groups) * (C/groups) + k], a region at
// a time.
#pragma once

#include "parallel.h"
#include "plan.h"

namespace nhwc_conv {

// Whether the lanewise kernels serve this geometry: too few output channels a group for the narrowest vector, or just
// enough for it where there are wider ones and repeating its channels is cheap.
template <class T>
bool is_depthwise(const Kernels<T>& kernels, const ConvGeometry& g) {
  const int64_t size = sizeof(T), narrowest = 16;
  const bool wider = kernels.lanewise[0].lanes * size > narrowest && g.C_per_group() * size <= narrowest;
  return g.groups > 1 && g.O_per_group() * size < narrowest + wider;
}

struct DepthwisePlan {
  bool expand;
  // The expanded region holds the zeros left and right of the image too. Where most output columns lack some tap,
  // products with zero cost less than a run of one output for each of them.
  bool pad_columns;
  bool pack_weights;
  int64_t item_rows, item_columns;  // outputs
  int64_t item_channels;            // output channels, of whole groups
  int64_t packed_row;               // from one tap and channel of packed weights to the next
  int64_t packed_elements;          // shared by all threads
  int64_t region_elements;          // of each thread
  // Of these at the end, one row whose channels are neighbours, where they are not in memory and are to be repeated.
  int64_t row_elements;
  // Channels that do not fill a vector: so many pixels side by side fill some, with as many copies of the weights,
  // which stand behind the region in scratch. Else one, and no copies.
  int64_t pixels_abreast, repeated_elements;

  int64_t scratch_elements() const { return region_elements + repeated_elements; }
  int64_t channel_blocks(const ConvGeometry& g) const { return ceil_div(g.O, item_channels); }
  Range channels(const ConvGeometry& g, int64_t block) const {
    const Range groups = share_of(g.groups, block, channel_blocks(g));
    return {groups.begin * g.O_per_group(), groups.end * g.O_per_group()};
  }
};

// Whether a region's rows are copied with their padding: always, where that is faster, or never (weight gradients).
enum class RegionRows { packed, packed_if_better, viewed };

// lanes_contiguous: neighbouring output channels are neighbours in the weights.
template <class T>
DepthwisePlan make_depthwise_plan(const Kernels<T>& kernels, const ConvGeometry& g, const ImageView<const T>& x,
                                  bool lanes_contiguous, int threads, RegionRows rows);

// Sizes the scratch of a plan for the layout of x, which items then copy if its channels are no neighbours.
template <class T>
void size_region(const ConvGeometry& g, const ImageView<const T>& x, DepthwisePlan& plan);

// Elements from one row of `elements` to the next, so that many do not fall into few cache sets.
template <class T>
int64_t spread(int64_t elements) {
  const int64_t line = kLineBytes / sizeof(T);
  return elements % (4 * line) == 0 ? elements + line : elements;
}

// Input pixels and channels of an output region, repeated as above.
template <class T>
struct ExpandedRegion {
  Range rows, columns;  // of the input
  const T* data;
  int64_t h, w, k;  // strides; lanes are contiguous

  // Fills `to`, of plan.region_elements, with what outputs ys x xs of image n read, for output channels `lanes` of
  // whole groups. With plan.pad_columns, `columns` counts from the padding's first column.
  static ExpandedRegion fill(const Kernels<T>& kernels, const DepthwisePlan& plan, const ConvGeometry& g,
                             const ImageView<const T>& x, int64_t n, Range ys, Range xs, Range lanes, T* to);
  // The tensor itself, for depthwise layers whose channels are contiguous.
  static ExpandedRegion view(const ImageView<const T>& x, int64_t n, Range lanes) {
    return {{0, 0}, {0, 0}, x.data + n * x.n + lanes.begin, x.h, x.w, 0};
  }
};

// Forward, or one phase of an input gradient. Used as DenseConv is.
template <class T>
class DepthwiseConv {
 public:
  DepthwiseConv(const Kernels<T>& kernels, const DepthwisePlan& plan, const ConvGeometry& g,
                const ImageView<const T>& x, const WeightView<const T>& w, const ImageView<T>& y, const T* bias,
                T* packed)
      : kernels_(kernels), plan_(plan), g_(g), x_(x), w_(w), y_(y), bias_(bias), packed_(packed) {}

  int64_t pack_items() const { return plan_.pack_weights ? g_.h.kernel * g_.w.kernel : 0; }
  void pack(int64_t item) const;
  int64_t items() const;
  // scratch: plan.scratch_elements()
  void run(int64_t item, T* scratch) const;

 private:
  TileArgs<T> repeat_weights(const TileArgs<T>& one, const T* weights, int64_t w_i, int64_t w_j, T* to) const;
  void run_abreast(TileArgs<T> args, const TileArgs<T>& one, Range taps_h, Range taps_w, const T* a, T* c,
                   int64_t count) const;

  const Kernels<T>& kernels_;
  const DepthwisePlan& plan_;
  const ConvGeometry& g_;
  ImageView<const T> x_;
  WeightView<const T> w_;
  ImageView<T> y_;
  const T* bias_;
  T* packed_;
};

// Whether neighbouring output channels of all groups are neighbours in memory.
template <class T>
bool lanes_contiguous(const ConvGeometry& g, const WeightView<const T>& w) {
  return g.O_per_group() == 1 ? w.group == 1 : w.o == 1 && w.group == g.O_per_group();
}

// The widest family whose vectors fit into this many columns.
template <class T>
const LanewiseFamily<T>& lanewise_family(const Kernels<T>& kernels, int64_t columns) {
  int f = 0;
  while (kernels.lanewise[f].lanes > columns) ++f;
  return kernels.lanewise[f];
}

}  // namespace nhwc_conv
