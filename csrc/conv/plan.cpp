#include "plan.h"

namespace nhwc_conv {

namespace {

// Bytes of weights, and of input, that one pass may use of a second-level cache: a large part of half a megabyte, a
// smaller one of more.
constexpr int64_t kWeightBytes = 384 * 1024;
constexpr int64_t kInputBytes = 192 * 1024;
// Multiply-adds in flight that keep one unit busy.
constexpr double kLatency = 5;
// Vectors in the widest tile of any instruction set.
constexpr int64_t kWidestTile = 4;
// Weights that items take in pieces: what fills a second-level cache, for fewer pixels than would share them. For more
// than a few, they must be many times that to be worth it. Packed ahead of the call they are read one line after the
// other, which processors foresee: there it takes few pixels too.
constexpr int64_t kManyWeightBytes = 1024 * 1024, kVeryManyWeightBytes = 4 * 1024 * 1024;
constexpr int64_t kVeryFewPixels = 128, kFewPixels = 256, kSharingPixels = 1024;
// Products in a row of a piece. Flat ones stay in the first-level cache; but with a large input, which is read anew for
// each, as deep ones as blocks of the reduction are allowed to be.
constexpr int64_t kFlatPiece = 128, kDeepPiece = 1536, kSmallInputBytes = 512 * 1024;
// Bytes of such a row that one item should read at least.
constexpr int64_t kWideRowBytes = 1024;
// More than any memory holds: a view of stride 0. To pack it at once fails at once; block by block would not end.
constexpr int64_t kImpossibleBytes = int64_t(1) << 40;
// Taps that make up for copying x into planes, and back; bytes of the planes that one row of outputs reads.
constexpr int64_t kFewestPlaneTaps = 4, kPlaneBytes = 1024 * 1024;
// Channels of a group so few that copying them into a window, where the taps of a row are one run, costs less than a
// loop for each tap.
constexpr int64_t kShortBytes = 32;
// Channels of a group so few that other groups use the same pages, and what the processor fetches by itself, before
// they are gone. The weights of wider ones are worth keeping.
constexpr int64_t kNarrowBytes = 128;
// Bytes of a row of a weight gradient's panel of columns, where there are several panels: it is read again for every
// tile of rows, and with the rows of a block of 256 pixels it stays in a first-level cache (Emerald Rapids: 3x3 layers
// 1.13 times as fast as with twice the width).
constexpr int64_t kPanelWidth = 128;

}  // namespace

// The fewest cycles. A step of the reduction in a tile of m rows and v vectors takes m*v multiply-adds; loads of B and
// of A run beside them and only count a little.
template <class T>
ColumnTiles choose_columns(const Kernels<T>& kernels, int64_t columns, int64_t run, bool of_weight_gradient) {
  int lanes = 1;
  for (int f = kernels.families - 1; f >= 0; --f) {
    if (kernels.family[f].lanes <= columns) lanes = kernels.family[f].lanes;
  }
  const int64_t total = ceil_div(columns, lanes);
  const bool partial = columns % lanes != 0;
  ColumnTiles best = {columns, lanes, 1, total, total};
  double best_cost = -1;
  for (int f = 0; f < kernels.families; ++f) {
    const TileFamily<T>& family = kernels.family[f];
    if (family.lanes != lanes || family.vectors > total || (partial && total > 1 && family.vectors == 1)) continue;
    const ColumnTiles candidate = {columns, lanes, family.vectors, total, ceil_div(total, family.vectors)};
    const int64_t width = family.vectors * lanes * static_cast<int64_t>(sizeof(T));
    if (of_weight_gradient && candidate.tiles > 1 && width > kPanelWidth) continue;
    const auto cost_of = [&](int64_t v) {
      const int64_t pieces =
          ceil_div(run, of_weight_gradient ? family.max_rows : family_of(kernels, lanes, v).max_rows);
      const double fma = double(run) / pieces * v;
      return pieces * ((fma > kLatency ? fma : kLatency) + 0.05 * v + 0.5) + 0.02 * run;
    };
    // Tiles have two widths. Adding them up one by one would not end for more columns than any memory holds.
    const int64_t narrow = total / candidate.tiles, wider = total % candidate.tiles;
    double cost = (candidate.tiles - wider) * cost_of(narrow);
    if (wider > 0) cost += wider * cost_of(narrow + 1);
    // One tile of columns needs no packing.
    if (candidate.tiles == 1) cost *= 0.98;
    if (best_cost < 0 || cost < best_cost) {
      best = candidate;
      best_cost = cost;
    }
  }
  return best;
}

int64_t inner_depth(Algorithm algorithm, const ConvGeometry& g) {
  return algorithm == Algorithm::im2col ? g.w.kernel * g.C_per_group() : g.C_per_group();
}

template <class T>
const TileFamily<T>& family_of(const Kernels<T>& kernels, int lanes, int64_t vectors) {
  int f = 0;
  while (kernels.family[f].lanes != lanes || kernels.family[f].vectors != vectors) ++f;
  return kernels.family[f];
}

template <class T>
DenseLayout dense_layout(const ConvGeometry& g, const ImageView<const T>& x, const WeightView<const T>& w) {
  const int64_t Cg = g.C_per_group();
  DenseLayout layout;
  layout.channels_contiguous = x.c == 1 || Cg == 1;
  layout.rows_contiguous = layout.channels_contiguous && (g.w.kernel == 1 || (g.w.dilation == 1 && x.w == Cg));
  layout.weights_usable = (w.o == 1 || g.O_per_group() == 1) && w.c > 0 && (g.w.kernel <= 1 || w.j == Cg * w.c) &&
                          (g.h.kernel <= 1 || w.i == g.w.kernel * Cg * w.c);
  return layout;
}

template <class T>
DenseForm choose_form(const Kernels<T>& kernels, int64_t columns, int64_t run, int64_t depth) {
  const ColumnTiles tiles = choose_columns(kernels, columns, run);
  const bool dot = columns <= kMaxDotFamilies && depth >= kernels.dot_lanes;
  return dot ? DenseForm{true, {columns, 1, static_cast<int>(columns), columns, 1}} : DenseForm{false, tiles};
}

namespace {

// As many channels as copies transpose at once.
template <class T>
int64_t plane_groups(const Kernels<T>& kernels, const ConvGeometry& g) {
  return clamp(ceil_div(2 * kernels.family[0].lanes, min(g.C_per_group(), g.O_per_group())), 1, g.groups);
}

template <class T>
int64_t plane_width(const Kernels<T>& kernels, const ConvGeometry& g) {
  const int64_t lanes = kernels.family[0].lanes;
  return ceil_div(g.w.span(g.w.output), lanes) * lanes;
}

// Items of some groups, and of rows whose planes stay in the second-level cache.
template <class T>
void choose_planes(const Kernels<T>& kernels, const ConvGeometry& g, int threads, DensePlan& plan) {
  const int64_t OH = max(g.h.output, 1);
  plan.across = choose_columns(kernels, g.w.output, g.O_per_group());
  plan.rows = min(g.O_per_group(), family_of(kernels, plan.across.lanes, plan.across.vectors).max_rows);
  plan.plane_width = plane_width(kernels, g);
  plan.item_groups = plane_groups(kernels, g);
  const int64_t row = plan.item_groups * g.C_per_group() * plan.plane_width;
  const int64_t rows = kInputBytes / (row * static_cast<int64_t>(sizeof(T))), halo = (g.h.kernel - 1) * g.h.dilation;
  plan.item_rows = clamp((rows - halo) / g.h.stride, 1, OH);
  const int64_t others = g.N * ceil_div(g.groups, plan.item_groups);
  if (threads > 1) plan.item_rows = clamp(ceil_div(OH * others, 4 * threads), 1, plan.item_rows);
  const int64_t sums = plan.item_groups * g.O_per_group() * plan.across.padded_columns();
  plan.scratch_elements = g.h.reach(plan.item_rows) * row + sums;
}

}  // namespace

template <class T>
bool takes_planes(const Kernels<T>& kernels, const ConvGeometry& g) {
  const int64_t lanes = kernels.family[0].lanes, size = sizeof(T);
  if (g.O_per_group() <= kMaxDotFamilies) {
    // Lanes along the reduction are better, but for the end of a run that fills no vector.
    const int64_t run = (g.w.dilation == 1 ? g.w.kernel : 1) * g.C_per_group();
    const bool whole = run >= kernels.dot_lanes && run % kernels.dot_lanes == 0;
    if (g.groups > 1 || whole || run >= 4 * kernels.dot_lanes) return false;
  }
  if (g.w.stride != 1 || g.w.output < lanes || 2 * g.O_per_group() > lanes - (g.groups == 1) ||
      g.h.kernel * g.w.kernel < kFewestPlaneTaps || (g.w.kernel - 1) * g.w.dilation > g.w.output) {
    return false;
  }
  // Rows between taps far apart would be copied for each row of outputs.
  const int64_t row_bytes = plane_groups(kernels, g) * g.C_per_group() * plane_width(kernels, g) * size;
  if (g.h.dilation > 1 && 2 * (g.h.kernel - 1) * g.h.dilation * row_bytes > kInputBytes) return false;
  return g.h.reach(1) * row_bytes <= kPlaneBytes;
}

template <class T>
DensePlan make_dense_plan(const Kernels<T>& kernels, const ConvGeometry& g, const DenseLayout& layout,
                          Algorithm algorithm, int threads, const DenseForm* prepacked) {
  const int64_t Cg = g.C_per_group(), size = sizeof(T);
  const int64_t taps = g.h.kernel * g.w.kernel, depth = taps * Cg;
  DensePlan plan = {};

  // By geometry alone, not by layout: the blocks below, and with them the bits of the result, follow from it.
  const bool rows_run_on = g.w.dilation == 1 || g.w.kernel == 1;
  const bool short_taps = g.w.kernel > 1 && Cg * size <= kShortBytes;
  const bool named = is_direct_by_name(algorithm);
  if (!named) algorithm = rows_run_on && (g.groups == 1 || short_taps) ? Algorithm::im2col : Algorithm::matmul;
  plan.algorithm = algorithm;
  const bool im2col = algorithm == Algorithm::im2col;
  const bool viewed = im2col ? layout.rows_contiguous : layout.channels_contiguous;
  plan.source = viewed ? Source::view : im2col && !rows_run_on ? Source::panel : Source::window;

  const int64_t interior = g.w.interior().size();
  const int64_t run = plan.source == Source::panel ? g.h.output * g.w.output : max(interior, 1);
  const DenseForm form = prepacked ? *prepacked : choose_form(kernels, g.O_per_group(), run, inner_depth(algorithm, g));
  plan.dot = form.dot;
  plan.columns = form.columns;
  plan.rows = form.dot ? kernels.dot[plan.columns.columns - 1].max_rows
                       : family_of(kernels, plan.columns.lanes, plan.columns.vectors).max_rows;

  // The boundaries of blocks show in the last bits, so nothing that depends on N or on the layout may move them.
  const int64_t widest = min(plan.columns.total, kWidestTile) * plan.columns.lanes;
  const int64_t blocks = max(ceil_div(depth * widest * size, kWeightBytes), 1);
  plan.row_blocks = min(blocks, max(g.h.kernel, 1));
  plan.inner_blocks = min(ceil_div(blocks, plan.row_blocks), max(inner_depth(plan.algorithm, g), 1));

  // Packing reads and writes each weight once; below a few tiles of pixels that costs more than reading HWIO rows in
  // place.
  const int64_t pixels = g.N * g.h.output * g.w.output;
  const bool reused = plan.columns.tiles > 1 && pixels > 4 * plan.rows;
  plan.pack_weights = prepacked != nullptr || plan.dot || !layout.weights_usable || reused;
  plan.prepacked = prepacked != nullptr;
  const int64_t packed = g.groups * depth * plan.columns.padded_columns();

  if (!named && blocks == 1 && takes_planes(kernels, g)) {
    plan.algorithm = Algorithm::matmul;
    plan.source = Source::planes;
    plan.packed_elements = plan.pack_weights ? packed : 0;
    choose_planes(kernels, g, threads, plan);
    return plan;
  }

  // Such an item needs the whole input: in one window, if it is small.
  const int64_t inputs = g.N * g.h.input * g.w.input * Cg;
  const bool whole_input = viewed || (plan.source == Source::window && inputs * size <= kManyWeightBytes);
  // Pieces of it are deep enough to make up for going back to the sums after each: of one tap, or of several.
  const bool all_inside = interior == g.w.output && g.h.interior().size() == g.h.output;
  const bool deep = (im2col && all_inside ? depth : Cg) >= kFlatPiece / 2;
  const bool very_many = packed * size >= kVeryManyWeightBytes;
  const int64_t most_pixels = very_many ? kSharingPixels : prepacked ? kVeryFewPixels : kFewPixels;
  plan.in_pieces = plan.pack_weights && !plan.dot && whole_input && deep && pixels <= most_pixels &&
                   packed * size >= kManyWeightBytes && packed < kImpossibleBytes / size &&
                   g.groups * plan.columns.tiles >= threads;
  plan.piece_depth = pixels <= kVeryFewPixels || inputs * size <= kSmallInputBytes ? kFlatPiece : kDeepPiece;
  plan.packed_elements = plan.pack_weights && (prepacked || !plan.in_pieces) ? packed : 0;

  // With one tap, or a stride, most inputs are new to the tile that reads them, and its rows lie too near each other
  // for the hardware to tell which comes next. Pixels a page apart share cache sets with those still in use.
  plan.prefetch = (taps == 1 || g.w.stride > 1) && g.groups == 1 && g.w.stride * g.C * size < kPageBytes;

  if (plan.in_pieces) {
    plan.item_rows = max(g.h.output, 1);
    plan.item_columns = max(g.w.output, 1);
    // Rows of weights in the order of memory, if they are short enough to be asked for ahead.
    const int64_t row_bytes = plan.columns.columns * plan.piece_depth * size;
    const int64_t shares = !prepacked && layout.weights_usable && plan.piece_depth == kFlatPiece
                               ? ceil_div(row_bytes, kPieceRowsBytes)
                               : 1;
    // More shares than threads, lest one wait for the other, but no thin ones of weights as they come: they leave gaps
    // between their rows.
    const bool thin = !prepacked && plan.columns.columns * size < 2 * threads * kWideRowBytes;
    const int64_t wanted = threads == 1 ? 1 : thin ? threads : 2 * threads;
    plan.column_groups = min(max(wanted, shares), plan.columns.tiles);
    const int64_t width = plan.columns.vectors * plan.columns.lanes;
    const int64_t sums =
        plan.row_blocks * plan.inner_blocks > 1 ? pixels * ceil_div(plan.columns.tiles, plan.column_groups) : 0;
    plan.scratch_elements = ((prepacked ? 0 : plan.piece_depth) + sums) * width + (viewed ? 0 : inputs);
    return plan;
  }

  // Narrow groups of a region read lines next to each other, on pages that all of them use.
  plan.groups_together = g.groups > 1 && plan.source == Source::view && Cg * size <= kNarrowBytes;
  const int64_t pixel_bytes = max(g.h.stride * g.w.stride * (plan.groups_together ? g.C : Cg) * size, 1);
  int64_t target = clamp(kInputBytes / pixel_bytes, 4 * plan.rows, 4096);
  if (threads > 1) target = clamp(ceil_div(pixels * g.groups, threads * 4), 4 * plan.rows, target);
  const int64_t OH = max(g.h.output, 1), OW = max(g.w.output, 1);
  plan.item_rows = clamp((target + OW / 2) / OW, 1, OH);
  // A window holds the rows between taps too: with fewer outputs than those, most of its copies would serve few
  // products.
  if (plan.source == Source::window) {
    const int64_t between = (g.h.kernel - 1) * g.h.dilation / g.h.stride;
    plan.item_rows = max(plan.item_rows, min(between, ceil_div(OH, threads)));
  }
  // Where most columns lack some tap, tiles run down the rows: each thread has as many of them as it can.
  if (plan.source == Source::view && 2 * interior <= OW) plan.item_rows = max(plan.item_rows, ceil_div(OH, threads));
  // Wide rows are cut at multiples of the tile; narrow ones are left whole.
  plan.item_columns = OW <= 2 * target ? OW : ceil_div(target, plan.rows) * plan.rows;
  const int64_t items = g.groups * g.N * ceil_div(OH, plan.item_rows) * ceil_div(OW, plan.item_columns);
  plan.column_groups = threads > 1 ? clamp(ceil_div(4 * threads, max(items, 1)), 1, max(plan.columns.tiles, 1)) : 1;

  if (plan.source == Source::panel) {
    // Rows of a panel stand a cache line more than a multiple of one apart, so that they do not share cache sets.
    plan.panel_stride = (ceil_div(depth, 16) + 1) * 16;
    plan.scratch_elements = plan.panel_stride * plan.rows;
  } else if (plan.source == Source::window) {
    plan.scratch_elements = g.h.reach(plan.item_rows) * g.w.reach(plan.item_columns) * Cg;
  }
  return plan;
}

#define NHWC_INSTANTIATE(T)                                                                                      \
  template const TileFamily<T>& family_of(const Kernels<T>&, int, int64_t);                                      \
  template DenseLayout dense_layout(const ConvGeometry&, const ImageView<const T>&, const WeightView<const T>&); \
  template DensePlan make_dense_plan(const Kernels<T>&, const ConvGeometry&, const DenseLayout&, Algorithm, int, \
                                     const DenseForm*);                                                          \
  template bool takes_planes(const Kernels<T>&, const ConvGeometry&);                                            \
  template ColumnTiles choose_columns(const Kernels<T>&, int64_t, int64_t, bool);                                \
  template DenseForm choose_form(const Kernels<T>&, int64_t, int64_t, int64_t);
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
