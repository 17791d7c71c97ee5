// Which dense runner takes a convolution, and with what.
#pragma once

#include <type_traits>
#include <variant>

#include "dense_layout.h"
#include "panel.h"
#include "pieces.h"
#include "planes.h"
#include "stream.h"
#include "view.h"

namespace nhwc_conv {

using DenseChoice = std::variant<ViewPlan, PanelPlan, PiecesPlan, StreamPlan, PlanesPlan>;

template <class S, class A> class DensePlanner {
 public:
  // prepacked: the form of weights that are packed already, or null.
  DensePlanner(const Kernels<S, A>& kernels, const ConvGeometry& g, const ImageView<const S>& x,
               const WeightView<const S>& w, Algorithm algorithm, int threads, const Result<S, Sum<A>>& result,
               const DenseForm* prepacked)
      : kernels_(kernels),
        g_(g),
        layout_(dense_layout<S, A>(g, x, w)),
        named_(is_direct_by_name(algorithm)),
        threads_(threads),
        result_(result),
        prepacked_(prepacked) {
    choose_algorithm(algorithm);
    choose_blocks();
    choose_packing();
  }

  DenseChoice plan() const {
    if (!named_ && dense_.blocks() == 1 && takes_planes<A>(kernels_, g_)) {
      DensePlan dense = dense_;
      dense.algorithm = Algorithm::matmul;
      // Outputs that are neighbours are read where they lie, as weights are that were packed for lanes.
      if (layout_.weights_usable) {
        dense.form = {false, choose_columns<A>(kernels_, g_.O_per_group(), 1)};
        dense.pack_weights = false;
        dense.packed_elements = 0;
      }
      return make_planes_plan(kernels_, g_, dense, threads_, result_);
    }
    if (takes_stream()) return stream();
    if (takes_pieces()) return pieces();
    if (has_broken_rows()) return panel();
    return view();
  }

 private:
  static constexpr int64_t kSize = sizeof(A);

  int64_t pixels() const { return g_.N * g_.h.output * g_.w.output; }
  int64_t inputs() const { return g_.N * g_.h.input * g_.w.input * g_.C_per_group(); }
  // Outputs in a row that share all taps; those that tiles may hold together, of one row alone its ends too.
  int64_t interior() const { return g_.w.interior().size(); }
  int64_t run_of_outputs() const { return g_.h.output == 1 ? g_.w.output : max(interior(), 1); }
  bool is_viewed() const { return dense_.im2col() ? layout_.rows_contiguous : layout_.channels_viewed; }
  bool rows_run_on() const { return g_.w.dilation == 1 || g_.w.kernel == 1; }
  bool has_broken_rows() const { return dense_.im2col() && !rows_run_on(); }

  // By geometry alone, not by layout: blocks, and with them the bits of the result, follow from it.
  void choose_algorithm(Algorithm algorithm) {
    const bool short_taps = g_.w.kernel > 1 && g_.C_per_group() * kSize <= kShortTapBytes;
    const bool im2col_suits = rows_run_on() && ((g_.groups == 1 && kernels_.reduction_step == 1) || short_taps);
    dense_.algorithm = named_ ? algorithm : im2col_suits ? Algorithm::im2col : Algorithm::matmul;
    const int64_t run = has_broken_rows() ? g_.h.output * g_.w.output : run_of_outputs();
    dense_.form = prepacked_ ? *prepacked_ : choose_form<A>(kernels_, g_, run, dense_.inner_depth(g_));
    const ColumnTiles& columns = dense_.form.columns;
    dense_.tile_columns = columns.widest();
    dense_.rows =
        dense_.form.dot ? kernels_.dot[columns.columns - 1].max_rows : widest_family<A>(kernels_, columns).max_rows;
  }

  // The boundaries of blocks show in the last bits, so nothing that depends on N or on the layout may move them.
  void choose_blocks() {
    const int64_t widest = min(dense_.form.columns.total, kWidestTile) * dense_.form.columns.lanes;
    const int64_t blocks = max(ceil_div(g_.depth() * widest * kSize, kBlockWeightBytes), 1);
    dense_.row_blocks = min(blocks, max(g_.h.kernel, 1));
    const int64_t inner = dense_.inner_depth(g_);
    dense_.inner_blocks = min(ceil_div(blocks, dense_.row_blocks), max(inner, 1));
  }

  // Packing reads and writes each weight once; below a few tiles of pixels that costs more than reading HWIO rows in
  // place, and more than reading those of one tile, unless they collide.
  void choose_packing() {
    const bool many = dense_.form.columns.tiles > 1 || layout_.weights_collide;
    const bool reused = many && pixels() > kFewestTilesToPack * dense_.rows;
    dense_.prepacked = prepacked_ != nullptr;
    // For one pixel, that costs less than packing; two already share it.
    dense_.transposed = !dense_.prepacked && !dense_.form.dot && !layout_.weights_usable && layout_.weights_along &&
                        g_.taps() == 1 && pixels() == 1 &&
                        widest_family<A>(kernels_, dense_.form.columns).transposed_row != nullptr;
    dense_.pack_weights =
        !dense_.transposed && (dense_.prepacked || dense_.form.dot || !layout_.weights_usable || reused);
    packed_ = g_.groups * g_.depth() * dense_.form.columns.padded_columns();
    dense_.packed_elements = dense_.pack_weights ? packed_ : 0;
  }

  bool all_inside() const { return interior() == g_.w.output && g_.h.interior().size() == g_.h.output; }

  bool takes_stream() const {
    return !dense_.pack_weights && !dense_.transposed && !dense_.form.dot && g_.N == 1 && g_.h.output == 1 &&
           g_.w.output <= dense_.rows && all_inside() && is_viewed() && (dense_.im2col() || g_.w.kernel == 1);
  }

  StreamPlan stream() const {
    StreamPlan plan = {dense_};
    plan.runner = "stream";
    plan.source = "view";
    const int64_t width = plan.form.columns.widest(), outputs = g_.w.output * g_.O_per_group();
    plan.column_shares = threads_ == 1 ? 1 : clamp(g_.O_per_group() / width, 1, threads_);
    plan.scratch_elements = result_.scratch_elements(outputs) + (plan.blocks() > 1 ? outputs : 0);
    return plan;
  }

  bool takes_pieces() const {
    const int64_t tiles = g_.groups * dense_.form.columns.tiles;
    const bool has_tiles_for_all = tiles >= kItemsPerThread * threads_ || tiles % threads_ == 0;
    return may_take_pieces() && has_many_weights() && has_tiles_for_all && !reads_panels();
  }

  // An item of pieces needs the whole input: staged, if it is small. And weights that it may pack or are packed, of
  // which neighbouring taps make a deep enough piece.
  bool may_take_pieces() const {
    const bool whole_input = is_viewed() || (!has_broken_rows() && inputs() * kSize <= kPiecesInputBytes);
    const bool packs = dense_.pack_weights || (layout_.weights_usable && !dense_.transposed);
    const bool deep = (dense_.im2col() && all_inside() ? g_.depth() : g_.C_per_group()) >= kFlatPiece;
    return whole_input && packs && deep && !dense_.form.dot && packed_ < kImpossibleBytes / kSize;
  }

  // So many that the cache loses them before the next pixels read them, of one group: items take one after the other.
  bool has_many_weights() const {
    const bool large_panel = g_.depth() * dense_.tile_columns * kSize >= kBlockWeightBytes;
    const bool small_items = pixels_of_items<A>(g_, {dense_}, false, packed_ / g_.groups) <= kFewItemPixels;
    const int64_t many = kernels_.reduction_step > 1 || interior() == 0 ? kVeryManyWeightBytes : kManyWeightBytes;
    return pixels() <= (large_panel || small_items ? kSharingPixels : kFewPixels) &&
           packed_ / g_.groups * kSize >= many;
  }

  // Whether panels are better read whole: packed ones by one tile, or by matrices, which would wait for sums; unpacked
  // ones by one tile where all outputs lack some taps.
  bool reads_panels() const {
    const bool one_tile = pixels() <= dense_.rows;
    if (prepacked_) return one_tile || kernels_.reduction_step > 1;
    return one_tile && interior() == 0 && !dense_.pack_weights;
  }

  PiecesPlan pieces() const {
    PiecesPlan plan = {dense_};
    plan.pack_weights = true;
    plan.step = kernels_.reduction_step;
    const ColumnTiles& columns = plan.form.columns;
    plan.staged = !is_viewed();
    plan.runner = "pieces";
    plan.source = plan.staged ? "pixels" : "view";
    const bool few = pixels() <= kVeryFewPixels, flat = few || inputs() * kSize <= kSmallInputBytes;
    plan.asks_for_rows = plan.rows * columns.vectors < kProductsOfLine;
    const int64_t deeper = plan.asks_for_rows && pixels() > kTilesOfDeeperPiece * plan.rows ? 2 : 1;
    const int64_t least = prepacked_ ? kPackedPieceBytes / (columns.widest() * kSize) : deeper * kFlatPiece;
    plan.depth = (prepacked_ ? few : flat) ? least : kDeepPiece;
    if (!prepacked_) plan.packed_elements = 0;
    // Rows of weights in the order of memory are so short that the sums of their columns stay in the cache.
    const bool in_order = !prepacked_ && layout_.weights_usable && flat;
    const int64_t fewest = in_order ? ceil_div(columns.columns * plan.depth * kSize, kPieceRowsBytes) : 1;
    // More shares than threads, lest one wait for the other, but no thin ones of weights as they come: they leave gaps
    // between their rows.
    const bool thin = !prepacked_ && columns.columns * kSize < 2 * threads_ * kWideRowBytes;
    plan.column_shares = min(max(threads_ == 1 ? 1 : thin ? threads_ : 2 * threads_, fewest), columns.tiles);
    const int64_t share = ceil_div(columns.tiles, plan.column_shares) * columns.widest();
    plan.staged_elements = plan.staged ? inputs() : 0;
    plan.whole_tiles = !prepacked_ && layout_.taps_neighbours;
    plan.piece_elements = prepacked_ ? 0 : (plan.whole_tiles ? g_.depth() : plan.depth) * columns.widest();
    plan.sum_elements = plan.blocks() > 1 ? pixels() * share : 0;
    plan.scratch_elements = plan.staged_elements + plan.piece_elements + plan.sum_elements +
                            result_.scratch_elements(pixels() * min(share, columns.columns));
    return plan;
  }

  // Items of so many outputs that what they read stays in the caches, and that all threads have some.
  void choose_items(RegionPlan& plan, bool staged) const {
    const int64_t OH = max(g_.h.output, 1), OW = max(g_.w.output, 1);
    // Narrow groups of a region read lines next to each other, on pages that all of them use.
    plan.groups_together = g_.groups > 1 && g_.C_per_group() * kSize <= kNarrowGroupBytes;
    const int64_t target = pixels_of_items<A>(g_, plan, staged, packed_ / g_.groups);
    plan.item_height = clamp((target + OW / 2) / OW, 1, OH);
    // Wide rows are cut at multiples of the tile; narrow ones are left whole.
    plan.item_width = OW <= 2 * target ? OW : ceil_div(target, plan.rows) * plan.rows;
    share_pixels(g_, staged, threads_, plan);
    const int64_t most = ceil_div(OH, threads_), between = (g_.h.kernel - 1) * g_.h.dilation / g_.h.stride;
    // The rows between taps are staged too: with fewer outputs than those, most copies would serve few products.
    if (staged) plan.item_height = max(plan.item_height, min(between, most));
    // Where most of a row lacks some tap, tiles run down the rows: each thread has as many of them as it can.
    if (is_viewed() && 2 * interior() <= OW) plan.item_height = max(plan.item_height, most);
    const int64_t items = g_.groups * g_.N * ceil_div(OH, plan.item_height) * ceil_div(OW, plan.item_width);
    // Where threads have equally many, input that is staged is not staged again for other columns.
    const auto shares = [&](int64_t of) {
      return threads_ == 1 || (staged && of % threads_ == 0) ? 1 : ceil_div(kItemsPerThread * threads_, max(of, 1));
    };
    plan.column_shares = clamp(shares(items), 1, max(plan.form.columns.tiles, 1));
    plan.item_groups = staged && plan.groups_together ? ceil_div(g_.groups, shares(items / g_.groups)) : 1;
  }

  PanelPlan panel() const {
    PanelPlan plan = {{dense_}};
    plan.runner = "panel";
    plan.source = "fields";
    choose_items(plan, false);
    // Rows of a panel stand a cache line more than a multiple of one apart, so that they do not share cache sets.
    plan.row_elements = (ceil_div(g_.depth(), kPanelGap) + 1) * kPanelGap;
    plan.scratch_elements = plan.panel_elements() + result_.scratch_elements(plan.item_outputs());
    return plan;
  }

  ViewPlan view() const {
    ViewPlan plan = {{dense_}};
    plan.staged = !is_viewed();
    plan.runner = "view";
    plan.source = plan.staged ? "pixels" : "view";
    choose_items(plan, plan.staged);
    // With few taps, or a stride, most inputs are new to a tile, and its rows too near each other for the hardware to
    // tell which comes next. Pixels a page apart share cache sets with those still in use.
    const bool are_new = g_.taps() <= kTapsOfNewInputs || g_.w.stride > 1;
    plan.prefetch = plan.form.dot ? reads_from_far<A>(g_) : are_new && g_.w.stride * g_.C * kSize < kPageBytes;
    const int64_t pixels = g_.h.reach(plan.item_height) * g_.w.reach(plan.item_width);
    const int64_t group = pixels * g_.C_per_group() + kLineBytes / kSize;
    plan.item_groups = clamp(kStagedGroupsBytes / kSize / group, 1, plan.item_groups);
    const int64_t outputs = plan.item_height * plan.item_width * min(plan.tile_columns, plan.form.columns.columns);
    plan.finishes = plan.blocks() == 1 && !plan.form.dot && !plan.transposed && result_.takes_finished_sums();
    plan.scratch_elements = plan.finishes ? 0 : result_.scratch_elements(outputs);
    if (plan.staged) plan.scratch_elements += plan.item_groups * group;
    return plan;
  }

  const Kernels<S, A>& kernels_;
  const ConvGeometry& g_;
  DenseLayout layout_;
  bool named_;
  int threads_;
  const Result<S, Sum<A>>& result_;
  const DenseForm* prepacked_;
  DensePlan dense_ = {};
  int64_t packed_;  // elements, where weights are packed
};

}  // namespace nhwc_conv
