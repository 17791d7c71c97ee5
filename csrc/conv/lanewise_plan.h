// When lanes run over the channels of all groups, and in which items.
#pragma once

#include "lanewise_order.h"
#include "operands.h"
#include "parallel.h"
#include "stage.h"

namespace nhwc_conv {

// Whether the lanewise kernels serve this geometry: too few output channels a group for the narrowest vector, or just
// enough for it where there are wider ones and repeating its channels is cheap. Not where a group's input channels fill
// any vector: lanes over them leave none idle, and nothing is staged.
template <class A> bool is_lanewise(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const int64_t size = sizeof(A), group_bytes = g.O_per_group() * size;
  if (g.groups == 1 || group_bytes > kNarrowestVectorBytes) return false;
  if (g.C_per_group() * size >= kWidestVectorBytes) return false;
  const bool has_wider = kernels.lanewise[0].lanes * size > kNarrowestVectorBytes;
  return group_bytes < kNarrowestVectorBytes || (has_wider && g.C_per_group() * size <= kNarrowestVectorBytes);
}

// Whether the grouped kernels serve it: groups of as many outputs as inputs, of which the widest vector holds several,
// or one, whole. They read pixels as they lie.
template <class A> bool is_grouped(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const int64_t width = g.C_per_group(), lanes = kernels.lanewise[0].lanes;
  return g.O == g.C && 1 < width && width < g.C && lanes % width == 0 && lanes <= g.C;
}

// Whether lanes run over the channels of all groups.
template <class A> bool takes_lanes(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  return is_grouped(kernels, g) || is_lanewise(kernels, g);
}

// Whether Winograd's algorithm may be faster: where a group fills the vectors that its products are made of.
template <class A> bool winograd_rivals_lanes(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  return is_grouped(kernels, g) && g.C_per_group() == kernels.lanewise[0].lanes;
}

// Whether tiles of half steps make the input gradient of this layer: at stride 2, of vectors of single channels.
template <class A> bool takes_half_steps(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  return g.w.kernel == kHalfSteps && g.w.stride == 2 && groups_are_channels(g) && g.C >= kernels.lanewise[0].lanes;
}

// Whether neighbouring output channels of all groups are neighbours in memory, as the kernels want weights.
template <class S, class A> bool has_lanes_in_order(const ConvGeometry& g, const WeightView<const S>& w) {
  if (!std::is_same_v<S, A>) return false;
  return g.O_per_group() == 1 ? w.group == 1 : w.o == 1 && w.group == g.O_per_group();
}

// Outputs of one image, whose channels are whole groups.
struct LanewiseItem {
  int64_t n;
  Region outputs;
};

struct LanewisePlan : PlanMemory {
  LanesLayout layout;
  bool pack_weights;
  int64_t packed_row;               // from one tap and channel of packed weights to the next
  int64_t item_height, item_width;  // outputs
  // Channels that do not fill vectors: so many pixels side by side do, with as many copies of the weights, which stand
  // behind the staged input. Else one, and no copies.
  int64_t pixels_abreast, repeated_elements;
  LanewiseOrder order;
  bool finishes;  // tiles make results of their sums; else these are finished
  bool grouped;   // by grouped kernels, whose reduction has channels outside of kernel columns

  // Items are regions of pixels over all images, and within each, shares of the channels.
  int64_t regions(const ConvGeometry& g) const {
    return g.N * ceil_div(g.h.output, item_height) * ceil_div(g.w.output, item_width);
  }
  int64_t channel_shares(const ConvGeometry& g) const { return ceil_div(g.O, layout.item_channels); }
  int64_t items(const ConvGeometry& g) const { return regions(g) * channel_shares(g); }

  LanewiseItem item(const ConvGeometry& g, int64_t index) const {
    const int64_t down = ceil_div(g.h.output, item_height), across = ceil_div(g.w.output, item_width);
    const int64_t shares = channel_shares(g), region = index / shares, Og = g.O_per_group();
    const int64_t y = region / across % down * item_height, x = region % across * item_width;
    const Range groups = share_of(g.groups, index % shares, shares);
    return {region / across / down,
            {Range{y, y + item_height}.within({0, g.h.output}), Range{x, x + item_width}.within({0, g.w.output}),
             Range{groups.begin * Og, groups.end * Og}}};
  }

