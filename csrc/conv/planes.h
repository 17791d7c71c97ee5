// The dense runner for groups whose outputs fill no vector: lanes run along a row of outputs instead. Channels are
// staged in planes, where a row's pixels are neighbours; tiles of output channels by pixels are transposed back.
#pragma once

#include "dense.h"
#include "lanewise_plan.h"

namespace nhwc_conv {

struct PlanesPlan : DensePlan {
  ColumnTiles across;  // the tiles of a row of outputs
  int64_t width;       // from one row of a plane to the next
  int64_t item_groups, item_height;
  int64_t staged_elements, row_elements;  // of the scratch: planes, and a row of sums; of the result's, the rest
};

// Of one item: as many channels as copies transpose at once.
template <class A> int64_t plane_groups(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  return clamp(ceil_div(2 * kernels.family[0].lanes, min(g.C_per_group(), g.O_per_group())), 1, g.groups);
}

template <class A> int64_t plane_width(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const int64_t lanes = kernels.family[0].lanes;
  return ceil_div(g.w.span(g.w.output), lanes) * lanes;
}

// Groups whose outputs fill no vector, and rows of outputs that fill one: there lanes run along the rows, if enough
// products share the work of staging x and of transposing results. Tiles of output channels would be of vectors half as
// wide, and where outputs fill more than one of those, of two that overlap.
template <class A> bool takes_planes(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  const int64_t lanes = kernels.family[0].lanes, size = sizeof(A);
  if (kernels.reduction_step > 1) return false;  // steps that end with a group would be short
  // Better than lanes over all groups, which take a copy of each input for every output of its group.
  if (g.O_per_group() <= kMaxDotFamilies && !is_lanewise(kernels, g)) {
    // Lanes along the reduction are better, but for the end of a run that fills no vector.
    const int64_t run = (g.w.dilation == 1 ? g.w.kernel : 1) * g.C_per_group();
    const bool whole = run >= kernels.dot_lanes && run % kernels.dot_lanes == 0;
    if (g.groups > 1 || whole || run >= kLongDotRun * kernels.dot_lanes) return false;
  }
  if (g.w.stride != 1 || g.w.output < lanes) return false;
  if (g.groups == 1 && g.taps() < kFewestPlaneTaps) return false;
  const int64_t few_outputs = (g.groups == 1 ? lanes - 1 : lanes) / 2;
  if (g.O_per_group() > (g.depth() >= kManyPlaneProducts ? lanes - 1 : few_outputs)) return false;
  if ((g.w.kernel - 1) * g.w.dilation > g.w.output) return false;
  // Rows between taps far apart would be staged for each row of outputs.
  const int64_t row_bytes = plane_groups(kernels, g) * g.C_per_group() * plane_width(kernels, g) * size;
  if (g.h.dilation > 1 && 2 * (g.h.kernel - 1) * g.h.dilation * row_bytes > kPlaneGapBytes) return false;
  return g.h.reach(1) * row_bytes <= kPlaneRowBytes;
}

// Items of some groups, and of rows whose planes stay in the second-level cache.
template <class S, class A>
PlanesPlan make_planes_plan(const Kernels<S, A>& kernels, const ConvGeometry& g, const DensePlan& dense, int threads,
                            const Result<S, Sum<A>>& result) {
  PlanesPlan plan = {dense};
  plan.runner = plan.source = "planes";
  const int64_t OH = max(g.h.output, 1), halo = (g.h.kernel - 1) * g.h.dilation;
  plan.across = choose_columns(kernels, g.w.output, g.O_per_group());
  plan.rows = min(g.O_per_group(), widest_family(kernels, plan.across).max_rows);
  plan.tile_columns = plan.across.widest();
  plan.width = plane_width(kernels, g);
  plan.item_groups = plane_groups(kernels, g);
  const int64_t row = plan.item_groups * g.C_per_group() * plan.width;
  const int64_t rows = kItemInputBytes / (row * static_cast<int64_t>(sizeof(A)));
  plan.item_height = clamp((rows - halo) / g.h.stride, 1, OH);
  const int64_t others = g.N * ceil_div(g.groups, plan.item_groups);
  plan.item_height = rows_of_items(OH, plan.item_height, others, threads, kStagedAgain * g.h.shared());
  const int64_t outputs = plan.item_groups * g.O_per_group();
  plan.staged_elements = g.h.reach(plan.item_height) * row;
  plan.row_elements = outputs * plan.across.padded_columns();
  plan.scratch_elements =
      plan.staged_elements + plan.row_elements + result.scratch_elements(outputs * plan.item_height * g.w.output);
  return plan;
}

template <class S, class A> class PlanesRunner {
 public:
  PlanesRunner(const PlanesPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o), product_(plan, o) {}

  int64_t pack_items() const { return product_.pack_items(); }
  void pack(int64_t item) const { product_.weights.pack(item); }
  int64_t items() const {
    return ceil_div(o_.g.groups, plan_.item_groups) * o_.g.N * ceil_div(o_.g.h.output, plan_.item_height);
  }

  void run(int64_t item, Sum<A>* scratch) const {
    const ConvGeometry& g = o_.g;
    const int64_t Cg = g.C_per_group(), Og = g.O_per_group();
    const int64_t shares = ceil_div(g.groups, plan_.item_groups), blocks = ceil_div(g.h.output, plan_.item_height);
    const Range groups = share_of(g.groups, item % shares, shares);
    const int64_t n = item / shares % g.N;
    const Range ys = share_of(g.h.output, item / shares / g.N, blocks), rows = g.h.inputs(ys);
    const Range channels = {groups.begin * Cg, groups.end * Cg};
    const Region outputs = {ys, {0, g.w.output}, {groups.begin * Og, groups.end * Og}};
    A* const planes = elements_in<A>(scratch);
    stage_planes(o_.kernels, g.w, o_.x, n, rows, channels, plan_.width, planes);
    Sum<A>* const row = scratch + plan_.staged_elements;
    const ImageView<Sum<A>> sums = o_.result.sums(n, outputs, row + plan_.row_elements);
    TileArgs<A> args = product(product_.column(groups.begin, 0, sums), channels.size());
    const A* const weights = args.a;
    const int64_t next_group = groups.size() > 1 ? product_.column(groups.begin + 1, 0, sums).args.b - weights : 0;
    for (int64_t y = ys.begin; y < ys.end; ++y) {
      const Range taps = g.h.taps(y);
      const int64_t from = g.h.input_of(y, taps.begin) - rows.begin;
      args.I = taps.size();
      args.a = weights + taps.begin * args.a_i;
      args.b = taps.empty() ? planes : planes + from * channels.size() * plan_.width;
      args.c = row;
      multiply(args, groups, next_group);
      Sum<A>* const to = sums.data + y * sums.h + outputs.channels.begin;
      o_.kernels.rearrange({row, 1, args.c_m, to, sums.w, g.w.output, outputs.channels.size()});
    }
    o_.result.finish(o_.kernels, n, outputs, sums);
  }

 private:
  // What all products of an item have in common. Weights are neighbours along the outputs or, as the dot form has them,
  // along the reduction.
  TileArgs<A> product(const Column<A>& column, int64_t channels) const {
    TileArgs<A> args = {};
    const TileArgs<A>& weights = column.args;
    args.set_a(weights.b, weights.b_n, weights.b_i, weights.b_j, weights.b_k);
    args.set_b(nullptr, o_.g.h.dilation * channels * plan_.width, o_.g.w.dilation, plan_.width);
    args.set_sums(0, o_.g.w.kernel, o_.g.C_per_group());
    args.c_m = plan_.across.padded_columns();
    args.mode = o_.bias == nullptr ? Mode::fresh : Mode::go_on;
    return args;
  }

  // One row of outputs of some groups, [o][x]. Groups innermost: what each tile needs is found once for them.
  void multiply(const TileArgs<A>& first, Range groups, int64_t next_group) const {
    const int64_t Og = o_.g.O_per_group(), next_planes = o_.g.C_per_group() * plan_.width;
    for (int64_t o = 0; o_.bias != nullptr && o < groups.size() * Og; ++o) {
      for (int64_t x = 0; x < o_.g.w.output; ++x) first.c[o * first.c_m + x] = o_.bias[groups.begin * Og + o];
    }
    for (int64_t tile = 0; tile < plan_.across.tiles; ++tile) {
      const int64_t x = plan_.across.begin(tile);
      const TileFamily<A>& family = family_of(o_.kernels, plan_.across, tile);
      in_tiles(Og, family.most_rows(Og), [&](int64_t o, int64_t m) {
        const TileFn<A> kernel = (plan_.form.dot ? family.rows : family.columns_of_a)[m - 1];
        TileArgs<A> args = first;
        args.columns = plan_.across.end(tile) - x;
        args.a += o * args.a_m;
        args.b += x;
        args.c += o * args.c_m + x;
        for (int64_t group = 0; group < groups.size(); ++group) {
          kernel(args);
          args.a += next_group;
          args.b += next_planes;
          args.c += Og * args.c_m;
        }
      });
    }
  }

  const PlanesPlan& plan_;
  const Operands<S, A>& o_;
  DenseProduct<S, A> product_;
};

}  // namespace nhwc_conv
