#include "depthwise_gradient.h"

#include "partial_sums.h"
#include "walk.h"
#include "window.h"

namespace nhwc_conv {

template <class T>
DepthwiseWeightGradient<T>::DepthwiseWeightGradient(const Kernels<T>& kernels, const ConvGeometry& g,
                                                    const ImageView<const T>& x, const ImageView<const T>& grad, T* dw)
    : kernels_(kernels), g_(g), x_(x), grad_(grad), dw_(dw) {
  // As for one thread and contiguous channels, whatever they are: blocks of pixels show in the last bits.
  plan_ = make_depthwise_plan<T>(kernels, g, {nullptr, 0, 0, g.C, 1}, true, 1, RegionRows::viewed);
  // Pixels that share fewer sets are gone before the next row of grad meets them (3x3, 512 channels: 0.75 times as
  // fast).
  slides_ = g.C_per_group() == 1 && g.h.kernel == 3 && g.w.kernel == 3 && g.w.stride == g.w.dilation &&
            cache_sets(g.C * static_cast<int64_t>(sizeof(T))) >= 4;
  elements_ = g.h.kernel * g.w.kernel * g.C_per_group() * g.O;
  blocks_h_ = ceil_div(g.h.output, plan_.item_rows);
  blocks_w_ = ceil_div(g.w.output, plan_.item_columns);
  partials_ = clamp(g.N * blocks_h_ * blocks_w_, 1, kMaxPartials);
  size_region(g, x, plan_);
  window_elements_ = grad.c != 1 ? plan_.item_rows * plan_.item_columns * plan_.item_channels : 0;
}

template <class T>
void DepthwiseWeightGradient<T>::run(const Parallel& parallel, T* workspace) const {
  const int64_t blocks_o = plan_.channel_blocks(g_), blocks = g_.N * blocks_h_ * blocks_w_;
  T* scratch = workspace + partial_elements();
  for_each_item(parallel, partials_ * blocks_o, [&](int64_t item, int64_t slot) {
    const int64_t o_block = item % blocks_o, partial = item / blocks_o;
    const Range lanes = plan_.channels(g_, o_block);
    const Range pixels = share_of(blocks, partial, partials_);
    T* dw = (partial == 0 ? dw_ : workspace + (partial - 1) * elements_) + lanes.begin;
    for (int64_t block = pixels.begin; block < pixels.end; ++block) {
      const int64_t x = block % blocks_w_, y = block / blocks_w_ % blocks_h_;
      add_block(dw, block / blocks_w_ / blocks_h_,
                {y * plan_.item_rows, clamp((y + 1) * plan_.item_rows, 0, g_.h.output)},
                {x * plan_.item_columns, clamp((x + 1) * plan_.item_columns, 0, g_.w.output)}, lanes,
                block == pixels.begin, scratch + slot * scratch_elements());
    }
  });
  add_partial_sums(kernels_, parallel, dw_, workspace, elements_, partials_);
}

template <class T>
void DepthwiseWeightGradient<T>::add_block(T* dw, int64_t n, Range ys, Range xs, Range lanes, bool first,
                                           T* scratch) const {
  const int64_t Cg = g_.C_per_group(), KW = g_.w.kernel;
  const ExpandedRegion<T> x = plan_.expand ? ExpandedRegion<T>::fill(kernels_, plan_, g_, x_, n, ys, xs, lanes, scratch)
                                           : ExpandedRegion<T>::view(x_, n, lanes);
  const ImageView<const T> grad =
      window_elements_ > 0 ? copy_window(kernels_, grad_, n, {ys, xs, lanes}, scratch + plan_.region_elements)
                           : of_image(grad_, n);
  const LanewiseFamily<T>& family = lanewise_family(kernels_, lanes.size());
  TileArgs<T> args;
  args.I = 1;
  args.a_i = args.b_i = 0;
  args.a_j = g_.h.stride * x.h;
  args.a_k = g_.w.stride * x.w;
  args.b_j = grad.h;
  args.b_k = grad.w;
  args.c_m = g_.O;
  args.columns = lanes.size();
  args.bias = nullptr;
  args.a_t = g_.h.dilation * x.h;
  args.c_t = KW * Cg * g_.O;
  // `count` rows from tap (taps_h.begin, j), channel 0, for each of taps_h, over the pixels rows x columns.
  const auto emit = [&](Range taps_h, int64_t j, int64_t count, int64_t step, Range rows, Range columns, bool add) {
    const bool nothing = rows.empty() || columns.empty();
    if (nothing && add) return;
    args.J = nothing ? 0 : rows.size();
    args.K = columns.size();
    args.tiles = taps_h.size();
    args.a_m = step;
    args.mode = add ? Mode::add : Mode::fresh;
    const T* a = x.data;
    args.b = grad.data;
    if (!nothing) {
      a += (rows.begin * g_.h.stride - g_.h.pad + taps_h.begin * g_.h.dilation - x.rows.begin) * x.h +
           (columns.begin * g_.w.stride - g_.w.pad + j * g_.w.dilation - x.columns.begin) * x.w;
      args.b += rows.begin * grad.h + columns.begin * grad.w + lanes.begin;
    }
    T* c = dw + (taps_h.begin * KW + j) * Cg * g_.O;
    in_pieces(count, kMaxLanewiseRows, [&](int64_t offset, int64_t m) {
      args.a = nothing ? a : a + offset * step;
      args.c = c + offset * g_.O;
      family.rows[m - 1](args);
    });
  };
  const auto emit_rows = [&](Range taps_h, Range rows, bool add) {
    if (Cg > 1) {
      for (int64_t j = 0; j < KW; ++j) emit(taps_h, j, Cg, x.k, rows, g_.w.outputs(j).within(xs), add);
      return;
    }
    in_pieces(KW, kMaxLanewiseRows, [&](int64_t j0, int64_t taps) {
      Range common = xs;
      for (int64_t j = j0; j < j0 + taps; ++j) common = common.within(g_.w.outputs(j));
      emit(taps_h, j0, taps, g_.w.dilation * x.w, rows, common, add);
      // Pixels that tap j sees and some other tap of these does not.
      for (int64_t j = j0; j < j0 + taps; ++j) {
        const Range outputs = g_.w.outputs(j).within(xs);
        emit(taps_h, j, 1, 0, rows, outputs.before(common), true);
        emit(taps_h, j, 1, 0, rows, outputs.after(common), true);
      }
    });
  };
  const Range together = slides_ ? g_.h.interior().within(ys) : Range{0, 0};
  if (!together.empty()) emit_rows({0, 3}, together, !first);
  for (int64_t i = 0; i < g_.h.kernel; ++i) {
    const Range rows = g_.h.outputs(i).within(ys);
    if (together.empty()) {
      emit_rows({i, i + 1}, rows, !first);
    } else {
      emit_rows({i, i + 1}, rows.before(together), true);
      emit_rows({i, i + 1}, rows.after(together), true);
    }
  }
}

template class DepthwiseWeightGradient<float>;
template class DepthwiseWeightGradient<double>;

}  // namespace nhwc_conv
