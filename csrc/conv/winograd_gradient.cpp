#include "winograd_gradient.h"

#include "walk.h"

namespace nhwc_conv {

namespace {

// Tiles summed in one chain.
constexpr int64_t kTileBlock = 64;
// V and D of a chunk: while S is small, of a second-level cache; else of a third-level one, so that S, which each chunk
// reads and writes, is passed over less often.
constexpr int64_t kSmallChunkBytes = 512 * 1024, kLargeChunkBytes = 12 * 1024 * 1024;
constexpr int64_t kSmallSumBytes = 1536 * 1024;
// Weights up to here are cut into small slices, so that threads have work; more into larger ones, which read V and D
// less often.
constexpr int64_t kSmallWeights = 128 * 128;

}  // namespace

template <class T>
WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>& kernels, const ConvGeometry& g) {
  const int64_t Cg = g.C_per_group(), size = sizeof(T);
  WinogradGradientPlan plan;
  plan.tile = winograd_tile(g);
  plan.columns = choose_columns(kernels, g.O_per_group(), Cg);
  plan.rows = family_of(kernels, plan.columns.lanes, plan.columns.vectors).max_rows;
  const int64_t points = winograd_points(plan.tile), tiles = WinogradTiles(g, plan.tile).count;
  plan.tile_blocks = max(ceil_div(tiles, kTileBlock), 1);
  const int64_t chunk_bytes = points * Cg * g.O * size <= kSmallSumBytes ? kSmallChunkBytes : kLargeChunkBytes;
  const int64_t block_bytes = points * (g.C + g.O) * kTileBlock * size;
  const int64_t blocks = max(chunk_bytes / block_bytes, 1);
  plan.chunks = ceil_div(plan.tile_blocks, blocks);
  plan.chunk_tiles = min(blocks * kTileBlock, tiles);
  const bool small = Cg * g.O_per_group() <= kSmallWeights;
  const int64_t slice_rows = min((small ? 2 : 4) * plan.rows, Cg);
  const int64_t slice_columns = min(small ? 1 : 2, plan.columns.tiles);
  plan.slices_down = ceil_div(Cg, slice_rows);
  plan.slices_across = ceil_div(plan.columns.tiles, slice_columns);
  plan.slice_elements = points * (slice_rows * slice_columns * plan.columns.vectors * plan.columns.lanes + kPointGap);
  const int64_t sums = plan.chunks > 1 ? g.groups * plan.slices_down * plan.slices_across * plan.slice_elements : 0;
  plan.shared_elements = points * plan.chunk_tiles * (g.C + g.O + 2 * kPointGap) + sums;
  plan.scratch_elements = max(plan.chunks > 1 ? 0 : plan.slice_elements, points * max(g.C, g.O));
  return plan;
}

template <class T>
Range WinogradWeightGradient<T>::blocks_of(int64_t chunk) const {
  return share_of(plan_.tile_blocks, chunk, plan_.chunks);
}

template <class T>
int64_t WinogradWeightGradient<T>::first_tile(int64_t block) const {
  return block * WinogradTiles(g_, plan_.tile).count / plan_.tile_blocks;
}

template <class T>
void WinogradWeightGradient<T>::run(const Parallel& parallel, T* workspace) const {
  const int64_t points = winograd_points(plan_.tile);
  T* const v = workspace;
  T* const d = v + points * plan_.chunk_tiles * v_row();
  T* const sums = d + points * plan_.chunk_tiles * d_row();
  T* const scratch = workspace + plan_.shared_elements;
  for (int64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
    const int64_t first = first_tile(blocks_of(chunk).begin), count = first_tile(blocks_of(chunk).end) - first;
    for_each_item(parallel, count, [&](int64_t at, int64_t slot) {
      transform(first + at, at, count, v, d, scratch + slot * plan_.scratch_elements);
    });
    for_each_item(parallel, slices(), [&](int64_t item, int64_t slot) {
      sum_slice(item, chunk, v, d,
                plan_.chunks > 1 ? sums + item * plan_.slice_elements : scratch + slot * plan_.scratch_elements);
    });
  }
}

