// The weight gradient where lanes run over the channels of all groups: rows of a tile are taps of one kernel row, or
// channels of one tap, and the reduction runs over output pixels.
#pragma once

#include "lanewise.h"
#include "partial_sums.h"

namespace nhwc_conv {

struct LanewiseGradientPlan : LanewisePlan {
  int64_t partials;
  // Taps stand as far apart as outputs: rows of x that all three kernel rows see are read once for them. By the
  // geometry alone: the other rows are summed after them.
  bool slides;
  bool stages_grad;

  Explanation explain() const {
    Explanation plan = {"weight_gradient_lanewise", "lanewise", layout.staged ? "lanes" : "view"};
    plan.reduction = {item_height, 1, item_width};
    plan.tile = {kMaxLanewiseRows, layout.item_channels};
    plan.partials = partials;
    return plan;
  }
};

template <class S, class A> LanewiseGradientPlan make_lanewise_gradient_plan(const GradientOperands<S, A>& o) {
  const ConvGeometry& g = o.g;
  LanewiseGradientPlan plan = {};
  // As for one thread and contiguous channels, whatever they are: blocks of pixels show in the last bits.
  plan.layout.staged = plan.layout.repeats = !groups_are_channels(g);
  choose_items<S, A>(g, o.x, false, kLanewiseBlockBytes, 1, plan);
  plan.stages_grad = !can_view<A>(o.grad);
  plan.slides = g.C_per_group() == 1 && g.h.kernel == 3 && g.w.kernel == 3 && g.w.stride == g.w.dilation &&
                !meets_in_few_sets<A>(g.C);
  plan.partials = clamp(plan.regions(g), 1, kMaxPartials);
  plan.packed_elements = (plan.partials - 1) * o.elements();
  plan.scratch_elements = plan.layout.elements;
  if (plan.stages_grad) plan.scratch_elements += plan.item_height * plan.item_width * plan.layout.item_channels;
  return plan;
}

template <class S, class A> class LanewiseWeightGradient {
 public:
  LanewiseWeightGradient(const LanewiseGradientPlan& plan, const GradientOperands<S, A>& o) : plan_(plan), o_(o) {}

  void run(const Parallel& parallel, A* workspace) const {
    const int64_t shares = plan_.channel_shares(o_.g);
    const auto sum = [&](int64_t share, Range blocks, A* dw, A* scratch) {
      for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        add_block(read(b * shares + share, dw, scratch), b == blocks.begin ? Mode::fresh : Mode::add);
      }
    };
    add_partial_sums(o_, plan_, parallel, shares, plan_.regions(o_.g), o_.dw, workspace, sum);
  }

 private:
  // A block of pixels, and the sums that its products are added to.
  struct Block {
    Region outputs;
    LanesView<A> x;
    ImageView<const A> grad;
    A* dw;
  };
  // Taps of some kernel rows, over the outputs ys.
  struct Rows {
    Range taps, ys;
  };

  Block read(int64_t item, A* dw, A* scratch) const {
    const auto [n, outputs] = plan_.item(o_.g, item);
    const LanesView<A> x = read_lanes(o_.kernels, plan_.layout, o_.g, o_.x, n, outputs, scratch);
    A* const staged = scratch + plan_.layout.elements;
    return {
        outputs, x,
        plan_.stages_grad ? stage_pixels(o_.kernels, o_.grad, n, outputs, staged) : of_image(in_place<A>(o_.grad), n),
        dw};
  }

  void add_block(const Block& block, Mode mode) const {
    const Axis& h = o_.g.h;
    const Range ys = block.outputs.ys, together = h.interior().within(ys);
    if (plan_.slides && !together.empty()) {
      walk_taps(h, {0, 3}, ys, together, mode,
                [&](Range taps, Range outputs, Mode mode) { add_rows(block, {taps, outputs}, mode); });
      return;
    }
    for (int64_t i = 0; i < h.kernel; ++i) add_rows(block, {{i, i + 1}, h.outputs(i).within(ys)}, mode);
  }

  void add_rows(const Block& block, const Rows& rows, Mode mode) const {
    const Axis& w = o_.g.w;
    const Range xs = block.outputs.xs;
    if (o_.g.C > o_.g.groups) {
      for (int64_t j = 0; j < w.kernel; ++j) {
        add_products(block, rows, w.outputs(j).within(xs), j, o_.g.C_per_group(), mode);
      }
      return;
    }
    in_tiles(w.kernel, kMaxLanewiseRows, [&](int64_t first, int64_t count) {
      Range together = xs;
      for (int64_t j = first; j < first + count; ++j) together = together.within(w.outputs(j));
      walk_taps(w, {first, first + count}, xs, together, mode, [&](Range taps, Range outputs, Mode mode) {
        add_products(block, rows, outputs, taps.begin, taps.size(), mode);
      });
    });
  }

  // For each of these kernel rows, over the outputs xs: so many taps from j on, or channels of tap j.
  void add_products(const Block& block, const Rows& rows, Range xs, int64_t j, int64_t count, Mode mode) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const LanesView<A>& x = block.x;
    const ImageView<const A>& grad = block.grad;
    const bool nothing = rows.ys.empty() || xs.empty();
    if (nothing && mode == Mode::add) return;
    const int64_t tap = o_.tap(), apart = o_.g.C > o_.g.groups ? x.k : w.dilation * x.w;
    const A *a = x.data, *b = grad.data;
    if (!nothing) {
      a += (h.input_of(rows.ys.begin, rows.taps.begin) - x.ys.begin) * x.h +
           (w.input_of(xs.begin, j) - x.xs.begin) * x.w;
      b += rows.ys.begin * grad.h + xs.begin * grad.w + block.outputs.channels.begin;
    }
    A* const c = block.dw + (rows.taps.begin * w.kernel + j) * tap + block.outputs.channels.begin;
    TileArgs<A> args = {};
    args.set_sums(1, rows.ys.size(), xs.size());
    args.set_a(a, nothing ? 0 : apart, 0, h.stride * x.h, w.stride * x.w);
    args.set_b(b, 0, grad.h, grad.w);
    args.c_m = o_.g.C > o_.g.groups ? o_.channel() : tap;
    args.columns = block.outputs.channels.size();
    args.mode = mode;
    args.tiles = rows.taps.size();
    args.a_t = h.dilation * x.h;
    args.c_t = w.kernel * tap;
    in_tiles(count, kMaxLanewiseRows, [&](int64_t row, int64_t m) {
      args.a = a + row * args.a_m;
      args.c = c + row * args.c_m;
      lanewise_family<A>(o_.kernels, args.columns).rows[m - 1](args);
    });
  }

  const LanewiseGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
};

}  // namespace nhwc_conv