  Explanation explain(const ConvGeometry& g) const {
    Explanation plan = {"lanewise", "lanewise", layout.staged ? "lanes" : "view", pack_weights};
    plan.reduction = {g.h.kernel, g.w.kernel, g.C_per_group()};
    if (grouped) plan.reduction = {g.h.kernel, g.C_per_group(), g.w.kernel};
    plan.tile = {kMaxLanewiseRows, layout.item_channels * pixels_abreast};
    return plan;
  }
};

// Whether kernels are so high that rows are read again many times, by the tiles of rows of outputs below each other, of
// pixels that push each other out meanwhile.
template <class A> bool loses_rows(const ConvGeometry& g) {
  return g.h.kernel >= kHighKernel && cache_sets(pixel_bytes<A>(g)) <= kFewestSpreadSets;
}

// Whether what one tile of pixels reads falls into so few sets of the first-level cache that lines are lost before they
// are read again: by the next tile, or, where two vectors do not hold a line, by those that read its other half.
template <class A> bool collides(const Arithmetic<A>& kernels, const ConvGeometry& g, int64_t pixel) {
  const int64_t step = pixel * static_cast<int64_t>(sizeof(A));
  if (step % kLineBytes != 0 || (loads_lines(kernels) && !loses_rows<A>(g))) return false;
  const LanewiseFamily<A>& widest = kernels.lanewise[0];
  const int64_t parts = ceil_div(kLineBytes, 2 * widest.lanes * static_cast<int64_t>(sizeof(A)));
  const int64_t pixels = g.h.kernel * ((widest.rows_of_many - 1) * g.w.stride + g.w.kernel);
  return parts * pixels > kCacheWays * cache_sets(step);
}

// Whether rows are staged with their padding: always, or where that is faster.
enum class RowPadding { always, if_better };

// By the geometry alone: zeros of the padding times infinite weights show. Where most of a row lacks some tap, or a
// quarter, of groups with several products a tap, products with zero cost less than a run of one output for each. Long
// rows under kernels dilated far lack taps too, in few runs. Staging an image that has to come from far costs more than
// what collides, but for high kernels.
template <class A> bool pads_rows(const Arithmetic<A>& kernels, const ConvGeometry& g, RowPadding padding) {
  const int64_t outputs = is_grouped(kernels, g) ? 3 * g.w.output : 2 * g.w.output;
  const bool has_short_runs = g.w.output < kLongRun * g.w.kernel;
  const bool is_short = g.w.kernel > 1 && has_short_runs && 4 * g.w.interior().size() <= outputs;
  const bool pays = image_bytes<A>(g) < kFarImageBytes || loses_rows<A>(g);
  const bool may_stage = groups_are_channels(g) && !shares_little<A>(g) && pays;
  const bool better = is_short || (may_stage && collides(kernels, g, g.C));
  return (padding == RowPadding::always || better) && g.w.span(g.w.output) <= kMostPadding * g.w.input + kAnyPadding;
}

// Pixels of a row that tiles take for one: as few as fill whole vectors, where a pixel does not. Neighbouring outputs
// then share no loads, as they do not under dilated kernels anyway, but of large pixels, of which tiles take others.
template <class A> int64_t pixels_abreast(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const int64_t lanes = kernels.lanewise[0].lanes;
  if (!groups_are_channels(g) || g.w.stride > 1 || g.w.apart > 1) return 1;
  const bool is_dilated = g.w.dilation > 1 && pixel_bytes<A>(g) < kSharedPixelBytes;
  if (g.C >= 2 * lanes && !is_dilated) return 1;
  int64_t pixels = 1;
  while (pixels * g.C % lanes != 0) pixels *= 2;
  const bool pays = g.C < lanes || is_dilated || pixels == 2;
  return pays && pixels <= g.w.output ? pixels : 1;
}

// Lanes of an item whose input is staged. Where the pixels of a channel are neighbours, those of its rows should be
// read together: as many channels as fit with all of their pixels, down to as many as are transposed at once.
inline int64_t staged_lanes(const ConvGeometry& g, bool planar, int64_t elements) {
  if (!planar) return kStagedLanes;
  return clamp(elements / max(g.h.span(g.h.output) * g.w.span(g.w.output), 1), kFewestPlanarLanes, kStagedLanes);
}

// Items whose input takes so many bytes, and the scratch that it is staged in, if it is. planar: as for staged_lanes.
template <class S, class A>
void choose_items(const ConvGeometry& g, const ImageView<const S>& x, bool planar, int64_t bytes, int threads,
                  LanewisePlan& plan) {
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group(), OH = max(g.h.output, 1), OW = max(g.w.output, 1);
  LanesLayout& layout = plan.layout;
  const int64_t elements = bytes / static_cast<int64_t>(sizeof(A));
  const int64_t lanes = staged_lanes(g, planar, elements);
  // Grouped kernels and half steps want a vector of lanes, of the smallest of nearly equal shares too.
  const int64_t fewest =
      plan.grouped || g.w.apart > 1 ? 2 * kWidestVectorBytes / static_cast<int64_t>(sizeof(A)) : kFewestStagedGroups;
  const int64_t copies = layout.repeats ? Cg : 1;
  const int64_t groups = layout.staged ? ceil_div(max(lanes / copies, fewest), Og) : g.groups;
  layout.item_channels = min(groups, g.groups) * Og;
  const int64_t pixel = layout.staged ? layout.pixel<A>(g) : g.O;
  const int64_t across = clamp(elements / (pixel * (g.h.reach(1) + 1)), 1, 1 << 30);
  const int64_t halo = (g.w.kernel - 1) * g.w.dilation;
  plan.item_width = clamp((across - halo) / g.w.stride, kFewestAcross, max(OW, kFewestAcross));
  if (2 * plan.item_width > OW) plan.item_width = OW;
  const int64_t width = layout.across(g).reach(plan.item_width);
  plan.item_height = clamp(elements / max(pixel * width * g.h.stride, 1), 1, OH);
  // Rows between the taps of dilated kernels are staged too: fewer outputs than those would not be worth it.
  if (layout.staged && g.h.dilation > 1) {
    plan.item_height = clamp((g.h.kernel - 1) * g.h.dilation / g.h.stride, plan.item_height, OH);
  }
  const int64_t others = g.N * plan.channel_shares(g) * ceil_div(OW, plan.item_width);
  const double again = (layout.staged ? kStagedAgain : kReadAgain) * g.h.shared();
  plan.item_height = rows_of_items(OH, plan.item_height, others, threads, again);
  layout.staged = layout.staged || !can_view<A>(x);
  if (!layout.staged) return;
  const bool stages_rows = layout.repeats && !can_view<A>(x);
  layout.row_elements = stages_rows ? g.w.reach(plan.item_width) * (layout.item_channels / Og * Cg) : 0;
  layout.elements = g.h.reach(plan.item_height) * width * layout.pixel<A>(g) + layout.row_elements;
}

// lanes_in_order: the weights can be read where they lie.
template <class S, class A>
LanewisePlan make_lanewise_plan(const Kernels<S, A>& kernels, const ConvGeometry& g, const ImageView<const S>& x,
                                bool lanes_in_order, int threads, RowPadding padding, const Result<S, A>& result) {
  LanewisePlan plan = {};
  plan.grouped = is_grouped<A>(kernels, g);
  plan.layout.repeats = !plan.grouped && !groups_are_channels(g);
  plan.layout.padded = g.w.apart == 1 && pads_rows<A>(kernels, g, padding);
  plan.layout.staged = plan.layout.padded || plan.layout.repeats || !can_view<A>(x);
  const bool planar = x.w == 1 && x.c != 1;
  choose_items<S, A>(g, x, planar, plan.layout.staged ? kLanewiseItemBytes : kReadOnceBytes, threads, plan);
  if (!plan.layout.staged && goes_in_few_rows<A>(g)) plan.item_height = min(plan.item_height, few_rows(g));
  const int64_t pixel = plan.layout.staged ? plan.layout.pixel<A>(g) : g.C;
  plan.order = choose_order<A>(kernels, g, plan.layout.staged, pixel);
  const int64_t taps = g.taps();
  const bool rows_collide = plan.grouped
                                ? g.depth() > kCacheWays * cache_sets(g.O * static_cast<int64_t>(sizeof(A)))
                                : plan.layout.staged && meets_in_few_sets<A>(g.O) && collides<A>(kernels, g, g.O);
  plan.pack_weights = !lanes_in_order || rows_collide;
  plan.packed_row = spread<A>(g.O);
  plan.packed_elements = plan.pack_weights ? taps * g.C_per_group() * plan.packed_row : 0;
  plan.pixels_abreast = pixels_abreast<A>(kernels, g);
  plan.repeated_elements = plan.pixels_abreast > 1 ? (taps + 1) * plan.pixels_abreast * g.C : 0;
  plan.finishes = result.takes_finished_sums() && (std::is_same_v<S, A> || !(plan.grouped || g.w.apart > 1));
  const int64_t outputs = plan.item_height * plan.item_width * plan.layout.item_channels;
  plan.scratch_elements =
      plan.layout.elements + plan.repeated_elements + (plan.finishes ? 0 : result.scratch_elements(outputs));
  return plan;
}

}  // namespace nhwc_conv
