#include <atomic>

#include "winograd.h"
#include "winograd_tiles.h"

namespace nhwc_conv {

namespace {

// More channels than this are summed in blocks: one long chain loses accuracy with its length.
constexpr int64_t kDepthBlock = 64;
// Tiles of a block: few enough that V and M stay in a second-level cache while U is small; more where reading U again
// for each block costs more than that; most where each block transforms the weights anew.
constexpr int64_t kFewTiles = 28, kMoreTiles = 56, kMostTiles = 64;
constexpr int64_t kSmallWeightBytes = 4 * 1024 * 1024;
// U up to here is written before the first item; up to there it is worth keeping ahead of the calls. Beyond, reading it
// from memory costs more than transforming the weights again.
constexpr int64_t kPackedBytes = 1536 * 1024;
constexpr int64_t kPrepackedBytes = 12 * 1024 * 1024;

std::atomic<bool> enabled{true};

int64_t tiles_of_one_image(ConvGeometry g, int64_t tile) {
  g.N = 1;
  return WinogradTiles(g, tile).count;
}

int64_t taps_inside(const Axis& axis) {
  int64_t count = 0;
  for (int64_t tap = 0; tap < axis.kernel; ++tap) count += axis.outputs(tap).size();
  return count;
}

int64_t depth_blocks_of(const ConvGeometry& g) { return max(ceil_div(g.C_per_group(), kDepthBlock), 1); }

// Each block of channels of each tile of columns ends with a gap for every point; a tile has one column at least.
int64_t packed_size(const ConvGeometry& g, const ColumnTiles& columns, int64_t tile) {
  const int64_t depth = g.C_per_group() + depth_blocks_of(g) * kPointGap;
  return g.groups * winograd_points(tile) * columns.padded_columns() * depth;
}

}  // namespace

void set_winograd_enabled(bool value) { enabled.store(value, std::memory_order_relaxed); }

int64_t winograd_tile(const ConvGeometry& g) {
  return tiles_of_one_image(g, 2) * winograd_points(2) < tiles_of_one_image(g, 4) * winograd_points(4) ? 2 : 4;
}

bool winograd_fits(const ConvGeometry& g) {
  const auto fits = [](const Axis& axis) { return axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1; };
  return fits(g.h) && fits(g.w);
}

namespace {

// Costs in products of one input and one output channel: transforms cost their operations, loads and stores, for each
// tile and channel; that of the weights for each pair of channels. The sums of a weight gradient outgrow the caches,
// and cost their bytes (measured on Emerald Rapids: 7x7 pixels, 512 channels, one image, direct is 1.6 times as fast in
// float32 and 3 times in float64). Weights that are given cost theirs too (the same layer forward: in float64 direct is
// 1.6 times as fast, and with eight images 0.75 times).
template <class T>
bool winograd_wins(const ConvGeometry& g, WinogradWeights weights, int64_t images) {
  const int64_t C = g.C_per_group(), O = g.O_per_group(), size = sizeof(T);
  if (!winograd_fits(g) || C < 8 || O * size < 32 || C * O < 256) return false;
  const int64_t tile = winograd_tile(g);
  const double per_pair = weights == WinogradWeights::prepacked ? 0
                          : weights == WinogradWeights::given   ? 70 + 20 * size
                                                                : 90 * size;
  const double tiles = double(images) * tiles_of_one_image(g, tile), pairs = double(C) * O;
  const double winograd = tiles * (winograd_points(tile) * pairs + 250. * (C + O)) + per_pair * pairs;
  const double direct = double(images) * taps_inside(g.h) * taps_inside(g.w) * pairs;
  return 1.15 * winograd < direct;
}

}  // namespace

template <class T>
bool takes_winograd(Algorithm algorithm, const ConvGeometry& g, WinogradWeights weights, int64_t images) {
  if (algorithm == Algorithm::winograd) return true;
  return algorithm == Algorithm::automatic && enabled.load(std::memory_order_relaxed) &&
         winograd_wins<T>(g, weights, images);
}

template <class T>
int64_t winograd_prepacked_elements(const ConvGeometry& weights, const ColumnTiles& columns) {
  const bool fits = weights.h.kernel == 3 && weights.w.kernel == 3 && weights.C_per_group() >= 8;
  const int64_t elements = packed_size(weights, columns, 4);
  return fits && elements * static_cast<int64_t>(sizeof(T)) <= kPrepackedBytes ? elements : 0;
}

template <class T>
WinogradPlan make_winograd_plan(const Kernels<T>& kernels, const ConvGeometry& g, int threads,
                                const Prepacked* prepacked) {
  const int64_t Cg = g.C_per_group(), size = sizeof(T);
  WinogradPlan plan;
  plan.tile = winograd_tile(g);
  plan.columns = prepacked ? prepacked->form.columns : choose_columns(kernels, g.O_per_group(), kFewTiles);
  plan.depth_blocks = depth_blocks_of(g);
  const int64_t points = winograd_points(plan.tile), packed = packed_size(g, plan.columns, plan.tile);
  plan.pack_weights = prepacked ? keeps_winograd(*prepacked, g) : packed * size <= kPackedBytes;
  plan.from_panels = prepacked && !plan.pack_weights;
  plan.packed_elements = plan.pack_weights && !prepacked ? packed : 0;

  const int64_t tiles = WinogradTiles(g, plan.tile).count;
  const int64_t most = !plan.pack_weights ? kMostTiles : packed * size <= kSmallWeightBytes ? kFewTiles : kMoreTiles;
  // As many blocks for each thread; smaller ones for their sake only where blocks do not transform the weights anew.
  // Too few blocks are shared by columns, each share of which transforms x anew.
  const int64_t fair = threads > 1 && plan.pack_weights ? ceil_div(tiles * g.groups, 2 * threads) : tiles;
  int64_t blocks = max(ceil_div(tiles, clamp(fair, kFewTiles, most)), 1);
  if (g.groups * blocks > threads) blocks = ceil_div(g.groups * blocks, threads) * threads / g.groups;
  plan.block_tiles = max(ceil_div(tiles, blocks), 1);
  blocks = g.groups * max(ceil_div(tiles, plan.block_tiles), 1);
  const int64_t shares = plan.pack_weights ? 2 * threads : threads;
  plan.column_groups = threads > 1 ? clamp(ceil_div(shares, blocks), 1, max(plan.columns.tiles, 1)) : 1;
  // By the largest block, so that N does not show.
  const int64_t widest = plan.columns.vectors * plan.columns.lanes;
  const int64_t chunk = plan.pack_weights ? 0 : ceil_div(Cg, plan.depth_blocks) * widest + kPointGap;
  plan.scratch_elements = points * (most * (Cg + widest) + 2 * kPointGap + Cg + chunk);
  return plan;
}

#define NHWC_INSTANTIATE(T)                                                                  \
  template bool takes_winograd<T>(Algorithm, const ConvGeometry&, WinogradWeights, int64_t); \
  template int64_t winograd_prepacked_elements<T>(const ConvGeometry&, const ColumnTiles&);  \
  template WinogradPlan make_winograd_plan(const Kernels<T>&, const ConvGeometry&, int, const Prepacked*);
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
