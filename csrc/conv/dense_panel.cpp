// The dense convolution where dilation breaks the rows of im2col: they are copied, a tile at a time.
#include "dense.h"

namespace nhwc_conv {

// im2col rows of one tile at a time: all column tiles use a panel before the next is filled.
//
// A panel holds the zeros of the padding. They change no bit of a single chain of additions, but they would move the
// products of the dot form to other lanes than a view's; so there a tile ends where its taps change, and leaves zeros
// out.
template <class T>
void DenseConv<T>::run_panel(int64_t group, int64_t n, Range ys, Range xs, Range tiles, T* panel) const {
  const int64_t Cg = g_.C_per_group();
  const T* x = x_.data + n * x_.n + group * Cg * x_.c;
  const int64_t row_depth = g_.w.kernel * Cg;
  const bool whole_rows = plan_.inner_blocks == 1 && !plan_.dot;
  // Output pixels in a row of memory may share a tile across output rows.
  const bool flat = xs.size() == g_.w.output && y_.h == g_.w.output * y_.w;
  const int64_t lines = flat ? 1 : ys.size(), length = flat ? ys.size() * xs.size() : xs.size();
  for (int64_t line = 0; line < lines; ++line) {
    int64_t y = ys.begin + line, ox = xs.begin;
    for (int64_t done = 0; done < length;) {
      int64_t m = clamp(length - done, 1, plan_.rows);
      Range tile_h = {0, g_.h.kernel}, tile_w = {0, g_.w.kernel};
      const int64_t offset = y * y_.h + ox * y_.w;
      for (int64_t row = 0; row < m; ++row) {
        const Range taps_h = g_.h.taps(y), taps_w = g_.w.taps(ox);
        if (plan_.dot && row == 0) tile_h = taps_h, tile_w = taps_w;
        if (plan_.dot && !(taps_h == tile_h && taps_w == tile_w)) {
          m = row;
          break;
        }
        // The field's origin may lie outside the image; only taps inside are read.
        const int64_t origin = (y * g_.h.stride - g_.h.pad) * x_.h + (ox * g_.w.stride - g_.w.pad) * x_.w;
        kernels_.field({x + origin, g_.h.dilation * x_.h, g_.w.dilation * x_.w, x_.c, g_.h.kernel, g_.w.kernel, Cg,
                        taps_h.begin, taps_h.end, taps_w.begin, taps_w.end, panel + row * plan_.panel_stride});
        if (++ox == xs.end) {
          ox = xs.begin;
          ++y;
        }
      }
      for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
        const Column target = column(group, n, tile);
        for (int64_t b = 0; b < plan_.row_blocks * plan_.inner_blocks; ++b) {
          const Block part = block(b);
          const Terms left = terms(part, tile_h, tile_w);
          if (left.none() && !part.first) continue;
          const Range rows = left.rows, taps = left.taps, inner = left.inner;
          TileArgs<T> args = product(target, part);
          args.a = panel + rows.begin * row_depth + taps.begin * Cg + inner.begin;
          args.a_m = plan_.panel_stride;
          args.a_i = row_depth;
          args.a_j = Cg;
          args.b = target.b + rows.begin * target.b_i + taps.begin * target.b_j + inner.begin * target.b_k;
          // Whole kernel rows follow each other without a gap: one long reduction.
          args.I = left.none() ? 0 : whole_rows ? 1 : rows.size();
          args.J = whole_rows ? 1 : taps.size();
          args.K = whole_rows ? rows.size() * row_depth : inner.size();
          args.c = target.y + offset;
          args.c_m = y_.w;
          target.kernels[m - 1](args);
        }
      }
      done += m;
    }
  }
}

#define NHWC_INSTANTIATE(T) template void DenseConv<T>::run_panel(int64_t, int64_t, Range, Range, Range, T*) const;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
