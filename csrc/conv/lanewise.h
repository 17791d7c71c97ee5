// The runner for many groups with few output channels each, depthwise layers above all: a vector's lanes run over the
// channels of all groups.
#pragma once

#include "lanewise_plan.h"
#include "walk.h"

namespace nhwc_conv {

// The widest family whose vectors fit into this many columns.
template <class A> const LanewiseFamily<A>& lanewise_family(const Arithmetic<A>& kernels, int64_t columns) {
  int f = 0;
  while (kernels.lanewise[f].lanes > columns) ++f;
  return kernels.lanewise[f];
}

// Those of as many channels a group.
template <class A> const GroupedKernels<A>& grouped_kernels(const Arithmetic<A>& kernels, const ConvGeometry& g) {
  int width = 0;
  while (2 << width < g.C_per_group()) ++width;
  return kernels.grouped[width];
}

// Packs tap `item` of the weights, [KH, KW][C/groups][O], in rows of so many elements.
template <class S, class A>
void pack_lanes(const Kernels<S, A>& kernels, const ConvGeometry& g, const WeightView<const S>& w, int64_t row,
                int64_t item, A* packed) {
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group();
  const S* from = w.data + item / g.w.kernel * w.i + item % g.w.kernel * w.j;
  A* to = packed + item * Cg * row;
  if (Og == 1) {
    kernels.copy({from, w.c, w.group, to, row, Cg, g.groups});
    return;
  }
  for (int64_t group = 0; group < g.groups; ++group) {
    kernels.copy({from + group * w.group, w.c, w.o, to + group * Og, row, Cg, Og});
  }
}

template <class S, class A> class LanewiseRunner {
 public:
  LanewiseRunner(const LanewisePlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o) {}

  int64_t pack_items() const { return plan_.pack_weights ? o_.g.taps() : 0; }
  void pack(int64_t item) const { pack_lanes(o_.kernels, o_.g, o_.w, plan_.packed_row, item, o_.packed); }
  int64_t items() const { return plan_.items(o_.g); }

  void run(int64_t index, A* scratch) const {
    ConvGeometry g = o_.g;
    const auto [n, outputs] = plan_.item(g, index);
    A* const copies = scratch + plan_.layout.elements;
    const LanesView<A> x = read_lanes(o_.kernels, plan_.layout, g, o_.x, n, outputs, scratch);
    Item item = {outputs.channels, x, weights(outputs.channels), {}};
    const auto run_to = [&, &outputs = outputs](const auto& to) {
      // Neighbouring pixels must be neighbours in memory.
      const bool abreast = plan_.pixels_abreast > 1 && x.w == g.C && to.w == g.C;
      item.wide = abreast ? repeat(item.weights, copies) : item.weights;
      g.w = plan_.layout.across(g);
      walk(g, outputs.ys, outputs.xs,
           [&](Range ys, Range xs, Range taps_h, Range taps_w) { run_rectangle(g, item, to, ys, xs, taps_h, taps_w); });
    };
    if (plan_.finishes) return run_to(of_image(o_.result.y, n));
    const ImageView<A> sums = o_.result.sums(n, outputs, copies + plan_.repeated_elements);
    run_to(sums);
    o_.result.finish(o_.kernels, n, outputs, sums);
  }

 private:
  // Weights and bias of the columns of a tile: an item's lanes, for so many pixels side by side.
  struct Weights {
    const A* data;
    int64_t i, j, k;
    const A* bias;
    int64_t pixels, columns;
  };
  struct Item {
    Range lanes;
    LanesView<A> x;
    Weights weights, wide;  // of one pixel, and of pixels abreast, if any are
  };

  Weights weights(Range lanes) const {
    const WeightView<const S>& w = o_.w;
    const A* const bias = o_.bias == nullptr ? nullptr : o_.bias + lanes.begin;
    if (!plan_.pack_weights) return {in_place<A>(w.data) + lanes.begin, w.i, w.j, w.c, bias, 1, lanes.size()};
    const int64_t row = plan_.packed_row, tap = o_.g.C_per_group() * row;
    return {o_.packed + lanes.begin, o_.g.w.kernel * tap, tap, row, bias, 1, lanes.size()};
  }

  // Writes the weights and the bias of one pixel as often as pixels stand abreast.
  Weights repeat(const Weights& one, A* to) const {
    const int64_t abreast = plan_.pixels_abreast, columns = abreast * o_.g.C;
    Weights wide = {to, o_.g.w.kernel * columns, columns, 0, nullptr, abreast, columns};
    const auto copy = [&](const A* from) {
      o_.kernels.rearrange({from, 0, 1, to, o_.g.C, abreast, o_.g.C});
      to += columns;
    };
    for (int64_t i = 0; i < o_.g.h.kernel; ++i) {
      for (int64_t j = 0; j < o_.g.w.kernel; ++j) copy(one.data + i * one.i + j * one.j);
    }
    if (one.bias != nullptr) {
      wide.bias = to;
      copy(one.bias);
    }
    return wide;
  }

  // Outputs that all have the same taps. Under dilated kernels neighbours share no pixels: tiles then take outputs so
  // far apart that they do, where there are some, unless pixels are so small that lines would be read for each.
  template <class T>
  void run_rectangle(const ConvGeometry& g, const Item& item, const ImageView<T>& to, Range ys, Range xs, Range taps_h,
                     Range taps_w) const {
    if (g.w.apart > 1) return run_half_steps(g, item, to, ys, xs, taps_h, taps_w);
    const bool shares = pixel_bytes<A>(g) >= kSharedPixelBytes;
    const int64_t down = shares ? g.h.sharing_step(ys.size()) : 1, across = shares ? g.w.sharing_step(xs.size()) : 1;
    for (int64_t y = ys.begin; y < ys.begin + down; ++y) {
      for (int64_t x = xs.begin; x < xs.begin + across; ++x) {
        run_lattice(g, item, to, {{y, ys.end}, down}, {{x, xs.end}, across}, taps_h, taps_w);
      }
    }
  }

  // Outputs that read every second place of their kernel row, neighbours in turn. Tiles of them run along a row, so
  // that results are written in the order of memory, and the last overlaps the one before it; few outputs go one by
  // one.
  template <class T>
  void run_half_steps(const ConvGeometry& g, const Item& item, const ImageView<T>& to, Range ys, Range xs, Range taps_h,
                      Range taps_w) const {
    const Weights& w = item.weights;
    if (xs.size() < kHalfStepRows || taps_w.size() < g.w.kernel || taps_h.empty()) {
      for (int64_t x = xs.begin; x < xs.end; ++x) run_lattice(g, item, to, {ys, 1}, {{x, x + 1}, 1}, taps_h, taps_w);
      return;
    }
    TileArgs<A> args = tile_args(w);
    args.c_m = to.w;
    args.a_t = kHalfStepRows / 2 * item.x.w;
    args.c_t = kHalfStepRows * to.w;
    args.set_sums(1, taps_h.size(), g.w.kernel);
    args.set_b(w.data + taps_h.begin * w.i, 0, w.i, w.j);
    for (int64_t y = ys.begin; y < ys.end; ++y) {
      const A* const a = item.x.data + (g.h.input_of(y, taps_h.begin) - item.x.ys.begin) * item.x.h;
      T* const c = to.data + y * to.h + item.lanes.begin;
      const auto run = [&](int64_t x, int64_t tiles) {
        const int64_t place = g.w.input_of(x, 0);
        args.set_a(a + (ceil_div(place, 2) - item.x.xs.begin) * item.x.w, 0, 0, g.h.dilation * item.x.h, item.x.w);
        args.c = reinterpret_cast<A*>(c + x * to.w);
        args.tiles = tiles;
        o_.kernels.lanewise[0].half_steps[place % 2](args);
      };
      run(xs.begin, xs.size() / kHalfStepRows);
      if (xs.size() % kHalfStepRows > 0) run(xs.end - kHalfStepRows, 1);
    }
  }

  // Of fresh sums; what else they need, callers set.
  TileArgs<A> tile_args(const Weights& w) const {
    TileArgs<A> args = {};
    args.columns = w.columns;
    args.bias = w.bias;
    args.mode = Mode::fresh;
    if (plan_.finishes) o_.result.finish_in_tiles(args);
    return args;
  }

  // Every `step`-th of some outputs.
  struct Every {
    Range range;
    int64_t step;
    int64_t size() const { return ceil_div(range.size(), step); }
  };

  // Tiles along rows of outputs, or down their only column. They go to an image of sums, or of results that these are
  // rounded to.
  template <class T>
  void run_lattice(const ConvGeometry& g, const Item& item, const ImageView<T>& to, Every ys, Every xs, Range taps_h,
                   Range taps_w) const {
    const LanesView<A>& x = item.x;
    const Weights& w = xs.size() < item.wide.pixels ? item.weights : item.wide;
    const bool down = xs.size() == 1;
    const int64_t a_line = ys.step * g.h.stride * x.h, c_line = ys.step * to.h;
    const int64_t a_pixel = down ? a_line : xs.step * g.w.stride * x.w, c_pixel = down ? c_line : xs.step * to.w;
    const Axis::Taps columns = g.w.with_inputs(xs.range.begin, taps_w);
    const A* a = x.data;
    if (!taps_h.empty() && columns.count > 0) {
      a += (g.h.input_of(ys.range.begin, taps_h.begin) - x.ys.begin) * x.h + (columns.input - x.xs.begin) * x.w;
    }
    const A* const b = w.data + taps_h.begin * w.i + columns.first * w.j;
    T* c = to.data + ys.range.begin * to.h + xs.range.begin * to.w + item.lanes.begin;
    TileArgs<A> args = tile_args(w);
    // The innermost loop runs over whatever there is more than one of: channels of a group, or kernel columns.
    const int64_t a_i = g.h.dilation * x.h, a_j = g.w.dilation * x.w, a_m = w.pixels * a_pixel;
    if (plan_.grouped) {
      args.set_sums(taps_h.size(), g.C_per_group(), taps_w.size());
      args.set_a(a, a_m, a_i, 1, a_j);
      args.set_b(b, w.i, w.k, w.j);
    } else if (g.C > g.groups) {
      args.set_sums(taps_h.size(), taps_w.size(), g.C_per_group());
      args.set_a(a, a_m, a_i, a_j, x.k);
      args.set_b(b, w.i, w.j, w.k);
    } else {
      args.set_sums(1, taps_h.size(), columns.count);
      args.set_a(a, a_m, 0, a_i, a_j);
      args.set_b(b, 0, w.i, g.w.apart * w.j);
    }
    args.c_m = w.pixels * c_pixel;
    args.asks_ahead = plan_.order.asks_ahead ? a_line / max(a_i, 1) : 0;
    args.tiles = down ? 1 : ys.size();
    args.a_t = a_line;
    args.c_t = c_line;
    const LanewiseFamily<A>& family = lanewise_family(o_.kernels, w.columns);
    const TileFn<A>* const kernels = kernels_of<T>(family);
    const auto run = [&](int64_t offset, int64_t m) {
      args.a = a + offset * a_pixel;
      args.c = reinterpret_cast<A*>(c + offset * c_pixel);
      kernels[m - 1](args);
    };
    const int64_t count = down ? ys.size() : xs.size(), rows = w.pixels == 1 ? count : count / w.pixels;
    const bool by_rows = plan_.order.by_rows && !down;
    const int64_t most = by_rows ? plan_.order.rows : most_rows(family, args);
    for (int64_t lines = by_rows ? ys.size() : 1; lines > 0; --lines, a += a_line, c += c_line) {
      in_equal_tiles(rows, most, [&](int64_t row, int64_t m, int64_t tiles) {
        if (by_rows) args.set_tiles(tiles, m * args.a_m, m * args.c_m);
        for (int64_t calls = by_rows ? 1 : tiles; calls > 0; --calls, row += m) run(row * w.pixels, m);
      });
      if (by_rows) args.tiles = 1;
      // The last pixels abreast overlap those before.
      if (rows * w.pixels < count) run(count - w.pixels, 1);
    }
  }

  template <class T> const TileFn<A>* kernels_of(const LanewiseFamily<A>& family) const {
    if (plan_.grouped) return grouped_kernels(o_.kernels, o_.g).rows;
    return std::is_same_v<T, A> ? family.rows : family.rounding_rows;
  }

  // The most rows of a tile. Rows of a border are short.
  int64_t most_rows(const LanewiseFamily<A>& family, const TileArgs<A>& args) const {
    if (args.tiles == 1 || plan_.grouped) return kMaxLanewiseRows;
    const bool rolling = args.J == 3 && args.K == 3 && args.a_t == args.a_j && args.a_m == args.a_k;
    return rolling ? family.rows_of_rolling : plan_.order.rows;
  }

  const LanewisePlan& plan_;
  const Operands<S, A>& o_;
};

}  // namespace nhwc_conv
