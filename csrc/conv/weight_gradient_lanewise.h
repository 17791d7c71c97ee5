// The weight gradient where lanes run over the channels of all groups: rows of a tile are taps of one kernel row, with
// all channels of each in grouped kernels, or channels of one tap, and the reduction runs over output pixels.
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
    plan.tile = {grouped ? kMaxGradientTaps : kMaxLanewiseRows, layout.item_channels};
    plan.partials = partials;
    return plan;
  }
};

template <class S, class A> LanewiseGradientPlan make_lanewise_gradient_plan(const GradientOperands<S, A>& o) {
  const ConvGeometry& g = o.g;
  LanewiseGradientPlan plan = {};
  // As for one thread and contiguous channels, whatever they are: blocks of pixels show in the last bits.
  plan.grouped = is_grouped<A>(o.kernels, g);
  plan.layout.staged = plan.layout.repeats = !plan.grouped && !groups_are_channels(g);
  choose_items<S, A>(g, o.x, false, plan.grouped ? kGroupedBlockBytes * g.h.stride * g.w.stride : kLanewiseBlockBytes,
                     1, plan);
  // Lines of the next columns stand where processors do not foresee them, and where they are pushed out early.
  const bool apart = pixel_bytes<A>(g) % (kAlignedLines * kLineBytes) == 0;
  plan.order.asks_ahead = plan.grouped && apart && g.N * image_bytes<A>(g) >= kAskedImageBytes;
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

  // Kernels of one column, whose rows may be those of a tile.
  bool is_column_kernel() const { return o_.g.w.kernel == 1 && !plan_.layout.repeats; }
  int64_t most_taps() const { return plan_.grouped ? kMaxGradientTaps : kMaxLanewiseRows; }

  void add_block(const Block& block, Mode mode) const {
    const int64_t at_once = plan_.slides ? 3 : is_column_kernel() ? most_taps() : 1;
    walk_tiles(o_.g.h, at_once, block.outputs.ys, mode,
               [&](Range taps, Range outputs, Mode mode) { add_rows(block, {taps, outputs}, mode); });
  }

  // Calls add(taps, outputs, mode) for so many taps of an axis at a time, or for each where only some see an output.
  template <class Add>
  static void walk_tiles(const Axis& axis, int64_t at_once, Range outputs, Mode mode, const Add& add) {
    in_tiles(axis.kernel, at_once, [&](int64_t first, int64_t count) {
      const Range taps = {first, first + count};
      Range together = outputs;
      for (int64_t tap = taps.begin; tap < taps.end; ++tap) together = together.within(axis.outputs(tap));
      walk_taps(axis, taps, outputs, together, mode, add);
    });
  }

  void add_rows(const Block& block, const Rows& rows, Mode mode) const {
    if (rows.ys.empty() && mode == Mode::add) return;  // as add_products has it, but once for all taps
    const Axis& w = o_.g.w;
    const Range xs = block.outputs.xs;
    if (plan_.layout.repeats) {
      for (int64_t j = 0; j < w.kernel; ++j) {
        const Range seen = w.outputs(j).within(xs);
        in_tiles(o_.g.C_per_group(), kMaxLanewiseRows, [&](int64_t channel, int64_t count) {
          add_products(block, rows, seen, {j, j + 1}, {channel, channel + count}, mode);
        });
      }
      return;
    }
    walk_tiles(w, most_taps(), xs, mode,
               [&](Range taps, Range outputs, Mode mode) { add_products(block, rows, outputs, taps, {0, 1}, mode); });
  }

  // For each of these kernel rows, over the outputs xs: some taps, or some channels of one, of which grouped kernels
  // take all. Kernels of one column have their rows in one tile.
  void add_products(const Block& block, const Rows& rows, Range xs, Range taps, Range channels, Mode mode) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const LanesView<A>& x = block.x;
    const ImageView<const A>& grad = block.grad;
    const bool nothing = rows.ys.empty() || xs.empty(), by_channels = plan_.layout.repeats;
    if (nothing && mode == Mode::add) return;
    const int64_t tap = o_.tap(), down = h.dilation * x.h, along = is_column_kernel() ? down : w.dilation * x.w;
    const A *a = x.data, *b = grad.data;
    if (!nothing) {
      a += (h.input_of(rows.ys.begin, rows.taps.begin) - x.ys.begin) * x.h +
           (w.input_of(xs.begin, taps.begin) - x.xs.begin) * x.w + channels.begin * x.k;
      b += rows.ys.begin * grad.h + xs.begin * grad.w + block.outputs.channels.begin;
    }
    TileArgs<A> args = {};
    // Rows of outputs are steps of j, or of i in grouped kernels, whose j is a channel.
    const int64_t height = rows.ys.size();
    args.set_sums(plan_.grouped ? height : 1, plan_.grouped ? o_.g.C_per_group() : height, xs.size());
    args.set_a(a, nothing ? 0 : by_channels ? x.k : along, h.stride * x.h, h.stride * x.h, w.stride * x.w);
    args.set_b(b, grad.h, grad.h, grad.w);
    args.c = block.dw + (rows.taps.begin * w.kernel + taps.begin) * tap + channels.begin * o_.channel() +
             block.outputs.channels.begin;
    args.c_m = by_channels ? o_.channel() : tap;
    args.c_j = o_.channel();
    args.columns = block.outputs.channels.size();
    args.mode = mode;
    args.asks_ahead = plan_.order.asks_ahead;
    args.set_tiles(is_column_kernel() ? 1 : rows.taps.size(), down, w.kernel * tap);
    const int64_t count = (by_channels ? channels : is_column_kernel() ? rows.taps : taps).size();
    if (plan_.grouped) return grouped_kernels(o_.kernels, o_.g).gradient[count - 1](args);
    lanewise_family<A>(o_.kernels, args.columns).rows[count - 1](args);
  }

  const LanewiseGradientPlan& plan_;
  const GradientOperands<S, A>& o_;
};

}  // namespace nhwc_conv
