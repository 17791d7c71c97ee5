#include "winograd.h"

#include "walk.h"
#include "winograd_tiles.h"

namespace nhwc_conv {

namespace {

// Weights whose output channels are not neighbours are first copied: this many input channels, by the widest tile of
// columns, on the stack.
constexpr int64_t kTapChannels = 16;
constexpr int64_t kWidestColumns = 64;
// A block of channels is packed in so many items: small weights have one block for all threads.
constexpr int64_t kPackParts = 4;

}  // namespace

template <class T>
Range WinogradConv<T>::depth(int64_t block) const {
  return share_of(g_.C_per_group(), block, plan_.depth_blocks);
}

// The weights of one tile of columns, from column 0 on.
template <class T>
WeightView<const T> WinogradConv<T>::weights(int64_t group, int64_t tile) const {
  const int64_t o = plan_.columns.begin(tile), Cg = g_.C_per_group(), row = width(tile);
  if (!plan_.from_panels) return {w_.data + group * w_.group + o * w_.o, w_.i, w_.j, w_.c, w_.o, w_.group};
  return {packed_ + 9 * Cg * (group * plan_.columns.padded_columns() + o), 3 * Cg * row, Cg * row, row, 1, 0};
}

// U of one tile of columns and one block of channels: [point][channel][column], with a gap after each point.
template <class T>
T* WinogradConv<T>::packed_chunk(int64_t group, int64_t tile, int64_t block) const {
  const int64_t columns_before = group * plan_.columns.padded_columns() + plan_.columns.begin(tile);
  const int64_t before = columns_before * (g_.C_per_group() + plan_.depth_blocks * kPointGap);
  return packed_ + winograd_points(plan_.tile) * (before + depth(block).begin * width(tile) + block * kPointGap);
}

template <class T>
void WinogradConv<T>::transform_weights(int64_t group, int64_t tile, int64_t block, Range part, T* u) const {
  const Range channels = depth(block);
  const WeightView<const T> w = weights(group, tile);
  T taps[9 * kTapChannels * kWidestColumns];
  TransformArgs<T> args = {};
  args.columns = plan_.columns.end(tile) - plan_.columns.begin(tile);
  args.to = u + part.begin * width(tile);
  args.to_j = channels.size() * width(tile) + kPointGap;
  args.to_i = (plan_.tile + 2) * args.to_j;
  args.to_rows = args.to_columns = plan_.tile + 2;
  const TransformFn<T> transform = winograd_transforms(kernels_, plan_.tile).weight;
  for (int64_t begin = part.begin; begin < part.end; begin += kTapChannels) {
    const int64_t count = clamp(part.end - begin, 0, kTapChannels);
    const T* from = w.data + (channels.begin + begin) * w.c;
    int64_t from_c = w.c;
    args.from_i = w.i;
    args.from_j = w.j;
    if (w.o != 1) {
      from_c = args.columns;
      args.from_j = count * args.columns;
      args.from_i = 3 * args.from_j;
      for (int64_t tap = 0; tap < 9; ++tap) {
        kernels_.copy({from + tap / 3 * w.i + tap % 3 * w.j, w.c, w.o, taps + tap * args.from_j, args.columns, count,
                       args.columns});
      }
      from = taps;
    }
    for (int64_t c = 0; c < count; ++c) {
      args.from = from + c * from_c;
      transform(args);
      args.to += width(tile);
    }
  }
}

template <class T>
int64_t WinogradConv<T>::pack_items() const {
  return plan_.pack_weights ? g_.groups * plan_.columns.tiles * plan_.depth_blocks * kPackParts : 0;
}

template <class T>
void WinogradConv<T>::pack(int64_t item) const {
  const int64_t part = item % kPackParts;
  item /= kPackParts;
  const int64_t block = item % plan_.depth_blocks, tile = item / plan_.depth_blocks % plan_.columns.tiles;
  const int64_t group = item / plan_.depth_blocks / plan_.columns.tiles;
  const Range channels = share_of(depth(block).size(), part, kPackParts);
  transform_weights(group, tile, block, channels, packed_chunk(group, tile, block));
}

template <class T>
int64_t WinogradConv<T>::items() const {
  return g_.groups * ceil_div(WinogradTiles(g_, plan_.tile).count, plan_.block_tiles) * plan_.column_groups;
}

template <class T>
void WinogradConv<T>::run(int64_t item, T* memory) const {
  const ColumnTiles& columns = plan_.columns;
  const int64_t share = item % plan_.column_groups;
  item /= plan_.column_groups;
  const int64_t count = WinogradTiles(g_, plan_.tile).count;
  const int64_t blocks = ceil_div(count, plan_.block_tiles), block = item % blocks, group = item / blocks;
  const Range tiles = share_of(count, block, blocks);

  const int64_t points = winograd_points(plan_.tile);
  Scratch scratch;
  scratch.v = memory;
  scratch.field = scratch.v + points * (tiles.size() * g_.C_per_group() + kPointGap);
  scratch.m = scratch.field + points * g_.C_per_group();
  scratch.u = scratch.m + points * (tiles.size() * columns.vectors * columns.lanes + kPointGap);

  transform_input(group, tiles, scratch);
  const Range mine = share_of(columns.tiles, share, plan_.column_groups);
  for (int64_t c = mine.begin; c < mine.end; ++c) {
    for (int64_t k = 0; k < plan_.depth_blocks; ++k) {
      if (!plan_.pack_weights) transform_weights(group, c, k, {0, depth(k).size()}, scratch.u);
      multiply(c, k, tiles.size(), scratch.v, plan_.pack_weights ? packed_chunk(group, c, k) : scratch.u, scratch.m);
    }
    transform_output(group, c, tiles, scratch.m);
  }
}

template <class T>
void WinogradConv<T>::transform_input(int64_t group, Range range, const Scratch& scratch) const {
  const WinogradTiles tiles(g_, plan_.tile);
  const int64_t Cg = g_.C_per_group(), size = plan_.tile + 2;
  for (int64_t t = range.begin; t < range.end; ++t) {
    const WinogradTile tile = tiles.at(t);
    ImageView<const T> image = x_;
    image.data += tile.n * x_.n + group * Cg * x_.c;
    transform_window(kernels_, winograd_transforms(kernels_, plan_.tile).input, size, image, g_.h.input, g_.w.input,
                     tile.y - g_.h.pad, tile.x - g_.w.pad, size, Cg, scratch.field, scratch.v + (t - range.begin) * Cg,
                     range.size() * Cg + kPointGap);
  }
}

// Adds the products of one block of channels to M, [point][tile][column], from V, [point][tile][channel].
template <class T>
void WinogradConv<T>::multiply(int64_t tile, int64_t block, int64_t tiles, const T* v, const T* u, T* m) const {
  const int64_t Cg = g_.C_per_group();
  const TileFamily<T>& family = family_of(kernels_, plan_.columns.lanes, plan_.columns.vectors_of(tile));
  TileArgs<T> args = {};
  args.a_m = Cg;
  args.b_k = args.c_m = width(tile);
  args.I = args.J = 1;
  args.K = depth(block).size();
  args.columns = plan_.columns.end(tile) - plan_.columns.begin(tile);
  args.mode = block > 0 ? Mode::add : Mode::fresh;
  v += depth(block).begin;
  for (int64_t p = 0; p < winograd_points(plan_.tile); ++p) {
    args.b = u;
    in_pieces(tiles, family.max_rows, [&](int64_t row, int64_t rows) {
      args.a = v + row * args.a_m;
      args.c = m + row * args.c_m;
      family.rows[rows - 1](args);
    });
    u += args.K * args.b_k + kPointGap;
    v += tiles * args.a_m + kPointGap;
    m += tiles * args.c_m + kPointGap;
  }
}

template <class T>
void WinogradConv<T>::transform_output(int64_t group, int64_t column_tile, Range range, const T* m) const {
  const WinogradTiles tiles(g_, plan_.tile);
  const int64_t o = group * g_.O_per_group() + plan_.columns.begin(column_tile);
  TransformArgs<T> args = {};
  args.from_j = range.size() * width(column_tile) + kPointGap;
  args.from_i = (plan_.tile + 2) * args.from_j;
  args.to_i = y_.h;
  args.to_j = y_.w;
  args.columns = plan_.columns.end(column_tile) - plan_.columns.begin(column_tile);
  args.bias = bias_ == nullptr ? nullptr : bias_ + o;
  for (int64_t t = range.begin; t < range.end; ++t) {
    const WinogradTile tile = tiles.at(t);
    args.from = m + (t - range.begin) * width(column_tile);
    args.to = y_.data + tile.n * y_.n + tile.y * y_.h + tile.x * y_.w + o;
    args.to_rows = clamp(g_.h.output - tile.y, 0, plan_.tile);
    args.to_columns = clamp(g_.w.output - tile.x, 0, plan_.tile);
    winograd_transforms(kernels_, plan_.tile).output(args);
  }
}

template class WinogradConv<float>;
template class WinogradConv<double>;

}  // namespace nhwc_conv
