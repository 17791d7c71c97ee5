// The dense convolution of groups whose outputs fill no vector: lanes run along a row of outputs instead. Channels are
// copied into planes, where a row's pixels are neighbours; tiles of output channels by pixels are transposed back.
#include "dense.h"
#include "walk.h"

namespace nhwc_conv {

// The rows that these outputs read, [row][channel][column], with the zeros left and right of the image.
template <class T>
void DenseConv<T>::fill_planes(Range rows, int64_t n, Range channels, T* planes) const {
  const int64_t width = plan_.plane_width, pad = g_.w.pad;
  const Range inside = Range{0, g_.w.input}.within({-pad, width - pad});
  const int64_t before = inside.begin + pad, after = inside.end + pad;
  const int64_t read = g_.w.span(g_.w.output);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    // Down the channels: along the row the compiler calls memset for what is mostly one column.
    const auto clear = [&](Range columns) {
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        for (int64_t c = 0; c < channels.size(); ++c) planes[c * width + column] = 0;
      }
    };
    clear({0, before});
    clear({after, read});
    const T* from = x_.data + n * x_.n + row * x_.h + inside.begin * x_.w + channels.begin * x_.c;
    kernels_.copy({from, x_.c, x_.w, planes + before, width, channels.size(), inside.size()});
    planes += channels.size() * width;
  }
}

template <class T>
void DenseConv<T>::run_planes(Range groups, int64_t n, Range ys, T* scratch) const {
  const int64_t Cg = g_.C_per_group(), Og = g_.O_per_group(), width = plan_.plane_width;
  const Range rows = g_.h.inputs(ys), channels = {groups.begin * Cg, groups.end * Cg};
  const int64_t row = channels.size() * width;
  fill_planes(rows, n, channels, scratch);
  T* const sums = scratch + rows.size() * row;
  TileArgs<T> args = {};
  const Column first = column(groups.begin, n, 0);
  // Weights are neighbours along the outputs or, as the dot form has them, along the reduction.
  args.a_m = first.b_n;
  const int64_t to_next_group = groups.size() > 1 ? column(groups.begin + 1, n, 0).b - first.b : 0;
  args.a_i = first.b_i;
  args.a_j = first.b_j;
  args.a_k = first.b_k;
  args.b_i = g_.h.dilation * row;
  args.b_j = g_.w.dilation;
  args.b_k = width;
  args.c_m = plan_.across.padded_columns();
  args.mode = bias_ == nullptr ? Mode::fresh : Mode::go_on;
  args.J = g_.w.kernel;
  args.K = Cg;
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    const Range taps = g_.h.taps(y);
    args.I = taps.size();
    const int64_t from = y * g_.h.stride - g_.h.pad + taps.begin * g_.h.dilation - rows.begin;
    for (int64_t group = 0; group < groups.size(); ++group) {
      const T* const weights = first.b + group * to_next_group + taps.begin * args.a_i;
      const T* const planes = taps.empty() ? scratch : scratch + from * row + group * Cg * width;
      T* const c = sums + group * Og * args.c_m;
      for (int64_t o = 0; bias_ != nullptr && o < Og; ++o) {
        for (int64_t x = 0; x < g_.w.output; ++x) c[o * args.c_m + x] = first.bias[group * Og + o];
      }
      for (int64_t tile = 0; tile < plan_.across.tiles; ++tile) {
        const int64_t x = plan_.across.begin(tile);
        const TileFamily<T>& family = family_of(kernels_, plan_.across.lanes, plan_.across.vectors_of(tile));
        args.columns = plan_.across.end(tile) - x;
        args.b = planes + x;
        in_pieces(Og, family.max_rows, [&](int64_t o, int64_t m) {
          args.a = weights + o * args.a_m;
          args.c = c + o * args.c_m + x;
          (plan_.dot ? family.rows : family.columns_of_a)[m - 1](args);
        });
      }
    }
    T* const to = y_.data + n * y_.n + y * y_.h + groups.begin * Og;
    kernels_.copy({sums, 1, args.c_m, to, y_.w, g_.w.output, groups.size() * Og});
  }
}

#define NHWC_INSTANTIATE(T) template void DenseConv<T>::run_planes(Range, int64_t, Range, T*) const;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
