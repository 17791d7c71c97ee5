#include "partial_sums.h"
#include "plan.h"

namespace nhwc_conv {

namespace {

// One block of a weight gradient: the bytes of its two operands, and bounds of its output pixels. Fewer do not make up
// for reading and writing the gradient once for each. With one tap they do while the gradient is small: every tile
// reads other pixels, which soon are on more pages than the processor has addresses of at hand.
constexpr int64_t kBlockBytes = 256 * 1024;
constexpr int64_t kFewestBlockPixels = 256, kMostBlockPixels = 1024;
constexpr int64_t kFewestPixelsOfOneTap = 128, kSmallGradientBytes = 512 * 1024;
// So many tiles read the same window of a weight gradient's operand that copying it costs less than reading rows that
// stand far apart: each on a page of its own, or many in one cache set.
constexpr int64_t kManyTiles = 4;
// A second-level cache in whose sets the pixels of a block find room, if they stand less than a page apart. There
// copies for one tap cost more than they gain (Emerald Rapids, 2 MB: 1x1 layers up to 1.15 times as fast without; Zen
// 3, 512 KB: windows gain 1.4).
constexpr int64_t kLargeCacheBytes = 2 * 1024 * 1024;
// Channels of one window of a weight gradient: few rows, which are read again for every kernel position only; columns
// enough that copying the rows anew for each lot of them is little work beside their products.
constexpr int64_t kWindowRows = 64;
constexpr int64_t kWindowColumns = 256;
// Below this many weights, their gradient is split over pixels too, lest threads stay idle, or read all pixels each; up
// to so many parts of twice as many weights, since parts cost what memory costs.
constexpr int64_t kPartialElements = 16 * 1024, kLargePartials = 4;

}  // namespace

template <class T>
WeightGradientPlan make_weight_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g,
                                             const ImageView<const T>& x, const ImageView<const T>& grad) {
  const int64_t Cg = g.C_per_group(), size = sizeof(T), OH = max(g.h.output, 1), OW = max(g.w.output, 1);
  WeightGradientPlan plan = {};
  // Few channels leave rows of a tile idle; then the taps of one kernel row share it, and pixels at the borders, where
  // not all of these taps exist, are summed tap by tap.
  plan.swapped = g.O_per_group() <= kMaxDotFamilies && Cg * size >= 16;
  plan.merge_taps = !plan.swapped && g.groups == 1 && g.w.kernel > 1 && g.w.dilation == 1 && Cg < 16;
  const int64_t run = plan.swapped ? g.O_per_group() : plan.merge_taps ? g.w.kernel * Cg : Cg;
  plan.columns = choose_columns(kernels, plan.swapped ? Cg : g.O_per_group(), run, true);
  plan.rows = family_of(kernels, plan.columns.lanes, plan.columns.vectors).max_rows;
  plan.row_tiles = ceil_div(run, plan.rows);

  // By the geometry alone: the ends of blocks show in the last bits.
  const int64_t elements = g.h.kernel * g.w.kernel * Cg * g.O;
  const int64_t pixel_bytes = (g.h.stride * g.w.stride * Cg + g.O_per_group()) * size;
  const bool small = elements * size <= kSmallGradientBytes;
  const int64_t fewest = g.h.kernel * g.w.kernel == 1 && small ? kFewestPixelsOfOneTap : kFewestBlockPixels;
  const int64_t pixels = clamp(kBlockBytes / max(pixel_bytes, 1), fewest, kMostBlockPixels);
  plan.block_columns = ceil_div(OW, ceil_div(OW, 2 * pixels));
  plan.block_rows = clamp(pixels / plan.block_columns, 1, OH);

  // Enough independent parts for many threads, by the geometry alone: kernel positions and channels, then pixels.
  const int64_t blocks = g.N * ceil_div(OH, plan.block_rows) * ceil_div(OW, plan.block_columns);
  const int64_t small_parts = kPartialElements / max(elements, 1);
  const int64_t parts = max(small_parts, min(2 * kPartialElements / max(elements, 1), kLargePartials));
  plan.partials = clamp(parts, 1, clamp(blocks, 1, kMaxPartials));
  plan.partial_elements = (plan.partials - !plan.swapped) * elements;

  const ImageView<const T>&by_rows = plan.swapped ? grad : x, &by_columns = plan.swapped ? x : grad;
  const int64_t taps = g.h.kernel * (plan.merge_taps ? 1 : g.w.kernel);
  plan.window_row_tiles = plan.merge_taps ? plan.row_tiles : clamp(kWindowRows / plan.rows, 1, max(plan.row_tiles, 1));
  const int64_t row_channels = plan.merge_taps ? Cg : min(plan.window_row_tiles * plan.rows, run);
  const int64_t tile_columns = min(plan.columns.vectors * plan.columns.lanes, plan.columns.columns);
  const auto pays = [&](const ImageView<const T>& view) {
    return taps > 1 || kernels.second_level_cache < kLargeCacheBytes || view.w * size >= kPageBytes;
  };
  const bool row_window = by_rows.c != 1 || (plan.merge_taps && by_rows.w != Cg) ||
                          (pays(by_rows) && by_rows.w > row_channels && taps * plan.columns.tiles >= kManyTiles);
  const bool column_window =
      by_columns.c != 1 || (pays(by_columns) && by_columns.w > tile_columns && taps * plan.row_tiles >= kManyTiles);
  plan.column_shares = column_window ? max(ceil_div(plan.columns.columns, kWindowColumns), 1) : 1;
  // Rows between the taps of dilated kernels are not worth copying: kernel row by kernel row there are fewer.
  const Axis tap_rows = g.h.of_tap(0);
  plan.window_of_tap_rows = g.h.reach(plan.block_rows) > g.h.kernel * tap_rows.reach(plan.block_rows);
  const int64_t x_rows = (plan.window_of_tap_rows ? tap_rows : g.h).reach(plan.block_rows);
  const int64_t x_pixels = x_rows * g.w.reach(plan.block_columns);
  const int64_t grad_pixels = plan.block_rows * plan.block_columns;
  // Whole lines each, so that vectors do not cross from one to the next.
  const int64_t line = kLineBytes / size;
  if (row_window) {
    plan.row_window_elements = ceil_div(row_channels * (plan.swapped ? grad_pixels : x_pixels), line) * line;
  }
  if (column_window) {
    const int64_t vectors = ceil_div(plan.columns.tiles, plan.column_shares) * plan.columns.vectors;
    const int64_t columns = min(vectors * plan.columns.lanes, plan.columns.columns);
    plan.column_window_elements = ceil_div(columns * (plan.swapped ? x_pixels : grad_pixels), line) * line;
  }
  return plan;
}

#define NHWC_INSTANTIATE(T)                                                                     \
  template WeightGradientPlan make_weight_gradient_plan(const Kernels<T>&, const ConvGeometry&, \
                                                        const ImageView<const T>&, const ImageView<const T>&);
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
