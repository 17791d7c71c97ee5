// The dense runner for im2col where dilation breaks the rows of the im2col matrix: receptive fields are staged, the
// rows of one tile at a time, and all tiles of columns use this panel before the next is filled.
#pragma once

#include "regions.h"

namespace nhwc_conv {

struct PanelPlan : RegionPlan {
  int64_t row_elements;  // of the panel

  int64_t panel_elements() const { return rows * row_elements; }
};

// A panel holds the zeros of the padding. They change no bit of a single chain of additions, but they would move the
// products of the dot form to other lanes than a view's; so there a tile ends where its taps change, and leaves zeros
// out.
template <class S, class A> class PanelRunner {
 public:
  PanelRunner(const PanelPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o), product_(plan, o) {}

  int64_t pack_items() const { return product_.pack_items(); }
  void pack(int64_t item) const { product_.weights.pack(item); }
  int64_t items() const { return region_items(plan_, o_.g); }

  void run(int64_t item, A* scratch) const {
    const RegionItem at = region_item(plan_, o_.g, item);
    const Region outputs = {at.ys, at.xs, outputs_of(o_.g, at.groups.begin, plan_.form.columns.of(at.tiles))};
    const ImageView<A> sums = o_.result.sums(at.n, outputs, scratch + plan_.panel_elements());
    for (int64_t y = at.ys.begin; y < at.ys.end; ++y) {
      Panel panel = {scratch, 0, {}, {}};
      for (int64_t x = at.xs.begin; x < at.xs.end; x += panel.rows) {
        fill(panel, at, y, x);
        for (int64_t tile = at.tiles.begin; tile < at.tiles.end; ++tile) {
          multiply(panel, product_.column(at.groups.begin, tile, sums), y * sums.h + x * sums.w);
        }
      }
    }
    o_.result.finish(o_.kernels, at.n, outputs, sums);
  }

 private:
  struct Panel {
    A* data;
    int64_t rows;
    Range taps_h, taps_w;  // that are multiplied
  };

  // With the outputs from (y, x) on, as many as a tile has rows, or of the dot form those that have the same taps.
  void fill(Panel& panel, const RegionItem& at, int64_t y, int64_t x) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const ImageView<const S> image = from_group(of_image(o_.x, at.n), o_.g, at.groups.begin);
    const Range rows = h.taps(y);
    panel.taps_h = plan_.form.dot ? rows : Range{0, h.kernel};
    panel.taps_w = plan_.form.dot ? w.taps(x) : Range{0, w.kernel};
    const int64_t most = min(plan_.rows, at.xs.end - x);
    for (panel.rows = 0; panel.rows < most; ++panel.rows) {
      const Range taps = w.taps(x + panel.rows);
      if (plan_.form.dot && !(taps == panel.taps_w)) return;
      const int64_t from_y = h.input_of(y, 0), from_x = w.input_of(x + panel.rows, 0);
      stage_field(o_.kernels, image, {from_y, from_x, h.kernel, w.kernel, h.dilation, w.dilation, rows, taps},
                  o_.g.C_per_group(), panel.data + panel.rows * plan_.row_elements);
    }
  }

  // offset: of the panel's first output among the column's sums.
  void multiply(const Panel& panel, const Column<A>& column, int64_t offset) const {
    const int64_t Cg = o_.g.C_per_group(), row_depth = o_.g.w.kernel * Cg;
    for (int64_t b = 0; b < plan_.blocks(); ++b) {
      const Block block = product_.block(b);
      const Terms left = product_.terms(block, panel.taps_h, panel.taps_w);
      if (left.none() && !block.first) continue;
      TileArgs<A> args = product_.args(column, block);
      const A* const from = panel.data + left.rows.begin * row_depth + left.taps.begin * Cg + left.inner.begin;
      args.set_a(from, plan_.row_elements, row_depth, Cg, 1);
      args.b = product_.weights_of(column, left);
      args.set_sums(left.none() ? 0 : left.rows.size(), left.taps.size(), left.inner.size());
      args.c = column.sums.data + offset;
      args.c_m = column.sums.w;
      column.kernels[panel.rows - 1](args);
    }
  }

  const PanelPlan& plan_;
  const Operands<S, A>& o_;
  DenseProduct<S, A> product_;
};

}  // namespace nhwc_conv