template <class T>
void WinogradWeightGradient<T>::transform(int64_t index, int64_t at, int64_t count, T* v, T* d, T* field) const {
  const WinogradTile tile = WinogradTiles(g_, plan_.tile).at(index);
  const WinogradTransforms<T>& transforms = winograd_transforms(kernels_, plan_.tile);
  const int64_t points = plan_.tile + 2;
  ImageView<const T> x = x_, grad = grad_;
  x.data += tile.n * x_.n;
  grad.data += tile.n * grad_.n;
  transform_window(kernels_, transforms.input, points, x, g_.h.input, g_.w.input, tile.y - g_.h.pad, tile.x - g_.w.pad,
                   points, g_.C, field, v + at * v_row(), count * v_row());
  transform_window(kernels_, transforms.output_gradient, points, grad, g_.h.output, g_.w.output, tile.y, tile.x,
                   plan_.tile, g_.O, field, d + at * d_row(), count * d_row());
}

// S of one slice, [point][input channel][output channel], over the tiles of one chunk; after the last one, its
// transform.
template <class T>
void WinogradWeightGradient<T>::sum_slice(int64_t slice, int64_t chunk, const T* v, const T* d, T* s) const {
  const ColumnTiles& columns = plan_.columns;
  const int64_t Cg = g_.C_per_group(), down = plan_.slices_down, across = plan_.slices_across;
  const int64_t group = slice / across / down, row = slice / across % down, column = slice % across;
  const Range rows = share_of(Cg, row, down), tiles = share_of(columns.tiles, column, across);
  const int64_t begin = columns.begin(tiles.begin), width = columns.end(tiles.end - 1) - begin;
  const int64_t s_point = rows.size() * width + kPointGap, points = winograd_points(plan_.tile);
  const Range blocks = blocks_of(chunk);
  const int64_t first = first_tile(blocks.begin), count = first_tile(blocks.end) - first;
  TileArgs<T> args = {};
  args.I = args.J = 1;
  args.a_k = v_row();
  args.b_k = d_row();
  args.c_m = width;
  for (int64_t p = 0; p < points; ++p) {
    const T* a = v + p * count * v_row() + group * Cg + rows.begin;
    for (int64_t t = tiles.begin; t < tiles.end; ++t) {
      const TileFamily<T>& family = family_of(kernels_, columns.lanes, columns.vectors_of(t));
      const T* b = d + p * count * d_row() + group * g_.O_per_group() + columns.begin(t);
      args.columns = columns.end(t) - columns.begin(t);
      in_pieces(rows.size(), family.max_rows, [&](int64_t r, int64_t m) {
        args.c = s + p * s_point + r * width + columns.begin(t) - begin;
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
          const int64_t k = first_tile(block) - first;
          args.K = first_tile(block + 1) - first_tile(block);
          args.a = a + r + k * v_row();
          args.b = b + k * d_row();
          args.mode = block > 0 ? Mode::add : Mode::fresh;
          family.columns_of_a[m - 1](args);
        }
      });
    }
  }
  if (chunk + 1 < plan_.chunks) return;
  TransformArgs<T> back = {};
  back.from_j = s_point;
  back.from_i = (plan_.tile + 2) * s_point;
  back.to_j = Cg * g_.O;
  back.to_i = 3 * back.to_j;
  back.to_rows = back.to_columns = 3;
  back.columns = width;
  for (int64_t c = rows.begin; c < rows.end; ++c) {
    back.from = s + (c - rows.begin) * width;
    back.to = dw_ + c * g_.O + group * g_.O_per_group() + begin;
    winograd_transforms(kernels_, plan_.tile).weight_gradient(back);
  }
}

#define NHWC_INSTANTIATE(T)                                                                          \
  template WinogradGradientPlan make_winograd_gradient_plan(const Kernels<T>&, const ConvGeometry&); \
  template class WinogradWeightGradient<T>;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
