#include "depthwise.h"

#include <cstring>

#include "walk.h"

namespace nhwc_conv {

namespace {

// Columns of an image with its padding that rows are copied with: so many for each of the image's, and these always.
constexpr int64_t kMostPadding = 4, kAnyPadding = 64;
// Bytes of one item's input, which is copied, or read anew for every kernel row, and stays in the second-level cache.
// Read once, it may be larger: rows at its ends, which the next item reads too, weigh less.
constexpr int64_t kRegionBytes = 192 * 1024, kReadOnceBytes = 4 * kRegionBytes;

// The axis over an input that has its padding around it.
Axis padded(const Axis& axis) {
  Axis result = axis;
  result.input = axis.span(axis.output);
  result.pad = 0;
  return result;
}

// The columns of a region.
Axis region_columns(const ConvGeometry& g, const DepthwisePlan& plan) { return plan.pad_columns ? padded(g.w) : g.w; }

// Whether what one tile of pixels reads falls into so few sets of the first-level cache that lines are lost before the
// next vector of channels reads their other half.
template <class T>
bool collides(const Kernels<T>& kernels, const ConvGeometry& g, int64_t pixel) {
  const int64_t line = kLineBytes, step = pixel * static_cast<int64_t>(sizeof(T));
  if (kernels.lanewise[0].lanes * static_cast<int64_t>(sizeof(T)) >= line || step % line != 0) return false;
  const int64_t pixels = g.h.kernel * ((kMaxLanewiseRows - 1) * g.w.stride + g.w.kernel);
  return pixels + g.h.kernel * g.w.kernel > kCacheWays * cache_sets(step);
}

// The fewest pixels whose channels fill whole vectors, if those of one do not fill one.
int64_t fewest_pixels(int64_t lanes, int64_t channels) {
  int64_t pixels = 1;
  while (channels < lanes && pixels * channels % lanes != 0) pixels *= 2;
  return pixels;
}

}  // namespace

template <class T>
DepthwisePlan make_depthwise_plan(const Kernels<T>& kernels, const ConvGeometry& g, const ImageView<const T>& x,
                                  bool lanes_contiguous, int threads, RegionRows rows) {
  const int64_t Cg = g.C_per_group();
  DepthwisePlan plan;
  const bool is_short = g.w.kernel > 1 && 2 * g.w.interior().size() < g.w.output;
  const bool expands = Cg > 1 || g.O_per_group() > 1;
  // By the geometry alone: zeros of the padding times infinite weights show. Not where the image is lost in its
  // padding.
  const bool better = is_short || (!expands && collides(kernels, g, g.C));
  const bool fits = g.w.span(g.w.output) <= kMostPadding * g.w.input + kAnyPadding;
  plan.pad_columns = fits && (rows == RegionRows::packed || (rows == RegionRows::packed_if_better && better));
  plan.expand = plan.pad_columns || expands || x.c != 1;
  plan.pack_weights = !lanes_contiguous || (plan.expand && collides(kernels, g, g.O));
  plan.packed_row = spread<T>(g.O);
  plan.packed_elements = plan.pack_weights ? g.h.kernel * g.w.kernel * Cg * plan.packed_row : 0;
  const int64_t OH = g.h.output > 1 ? g.h.output : 1, OW = g.w.output > 1 ? g.w.output : 1;
  const int64_t groups = plan.expand ? ceil_div(max(64 / Cg, 16), g.O_per_group()) : g.groups;
  plan.item_channels = min(groups, g.groups) * g.O_per_group();
  const int64_t pixel = plan.expand ? spread<T>(plan.item_channels * Cg) : g.O;
  const bool read_once = !plan.expand && rows != RegionRows::viewed;
  const int64_t budget = (read_once ? kReadOnceBytes : kRegionBytes) / static_cast<int64_t>(sizeof(T));
  const int64_t across = clamp(budget / (pixel * (g.h.reach(1) + 1)), 1, 1 << 30);
  plan.item_columns = clamp((across - (g.w.kernel - 1) * g.w.dilation) / g.w.stride, 16, OW > 16 ? OW : 16);
  if (2 * plan.item_columns > OW) plan.item_columns = OW;
  const int64_t row = pixel * region_columns(g, plan).reach(plan.item_columns) * g.h.stride;
  plan.item_rows = clamp(budget / (row > 0 ? row : 1), 1, OH);
  // Rows between the taps of dilated kernels are copied too: fewer outputs than those would not be worth it.
  if (plan.expand && g.h.dilation > 1) {
    plan.item_rows = clamp((g.h.kernel - 1) * g.h.dilation / g.h.stride, plan.item_rows, OH);
  }
  if (threads > 1) {
    const int64_t others = g.N * plan.channel_blocks(g) * ceil_div(OW, plan.item_columns);
    plan.item_rows = clamp(ceil_div(OH * others, 4 * threads), 1, plan.item_rows);
  }
  size_region(g, x, plan);
  const int64_t abreast = fewest_pixels(kernels.lanewise[0].lanes, g.C);
  plan.pixels_abreast = !expands && g.w.stride == 1 && abreast <= g.w.output ? abreast : 1;
  plan.repeated_elements = plan.pixels_abreast > 1 ? (g.h.kernel * g.w.kernel + 1) * plan.pixels_abreast * g.C : 0;
  return plan;
}

template <class T>
void size_region(const ConvGeometry& g, const ImageView<const T>& x, DepthwisePlan& plan) {
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group();
  plan.expand = plan.expand || x.c != 1;
  const bool repeats = Cg > 1 || Og > 1;
  plan.row_elements = repeats && x.c != 1 ? g.w.reach(plan.item_columns) * (plan.item_channels / Og * Cg) : 0;
  const int64_t pixels = g.h.reach(plan.item_rows) * region_columns(g, plan).reach(plan.item_columns);
  plan.region_elements = plan.expand ? pixels * spread<T>(plan.item_channels * Cg) + plan.row_elements : 0;
}

template <class T>
ExpandedRegion<T> ExpandedRegion<T>::fill(const Kernels<T>& kernels, const DepthwisePlan& plan, const ConvGeometry& g,
                                          const ImageView<const T>& x, int64_t n, Range ys, Range xs, Range lanes,
                                          T* to) {
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group(), width = lanes.size();
  const int64_t pixel = spread<T>(Cg * plan.item_channels);
  const Axis across = region_columns(g, plan);
  const int64_t shift = plan.pad_columns ? g.w.pad : 0, channels = width / Og * Cg;
  T* contiguous_row = to + plan.region_elements - plan.row_elements;
  ExpandedRegion region = {g.h.inputs(ys), across.inputs(xs), to, 0, pixel, width};
  region.h = region.columns.size() * pixel;
  // Columns of the region that lie in the image; padding is zero.
  const Range inside = Range{shift, g.w.input + shift}.within(region.columns);
  const int64_t before = inside.begin - region.columns.begin, after = region.columns.end - inside.end;
  for (int64_t row = region.rows.begin; row < region.rows.end; ++row) {
    std::memset(to, 0, before * pixel * sizeof(T));
    to += before * pixel;
    const T* from = x.data + n * x.n + row * x.h + (inside.begin - shift) * x.w + lanes.begin / Og * Cg * x.c;
    int64_t from_pixel = x.w;
    if (Cg == 1 && Og == 1) {
      kernels.copy({from, x.w, x.c, to, pixel, inside.size(), width});
    } else {
      if (plan.row_elements > 0) {
        kernels.copy({from, x.w, x.c, contiguous_row, channels, inside.size(), channels});
        from = contiguous_row;
        from_pixel = channels;
      }
      kernels.repeat({from, from_pixel, to, pixel, inside.size(), Cg, width, Og});
    }
    to += inside.size() * pixel;
    std::memset(to, 0, after * pixel * sizeof(T));
    to += after * pixel;
  }
  return region;
}

template <class T>
void DepthwiseConv<T>::pack(int64_t item) const {
  const int64_t Cg = g_.C_per_group(), Og = g_.O_per_group();
  const T* from = w_.data + item / g_.w.kernel * w_.i + item % g_.w.kernel * w_.j;
  T* to = packed_ + item * Cg * plan_.packed_row;
  if (Og == 1) {
    kernels_.copy({from, w_.c, w_.group, to, plan_.packed_row, Cg, g_.groups});
    return;
  }
  for (int64_t group = 0; group < g_.groups; ++group) {
    kernels_.copy({from + group * w_.group, w_.c, w_.o, to + group * Og, plan_.packed_row, Cg, Og});
  }
}

template <class T>
int64_t DepthwiseConv<T>::items() const {
  return g_.N * ceil_div(g_.h.output, plan_.item_rows) * ceil_div(g_.w.output, plan_.item_columns) *
         plan_.channel_blocks(g_);
}

namespace {

// The most rows of a tile.
template <class T>
int64_t most_rows(const LanewiseFamily<T>& family, const TileArgs<T>& args) {
  if (args.tiles == 1) return kMaxLanewiseRows;
  const bool rolling = args.J == 3 && args.K == 3 && args.a_t == args.a_j && args.a_m == args.a_k;
  return rolling ? family.rows_of_rolling : family.rows_of_many;
}

}  // namespace

template <class T>
void DepthwiseConv<T>::run(int64_t item, T* scratch) const {
  const int64_t Cg = g_.C_per_group();
  const int64_t blocks_o = plan_.channel_blocks(g_), blocks_w = ceil_div(g_.w.output, plan_.item_columns);
  const int64_t blocks_h = ceil_div(g_.h.output, plan_.item_rows);
  const int64_t o_block = item % blocks_o;
  item /= blocks_o;
  const int64_t x_block = item % blocks_w;
  item /= blocks_w;
  const int64_t y_block = item % blocks_h, n = item / blocks_h;
  const Range lanes = plan_.channels(g_, o_block);
  const Range xs = {x_block * plan_.item_columns, clamp((x_block + 1) * plan_.item_columns, 0, g_.w.output)};
  const Range ys = {y_block * plan_.item_rows, clamp((y_block + 1) * plan_.item_rows, 0, g_.h.output)};
  const ExpandedRegion<T> x = plan_.expand ? ExpandedRegion<T>::fill(kernels_, plan_, g_, x_, n, ys, xs, lanes, scratch)
                                           : ExpandedRegion<T>::view(x_, n, lanes);

  TileArgs<T> args;
  const T* weights = plan_.pack_weights ? packed_ + lanes.begin : w_.data + lanes.begin;
  const int64_t w_k = plan_.pack_weights ? plan_.packed_row : w_.c, w_j = plan_.pack_weights ? Cg * w_k : w_.j;
  const int64_t w_i = plan_.pack_weights ? g_.w.kernel * w_j : w_.i;
  args.columns = lanes.size();
  args.bias = bias_ == nullptr ? nullptr : bias_ + lanes.begin;
  args.mode = Mode::fresh;
  args.a_t = g_.h.stride * x.h;
  args.c_t = y_.h;
  // The innermost loop runs over whatever there is more than one of: kernel columns, or channels of a group.
  const bool by_channel = Cg > 1;
  args.a_i = by_channel ? g_.h.dilation * x.h : 0;
  args.a_j = by_channel ? g_.w.dilation * x.w : g_.h.dilation * x.h;
  args.a_k = by_channel ? x.k : g_.w.dilation * x.w;
  args.b_i = by_channel ? w_i : 0;
  args.b_j = by_channel ? w_j : w_i;
  args.b_k = by_channel ? w_k : w_j;
  const LanewiseFamily<T>& family = lanewise_family(kernels_, lanes.size());
  // Neighbouring pixels must be neighbours in memory.
  const int64_t abreast = x.w == g_.C && y_.w == g_.C ? plan_.pixels_abreast : 1;
  const TileArgs<T> wide =
      abreast > 1 ? repeat_weights(args, weights, w_i, w_j, scratch + plan_.region_elements) : args;
  ConvGeometry g = g_;
  g.w = region_columns(g_, plan_);
  walk(g, ys, xs, [&](Range rows, Range columns, Range taps_h, Range taps_w) {
    const bool nothing = taps_h.empty() || taps_w.empty();
    args.I = nothing ? 0 : by_channel ? taps_h.size() : 1;
    args.J = by_channel ? taps_w.size() : taps_h.size();
    args.K = by_channel ? Cg : taps_w.size();
    const bool down = columns.size() == 1;
    args.a_m = down ? args.a_t : g_.w.stride * x.w;
    args.c_m = down ? args.c_t : y_.w;
    args.tiles = down ? 1 : rows.size();
    const T* a = x.data;
    if (!nothing) {
      a += (rows.begin * g_.h.stride - g_.h.pad + taps_h.begin * g_.h.dilation - x.rows.begin) * x.h +
           (columns.begin * g.w.stride - g.w.pad + taps_w.begin * g_.w.dilation - x.columns.begin) * x.w;
    }
    args.b = weights + taps_h.begin * w_i + taps_w.begin * w_j;
    T* c = y_.data + n * y_.n + rows.begin * y_.h + columns.begin * y_.w + lanes.begin;
    if (abreast > 1 && columns.size() >= abreast && !nothing) {
      run_abreast(wide, args, taps_h, taps_w, a, c, columns.size());
      return;
    }
    in_pieces(down ? rows.size() : columns.size(), most_rows(family, args), [&](int64_t offset, int64_t m) {
      args.a = a + offset * args.a_m;
      args.c = c + offset * args.c_m;
      family.rows[m - 1](args);
    });
  });
}

// The arguments of tiles over pixels_abreast pixels as one of as many channels. To: all weights and the bias.
template <class T>
TileArgs<T> DepthwiseConv<T>::repeat_weights(const TileArgs<T>& one, const T* weights, int64_t w_i, int64_t w_j,
                                             T* to) const {
  TileArgs<T> args = one;
  args.columns = plan_.pixels_abreast * g_.C;
  args.a_m = args.c_m = args.columns;
  args.b = to;
  args.b_k = args.columns;
  args.b_j = g_.w.kernel * args.b_k;
  const auto repeat = [&](const T* from) {
    kernels_.copy({from, 0, 1, to, g_.C, plan_.pixels_abreast, g_.C});
    to += args.columns;
  };
  for (int64_t i = 0; i < g_.h.kernel; ++i) {
    for (int64_t j = 0; j < g_.w.kernel; ++j) repeat(weights + i * w_i + j * w_j);
  }
  if (one.bias != nullptr) {
    args.bias = to;
    repeat(one.bias);
  }
  return args;
}

// `count` outputs of each row, at least as many as stand abreast: the last ones overlap those before.
template <class T>
void DepthwiseConv<T>::run_abreast(TileArgs<T> args, const TileArgs<T>& one, Range taps_h, Range taps_w, const T* a,
                                   T* c, int64_t count) const {
  const int64_t abreast = plan_.pixels_abreast;
  const LanewiseFamily<T>& family = lanewise_family(kernels_, args.columns);
  args.I = one.I;
  args.J = one.J;
  args.K = one.K;
  args.tiles = one.tiles;
  args.b += taps_h.begin * args.b_j + taps_w.begin * args.b_k;
  const auto run = [&](int64_t offset, int64_t rows) {
    args.a = a + offset * g_.C;
    args.c = c + offset * g_.C;
    family.rows[rows - 1](args);
  };
  in_pieces(count / abreast, most_rows(family, args), [&](int64_t offset, int64_t m) { run(offset * abreast, m); });
  if (count % abreast != 0) run(count - abreast, 1);
}

#define NHWC_INSTANTIATE(T)                                                                                        \
  template DepthwisePlan make_depthwise_plan<T>(const Kernels<T>&, const ConvGeometry&, const ImageView<const T>&, \
                                                bool, int, RegionRows);                                            \
  template void size_region(const ConvGeometry&, const ImageView<const T>&, DepthwisePlan&);                       \
  template struct ExpandedRegion<T>;                                                                               \
  template class DepthwiseConv<T>;
NHWC_INSTANTIATE(float)
NHWC_INSTANTIATE(double)

}  // namespace nhwc_conv
