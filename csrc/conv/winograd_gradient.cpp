#include "winograd_gradient.h"

#include "walk.h"

namespace nhwc_conv {

namespace {

// Tiles summed in one chain.
constexpr int64_t kTileBlock = 64;
// Channels, on either side, of an item that meets more tiles than one block: S, V and D of a block are a few times what
// a second-level cache holds, and each is passed over once a block. Narrower items would transform x and grad more
// often (Emerald Rapids: 32 and 64 channels are slower, 256 no faster).
constexpr int64_t kItemChannels = 128;
// With one block there is no S to come back to; V and D must find room in a third-level cache.
constexpr int64_t kItemBytes = 12 * 1024 * 1024;
// Then S is computed in parts that are transformed back before they leave the second-level cache.
constexpr int64_t kPartRows = 64, kPartColumns = 128;
// Transforms of one input and one output channel of a tile, in products of one and the other.
constexpr int64_t kInputCost = 300, kOutputCost = 200;

}  // namespace

template <class T>
WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g, int threads) {
  const int64_t Cg = g.C_per_group(), size = sizeof(T);
  WinogradGradientPlan plan;
  plan.tile = winograd_tile(g);
  plan.columns = choose_columns(kernels, g.O_per_group(), Cg);
  plan.rows = family_of(kernels, plan.columns.lanes, plan.columns.vectors).max_rows;
  const int64_t points = winograd_points(plan.tile), tiles = WinogradTiles(g, plan.tile).count;
  plan.tile_blocks = max(ceil_div(tiles, kTileBlock), 1);
  const bool one_block = plan.tile_blocks == 1;
  plan.block_tiles = min(kTileBlock, tiles);

  // Every item transforms what it reads, so threads wait for nobody and share no cache line; but the more items there
  // are, the more often x and grad are transformed. As many as the caches ask for, or the threads.
  const int64_t most = one_block ? max(kItemBytes / (2 * points * max(tiles, 1) * size), kPartColumns) : kItemChannels;
  const int64_t width = plan.columns.vectors * plan.columns.lanes;
  const int64_t least_down = max(ceil_div(Cg, most), 1);
  const int64_t least_across = max(ceil_div(plan.columns.tiles, max(most / width, 1)), 1);
  double best = -1;
  const auto consider = [&](int64_t down, int64_t across) {
    const int64_t rows = ceil_div(Cg, down), columns = ceil_div(plan.columns.tiles, across) * width;
    const double item = double(points) * rows * columns + kInputCost * rows + kOutputCost * columns;
    const double cost = ceil_div(g.groups * down * across, threads) * item;
    if (best >= 0 && cost >= best) return;
    best = cost;
    plan.items_down = down;
    plan.items_across = across;
  };
  const int64_t most_down = max(min(least_down + threads, ceil_div(Cg, plan.rows)), least_down);
  for (int64_t down = least_down; down <= most_down; ++down) {
    consider(down, least_across);
    const int64_t across = ceil_div(threads, g.groups * down);
    if (across > least_across && across <= plan.columns.tiles) consider(down, across);
  }

  const int64_t rows = ceil_div(Cg, plan.items_down);
  const int64_t columns = min(ceil_div(plan.columns.tiles, plan.items_across) * width, g.O_per_group());
  plan.part_rows = one_block ? min(max(kPartRows / plan.rows, 1) * plan.rows, rows) : rows;
  plan.part_tiles = one_block ? max(kPartColumns / width, 1) : plan.columns.tiles;
  plan.sum_elements = points * (plan.part_rows * min(plan.part_tiles * width, columns) + kPointGap);
  plan.x_elements = points * plan.block_tiles * (rows + kPointGap);
  plan.grad_elements = points * plan.block_tiles * (columns + kPointGap);
  plan.scratch_elements = plan.sum_elements + plan.x_elements + plan.grad_elements + points * max(rows, columns);
  return plan;
}

template <class T>
Range WinogradWeightGradient<T>::block(int64_t index) const {
  return share_of(WinogradTiles(g_, plan_.tile).count, index, plan_.tile_blocks);
}

template <class T>
typename WinogradWeightGradient<T>::Slice WinogradWeightGradient<T>::slice(int64_t group, Range rows,
                                                                           Range tiles) const {
  return {group, rows, tiles, {plan_.columns.begin(tiles.begin), plan_.columns.end(tiles.end - 1)}};
}

template <class T>
void WinogradWeightGradient<T>::run(const Parallel& parallel, T* workspace) const {
  const int64_t down = plan_.items_down, across = min(plan_.items_across, plan_.columns.tiles);
  for_each_item(parallel, g_.groups * down * across, [&](int64_t item, int64_t slot) {
    const Slice whole = slice(item / across / down, share_of(g_.C_per_group(), item / across % down, down),
                              share_of(plan_.columns.tiles, item % across, across));
    run_item(whole, workspace + slot * plan_.scratch_elements);
  });
}

