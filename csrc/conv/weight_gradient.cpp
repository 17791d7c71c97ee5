#include "weight_gradient.h"

#include "partial_sums.h"

namespace nhwc_conv {

template <class T>
int64_t WeightGradient<T>::row_units() const {
  return g_.groups * plan_.row_tiles * g_.h.kernel * (plan_.merge_taps ? 1 : g_.w.kernel);
}

template <class T>
Range WeightGradient<T>::run_of(int64_t row_tile) const {
  const int64_t run = plan_.swapped      ? g_.O_per_group()
                      : plan_.merge_taps ? g_.w.kernel * g_.C_per_group()
                                         : g_.C_per_group();
  return share_of(run, row_tile, plan_.row_tiles);
}

// Units whose rows read the same window are neighbours, so that it is copied once a block: one window holds the same
// channels for all kernel rows, or one of several the channels for its own.
template <class T>
typename WeightGradient<T>::Rows WeightGradient<T>::rows(int64_t unit) const {
  const int64_t across = plan_.merge_taps ? 1 : g_.w.kernel, KH = g_.h.kernel, tiles = plan_.row_tiles;
  const int64_t j = unit % across, index = unit / across % (KH * tiles), group = unit / across / KH / tiles;
  const int64_t row_tile = plan_.window_of_tap_rows ? index % tiles : index / KH;
  return {group, row_tile, plan_.window_of_tap_rows ? index / tiles : index % KH, j, run_of(row_tile)};
}

// To the next unit.
template <class T>
void WeightGradient<T>::advance(Rows& rows) const {
  if (!plan_.merge_taps && ++rows.j < g_.w.kernel) return;
  rows.j = 0;
  const bool apart = plan_.window_of_tap_rows;
  int64_t &inner = apart ? rows.row_tile : rows.i, &outer = apart ? rows.i : rows.row_tile;
  if (++inner == (apart ? plan_.row_tiles : g_.h.kernel)) {
    inner = 0;
    if (++outer == (apart ? g_.h.kernel : plan_.row_tiles)) {
      outer = 0;
      ++rows.group;
    }
  }
  rows.range = run_of(rows.row_tile);
}

template <class T>
int64_t WeightGradient<T>::blocks() const {
  return g_.N * ceil_div(g_.h.output, plan_.block_rows) * ceil_div(g_.w.output, plan_.block_columns);
}

template <class T>
typename WeightGradient<T>::Block WeightGradient<T>::block(int64_t index) const {
  const int64_t down = ceil_div(g_.h.output, plan_.block_rows), across = ceil_div(g_.w.output, plan_.block_columns);
  Block block = {};
  block.n = index / across / down;
  block.ys = share_of(g_.h.output, index / across % down, down);
  block.xs = share_of(g_.w.output, index % across, across);
  block.group = block.window = block.kernel_row = -1;
  return block;
}

// Besides the partial sums, as many parts as threads need. Of rows, while there are enough: what a thread writes is
// then one piece, where parts of columns would lie between each other's lines. Which tile is in which part shows in no
// bit.
template <class T>
typename WeightGradient<T>::Shares WeightGradient<T>::choose_shares(int threads) const {
  const int64_t needed = ceil_div(threads, plan_.partials), least = clamp(needed, 1, row_units());
  Shares shares = {clamp(ceil_div(needed, least), plan_.column_shares, max(plan_.columns.tiles, plan_.column_shares)),
                   least};
  if (threads == 1) return shares;
  // The last round of items should keep all threads busy.
  const auto rounds = [&](int64_t rows) {
    const int64_t items = plan_.partials * shares.columns * rows;
    return double(ceil_div(items, threads)) / items;
  };
  for (int64_t rows = least + 1; rows <= min(2 * least, row_units()); ++rows) {
    if (rounds(rows) < 0.95 * rounds(shares.rows)) shares.rows = rows;
  }
  return shares;
}

template <class T>
void WeightGradient<T>::run(const Parallel& parallel, T* workspace) const {
  const int64_t elements = g_.h.kernel * g_.w.kernel * g_.C_per_group() * g_.O;
  T* total = plan_.swapped ? workspace : dw_;
  T* partials = plan_.swapped ? workspace + elements : workspace;
  T* scratch = workspace + plan_.partial_elements;
  const Shares shares = choose_shares(parallel.threads);
  for_each_item(parallel, plan_.partials * shares.columns * shares.rows, [&](int64_t item, int64_t slot) {
    const Range tiles = share_of(plan_.columns.tiles, item % shares.columns, shares.columns);
    item /= shares.columns;
    const Range units = share_of(row_units(), item % shares.rows, shares.rows);
    const int64_t partial = item / shares.rows;
    if (tiles.empty() || units.empty()) return;
    const Range mine = share_of(blocks(), partial, plan_.partials);
    for (int64_t b = mine.begin; b < mine.end; ++b) {
      Block part = block(b);
      part.tiles = tiles;
      part.dw = partial == 0 ? total : partials + (partial - 1) * elements;
      part.first = b == mine.begin;
      part.scratch = scratch + slot * plan_.scratch_elements();
      if (b + 1 < mine.end && !plan_.window_of_tap_rows) look_ahead(part, block(b + 1));
      Rows unit = rows(units.begin);
      for (int64_t u = units.begin; u < units.end; ++u, advance(unit)) add(part, unit);
    }
  });
  add_partial_sums(kernels_, parallel, total, partials, elements, plan_.partials);
  if (!plan_.swapped) return;
  const int64_t per_output = g_.h.kernel * g_.w.kernel * g_.C_per_group();
  for_each_item(parallel, ceil_div(per_output, 1024), [&](int64_t item, int64_t) {
    const Range part = {item * 1024, clamp((item + 1) * 1024, 0, per_output)};
    kernels_.copy({total + part.begin, 1, per_output, dw_ + part.begin * g_.O, g_.O, part.size(), g_.O});
  });
}

template <class T>
Window WeightGradient<T>::window(const Block& block, bool of_x, Range channels) const {
  if (!of_x) return {block.ys, block.xs, channels};
  const Axis h = plan_.window_of_tap_rows ? g_.h.of_tap(block.kernel_row) : g_.h;
  return {h.inputs(block.ys), g_.w.inputs(block.xs), channels};
}

// Calls visit(columns, panel) for each tile of columns of a group: its channels, counted in the group, and where its
// window stands, if there is one.
template <class T>
template <class Visit>
void WeightGradient<T>::each_tile(const Block& block, const Visit& visit) const {
  const int64_t pixels = window(block, plan_.swapped, {}).pixels();
  T* panel = block.scratch + plan_.row_window_elements;
  Range columns = {plan_.columns.begin(block.tiles.begin), 0};
  for (int64_t tile = block.tiles.begin; tile < block.tiles.end; ++tile) {
    columns.end = plan_.columns.end(tile);
    visit(columns, panel);
    panel += pixels * columns.size();
    columns.begin = columns.end;
  }
}

// Makes tiles of this block ask for the next one's pixels, which else wait for memory in its first tiles. Only where
// whole rows of the image are one piece: line after line gains more than one line of each pixel, and skips no page.
template <class T>
void WeightGradient<T>::look_ahead(Block& block, const Block& next) const {
  const auto ahead = [&](const ImageView<const T>& view, const Axis& w, const Window& part) -> Ahead {
    const int64_t channels = part.channels.size();
    if (view.c != 1 || view.w != channels || view.h != part.columns.size() * channels || w.stride > w.kernel) return {};
    const T* from = view.data + next.n * view.n + part.rows.begin * view.h;
    return {from, part.pixels() * channels};
  };
  block.ahead[0] = ahead(x_, g_.w, window(next, true, {0, g_.C}));
  block.ahead[1] = ahead(grad_, {0, 0, 1, 1, 1, 0}, window(next, false, {0, g_.O}));
}

// Brings the channels of these rows and the columns of their group, unless they are there.
template <class T>
void WeightGradient<T>::read(Block& block, const Rows& rows) const {
  const int64_t index = rows.row_tile / plan_.window_row_tiles;
  const bool same_group = rows.group == block.group;
  const bool same_x = same_group && (!plan_.window_of_tap_rows || rows.i == block.kernel_row);
  const bool same_rows = plan_.swapped ? same_group : same_x, same_columns = plan_.swapped ? same_x : same_group;
  block.group = rows.group;
  block.kernel_row = rows.i;
  if (same_rows && same_columns && index == block.window) return;
  const ImageView<const T>& by_rows = plan_.swapped ? grad_ : x_;
  const ImageView<const T>& by_columns = plan_.swapped ? x_ : grad_;
  if (plan_.row_window_elements > 0) {
    const int64_t first = index * plan_.window_row_tiles;
    const int64_t last = clamp(first + plan_.window_row_tiles, 0, plan_.row_tiles) - 1;
    const int64_t group_channels = plan_.swapped ? g_.O_per_group() : g_.C_per_group();
    Range channels = {0, group_channels};
    if (!plan_.merge_taps) channels = {run_of(first).begin, run_of(last).end};
    channels.begin += rows.group * group_channels;
    channels.end += rows.group * group_channels;
    block.by_rows = copy_window(kernels_, by_rows, block.n, window(block, !plan_.swapped, channels), block.scratch);
  } else {
    block.by_rows = of_image(by_rows, block.n);
  }
  if (plan_.column_window_elements > 0 && !same_columns) {
    const int64_t first = rows.group * plan_.columns.columns;
    each_tile(block, [&](Range columns, T* panel) {
      const Window part = window(block, plan_.swapped, {first + columns.begin, first + columns.end});
      copy_window(kernels_, by_columns, block.n, part, panel);
    });
  }
  block.window = index;
}

template <class T>
void WeightGradient<T>::add(Block& block, const Rows& rows) const {
  read(block, rows);
  const Range valid = g_.h.outputs(rows.i).within(block.ys);
  if (!plan_.merge_taps) {
    emit(block, rows, valid, g_.w.outputs(rows.j).within(block.xs), rows.j, rows.range, !block.first);
    return;
  }
  const Range inside = g_.w.interior().within(block.xs);
  emit(block, rows, valid, inside, 0, rows.range, !block.first);
  const int64_t Cg = g_.C_per_group();
  for (int64_t j = rows.range.begin / Cg; j * Cg < rows.range.end; ++j) {
    const Range outputs = g_.w.outputs(j).within(block.xs);
    const Range part = rows.range.within({j * Cg, (j + 1) * Cg});
    emit(block, rows, valid, outputs.before(inside), 0, part, true);
    emit(block, rows, valid, outputs.after(inside), 0, part, true);
  }
}

// A line at each step of the reduction.
template <class T>
void WeightGradient<T>::ask(TileArgs<T>& args, Block& block) {
  args.ahead = nullptr;
  args.ahead_k = 0;
  for (Ahead& ahead : block.ahead) {
    if (ahead.elements <= 0) continue;
    args.ahead = ahead.from;
    args.ahead_k = kLineBytes / sizeof(T);
    args.ahead_i = args.K * args.ahead_k;
    ahead.from += args.I * args.ahead_i;
    ahead.elements -= args.I * args.ahead_i;
    return;
  }
}

template <class T>
void WeightGradient<T>::emit(Block& block, const Rows& rows, Range ys, Range xs, int64_t j, Range range,
                             bool accumulate) const {
  const bool nothing = ys.empty() || xs.empty();
  if (nothing && accumulate) return;
  const int64_t Cg = g_.C_per_group(), Og = g_.O_per_group(), taps = g_.h.kernel * g_.w.kernel;
  const int64_t tap = rows.i * g_.w.kernel + j;
  const int64_t first_row = rows.group * (plan_.swapped ? Og : Cg) + range.begin;
  // Input and output pixels, as steps and first ones.
  const int64_t x_y = ys.begin * g_.h.stride - g_.h.pad + rows.i * g_.h.dilation;
  const int64_t x_x = xs.begin * g_.w.stride - g_.w.pad + j * g_.w.dilation;
  const auto pixel = [&](const ImageView<const T>& view, bool of_x) {
    return of_x ? x_y * view.h + x_x * view.w : ys.begin * view.h + xs.begin * view.w;
  };
  const int64_t down = plan_.swapped ? 1 : g_.h.stride, across = plan_.swapped ? 1 : g_.w.stride;
  const int64_t columns_down = plan_.swapped ? g_.h.stride : 1, columns_across = plan_.swapped ? g_.w.stride : 1;
  TileArgs<T> args = {};
  args.J = 1;
  args.a = block.by_rows.data;
  if (!nothing) args.a += pixel(block.by_rows, !plan_.swapped) + first_row;
  args.a_i = down * block.by_rows.h;
  args.a_k = across * block.by_rows.w;
  args.a_m = 1;
  args.c_m = plan_.swapped ? taps * Cg : g_.O;
  args.mode = accumulate ? Mode::add : Mode::fresh;
  const ImageView<const T> by_columns = of_image(plan_.swapped ? x_ : grad_, block.n);
  Window part = window(block, plan_.swapped, {});
  each_tile(block, [&](Range columns, const T* panel) {
    const int64_t column = rows.group * plan_.columns.columns + columns.begin;
    part.channels = {column, column + columns.size()};
    const ImageView<const T> right = plan_.column_window_elements > 0 ? window_view<T>(part, panel) : by_columns;
    args.b = right.data;
    if (!nothing) args.b += pixel(right, plan_.swapped) + column;
    args.b_i = columns_down * right.h;
    args.b_k = columns_across * right.w;
    args.I = nothing ? 0 : ys.size();
    args.K = xs.size();
    // Rows of pixels without a gap between them are one.
    if (args.I > 1 && args.a_i == args.K * args.a_k && args.b_i == args.K * args.b_k) {
      args.K *= args.I;
      args.I = 1;
    }
    // Sums stand as [KH][KW][C/groups][O], or swapped as [O][KH][KW][C/groups].
    args.c = block.dw + (plan_.swapped ? first_row * args.c_m + tap * Cg + columns.begin
                                       : (tap * Cg + range.begin) * args.c_m + column);
    args.columns = columns.size();
    ask(args, block);
    const int64_t vectors = ceil_div(args.columns, plan_.columns.lanes);
    family_of(kernels_, plan_.columns.lanes, vectors).columns_of_a[range.size() - 1](args);
  });
}

template class WeightGradient<float>;
template class WeightGradient<double>;

}  // namespace nhwc_conv