template <class T>
void WinogradWeightGradient<T>::run_item(const Slice& whole, T* scratch) const {
  T* const v = scratch + plan_.sum_elements;
  T* const d = v + plan_.x_elements;
  for (int64_t b = 0; b < plan_.tile_blocks; ++b) {
    transform(whole, block(b), v, d, d + plan_.grad_elements);
    for (int64_t r = whole.rows.begin; r < whole.rows.end; r += plan_.part_rows) {
      for (int64_t t = whole.tiles.begin; t < whole.tiles.end; t += plan_.part_tiles) {
        const Slice part = slice(whole.group, Range{r, r + plan_.part_rows}.within(whole.rows),
                                 Range{t, t + plan_.part_tiles}.within(whole.tiles));
        add_products(whole, part, block(b).size(), b == 0, v, d, scratch);
        if (b + 1 == plan_.tile_blocks) transform_back(part, scratch);
      }
    }
  }
}

template <class T>
void WinogradWeightGradient<T>::transform(const Slice& slice, Range block, T* v, T* d, T* field) const {
  const WinogradTransforms<T>& transforms = winograd_transforms(kernels_, plan_.tile);
  const WinogradTiles tiles(g_, plan_.tile);
  const int64_t size = plan_.tile + 2, v_row = slice.rows.size() + kPointGap, d_row = slice.columns.size() + kPointGap;
  for (int64_t at = 0; at < block.size(); ++at) {
    const WinogradTile tile = tiles.at(block.begin + at);
    ImageView<const T> x = x_, grad = grad_;
    x.data += tile.n * x_.n + (slice.group * g_.C_per_group() + slice.rows.begin) * x_.c;
    grad.data += tile.n * grad_.n + (slice.group * g_.O_per_group() + slice.columns.begin) * grad_.c;
    transform_window(kernels_, transforms.input, size, x, g_.h.input, g_.w.input, tile.y - g_.h.pad, tile.x - g_.w.pad,
                     size, slice.rows.size(), field, v + at * v_row, block.size() * v_row);
    transform_window(kernels_, transforms.output_gradient, size, grad, g_.h.output, g_.w.output, tile.y, tile.x,
                     plan_.tile, slice.columns.size(), field, d + at * d_row, block.size() * d_row);
  }
}

template <class T>
void WinogradWeightGradient<T>::add_products(const Slice& whole, const Slice& part, int64_t tiles, bool first,
                                             const T* v, const T* d, T* s) const {
  const ColumnTiles& columns = plan_.columns;
  TileArgs<T> args = {};
  args.I = args.J = 1;
  args.K = tiles;
  args.a_k = whole.rows.size() + kPointGap;
  args.b_k = whole.columns.size() + kPointGap;
  args.c_m = part.columns.size();
  args.mode = first ? Mode::fresh : Mode::add;
  v += part.rows.begin - whole.rows.begin;
  for (int64_t p = 0; p < winograd_points(plan_.tile); ++p) {
    for (int64_t t = part.tiles.begin; t < part.tiles.end; ++t) {
      const TileFamily<T>& family = family_of(kernels_, columns.lanes, columns.vectors_of(t));
      args.b = d + columns.begin(t) - whole.columns.begin;
      args.columns = columns.end(t) - columns.begin(t);
      in_pieces(part.rows.size(), family.max_rows, [&](int64_t row, int64_t m) {
        args.a = v + row;
        args.c = s + row * args.c_m + columns.begin(t) - part.columns.begin;
        family.columns_of_a[m - 1](args);
      });
    }
    v += tiles * args.a_k;
    d += tiles * args.b_k;
    s += part.rows.size() * args.c_m + kPointGap;
  }
}

template <class T>
void WinogradWeightGradient<T>::transform_back(const Slice& part, const T* s) const {
  const int64_t width = part.columns.size();
  TransformArgs<T> args = {};
  args.from_j = part.rows.size() * width + kPointGap;
  args.from_i = (plan_.tile + 2) * args.from_j;
  args.to_j = g_.C_per_group() * g_.O;
  args.to_i = 3 * args.to_j;
  args.to_rows = args.to_columns = 3;
  args.columns = width;
  for (int64_t c = part.rows.begin; c < part.rows.end; ++c) {
    args.from = s + (c - part.rows.begin) * width;
    args.to = dw_ + c * g_.O + part.group * g_.O_per_group() + part.columns.begin;
    winograd_transforms(kernels_, plan_.tile).weight_gradient(args);
  }
}

#define NHWC_INSTANTIATE(T)                                                                               \
  template WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>&, const ConvGeometry&, int); \
  template class WinogradWeightGradient<T>;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
