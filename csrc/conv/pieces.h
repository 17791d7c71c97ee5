// The dense runner where weights outgrow the second-level cache and meet few pixels: to pack them all, to memory and
// back, costs as much as the products. Here an item packs a piece of them, multiplies it with all outputs that have its
// tap, while the next piece comes from memory, and forgets it.
#pragma once

#include <optional>

#include "coming_weights.h"
#include "pieces_plan.h"

namespace nhwc_conv {

template <class S, class A> class PiecesRunner {
 public:
  PiecesRunner(const PiecesPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o), product_(plan, o) {}

  int64_t pack_items() const { return 0; }
  void pack(int64_t) const {}
  int64_t items() const { return o_.g.groups * plan_.column_shares; }

  void run(int64_t index, Sum<A>* scratch) const {
    const ConvGeometry& g = o_.g;
    Item item = start(index, scratch);
    for (int64_t n = 0; n < g.N && plan_.staged; ++n) {
      stage_pixels(o_.kernels, o_.x, n, item.inputs, elements_in<A>(scratch) + n * item.inputs.elements());
    }
    // In the order of memory all tiles take a piece before the next one, else one tile takes all its pieces.
    const int64_t together = item.in_order ? item.tiles.size() : 1;
    for (int64_t first = item.tiles.begin; first < item.tiles.end; first += together) {
      for (int64_t b = 0; b < plan_.blocks(); ++b) {
        each_piece(plan_, o_.g, product_.block(b), [&](Piece piece) {
          for (piece.tile = first; piece.tile < first + together; ++piece.tile) take(item, piece);
        });
      }
    }
    multiply_held(item, nullptr);
    for (int64_t n = 0; n < g.N; ++n) o_.result.finish(o_.kernels, n, item.outputs, sums(item, n));
  }

 private:
  struct Item {
    int64_t group;
    Range tiles;
    Region inputs, outputs;  // of each image
    ImageView<const A> x;    // from the group's first channel on
    A* packed;               // a piece
    Sum<A>*apart, *result;   // sums of later blocks, those that the result cannot hold
    // Whether HWIO weights are taken in the order of memory: if the sums of all columns stay in the cache meanwhile.
    // Whether the first tile packs a piece while it multiplies: rows of weights, all as far apart.
    bool in_order, packed_by_tile;
    std::optional<Piece> held;  // not yet multiplied
  };

  Item start(int64_t index, Sum<A>* scratch) const {
    const ConvGeometry& g = o_.g;
    Item item = {};
    item.group = index / plan_.column_shares;
    item.tiles = share_of(plan_.form.columns.tiles, index % plan_.column_shares, plan_.column_shares);
    item.inputs = {{0, g.h.input}, {0, g.w.input}, channels_of(item.group, g.C_per_group())};
    item.outputs = {{0, g.h.output}, {0, g.w.output}, outputs_of(g, item.group, plan_.form.columns.of(item.tiles))};
    item.x = from_group(plan_.staged ? staged_pixels<A>(item.inputs, elements_in<A>(scratch)) : in_place<A>(o_.x), g,
                        item.group);
    if (plan_.staged) item.x.n = item.inputs.elements();
    item.packed = elements_in<A>(scratch) + plan_.staged_elements;
    item.apart = scratch + plan_.staged_elements + plan_.piece_elements;
    item.result = item.apart + plan_.sum_elements;
    const int64_t sum_bytes = g.N * item.outputs.elements() * static_cast<int64_t>(sizeof(A));
    item.in_order = !plan_.prepacked && o_.w.o == 1 && sum_bytes <= kPieceRowsBytes;
    item.packed_by_tile = std::is_same_v<S, A> && !plan_.prepacked && o_.w.o == 1 &&
                          (g.w.kernel == 1 || o_.w.j == g.C_per_group() * o_.w.c);
    return item;
  }

  ImageView<Sum<A>> sums(const Item& item, int64_t n) const {
    return o_.result.sums(n, item.outputs, item.result + n * item.outputs.elements());
  }

  // Where a piece's weights lie, from kernel row i and product `at` of its rows on.
  const S* unpacked(const Item& item, const Piece& piece, int64_t i, int64_t at) const {
    const int64_t Cg = o_.g.C_per_group(), j = piece.terms.taps.begin + at / Cg;
    return product_.weights.tap(item.group, piece.tile, i, j) + at % Cg * o_.w.c;
  }

  // Whether pieces are parts of whole panels.
  bool has_panels() const { return plan_.prepacked || plan_.whole_tiles; }

  // Multiplies the piece that is held, while this one comes, and packs it.
  void take(Item& item, const Piece& piece) const {
    const int64_t Cg = o_.g.C_per_group(), width = plan_.form.columns.padded(piece.tile);
    multiply_held(item, &piece);
    const bool is_new = !item.held || item.held->tile != piece.tile;
    item.held = piece;
    if (plan_.whole_tiles && is_new) product_.weights.pack_taps(item.group, piece.tile, {0, Cg}, item.packed);
    if (has_panels() || item.packed_by_tile) return;
    const Terms& terms = piece.terms;
    A* to = item.packed;
    for (int64_t i = terms.rows.begin; i < terms.rows.end; ++i) {
      for (int64_t at = terms.inner.begin, end; at < terms.inner.end; at = end) {
        end = min((at / Cg + 1) * Cg, terms.inner.end);
        const int64_t tap = terms.taps.begin + at / Cg;
        const Range channels = {at % Cg, at % Cg + end - at};
        product_.weights.pack_channels(product_.weights.tap(item.group, piece.tile, i, tap), channels, to, piece.tile);
        to += (end - at) * width;
      }
    }
  }

  // The outputs that a piece's taps have.
  Range outputs_h(const Terms& terms) const { return o_.g.h.outputs(terms.rows.begin); }
  Range outputs_w(const Terms& terms) const {
    return o_.g.w.outputs(terms.taps.begin + terms.inner.begin / o_.g.C_per_group());
  }

  // While tiles ask for the next piece, if there is one.
  void multiply_held(Item& item, const Piece* next) const {
    if (!item.held) return;
    const Piece& held = *item.held;
    const ColumnTiles& columns = plan_.form.columns;
    ComingWeights<A> ahead = next == nullptr ? ComingWeights<A>{} : coming(item, *next);
    for (int64_t n = 0; n < o_.g.N; ++n) {
      Column<A> column = product_.column(item.group, held.tile, sums(item, n));
      TileArgs<A>& args = column.args;
      if (!plan_.prepacked) args.b = item.packed;
      if (has_panels()) args.b = product_.weights_of(column, held.terms);
      if (!has_panels()) args.b_i = held.terms.inner.size() * args.b_k;
      const int64_t before = o_.g.N * (columns.begin(held.tile) - columns.begin(item.tiles.begin)) + n * args.columns;
      multiply(column, item, n, item.apart + item.outputs.pixels() * before, ahead);
    }
  }

  // What the tiles of the piece that is held ask for. Of packed weights an equal part each, one line after the other:
  // memory keeps pace with the products. Else each tile asks for some rows, or for one line of every row of weights, or
  // for some of every column where these lie along the reduction.
  ComingWeights<A> coming(const Item& item, const Piece& next) const {
    const int64_t line = o_.kernels.machine.line / sizeof(A), depth = item.held->terms.inner.size();
    const Column<A> column = product_.column(item.group, next.tile, sums(item, 0));
    const int64_t columns = column.args.columns;
    if (plan_.prepacked) {
      const int64_t terms = max(item.held->terms.rows.size() * depth, 1), tiles = tiles_of(*item.held);
      const int64_t elements = next.terms.rows.size() * next.terms.inner.size() * column.args.b_k;
      const int64_t step = ceil_div(ceil_div(elements, tiles), terms);
      return {product_.weights_of(column, next.terms), {1, 0, step, step * terms, tiles}};
    }
    const bool by_products = o_.w.o == 1;
    if (!by_products && (o_.w.c != 1 || plan_.whole_tiles)) return {};
    const A* const from = in_place<A>(unpacked(item, next, next.terms.rows.begin, next.terms.inner.begin));
    // Neighbours in memory are the columns of a product, or the products of a column up to the end of a tap.
    const int64_t Cg = o_.g.C_per_group(), of_tap = min(next.terms.inner.size(), Cg - next.terms.inner.begin % Cg);
    const int64_t row_step = in_elements<S, A>(by_products ? o_.w.c : o_.w.o);
    if (plan_.asks_for_rows) {
      const int64_t products = item.packed_by_tile ? next.terms.rows.size() * next.terms.inner.size() : of_tap;
      const int64_t rows = by_products ? products : columns, elements = by_products ? columns : products;
      return {from, {}, {rows, row_step, in_elements<S, A>(elements), ceil_div(rows, tiles_of(*item.held))}};
    }
    if (by_products) return {from, {1, 0, row_step, line, ceil_div(in_elements<S, A>(columns), line)}};
    // Runs of as many products as there are columns, or a few more; elsewhere no memory may be.
    int64_t runs = max(depth / columns, 1);
    while (runs > 1 && depth % (runs * plan_.step) != 0) --runs;
    if (depth >= 2 * runs * columns) return {};
    return {from, {runs, line, row_step, runs * line, ceil_div(in_elements<S, A>(of_tap), runs * line)}};
  }

  // Over the outputs of all images that have a piece's taps; at least one.
  int64_t tiles_of(const Piece& piece) const {
    const TileFamily<A>& family = family_of(o_.kernels, plan_.form.columns, piece.tile);
    const int64_t across = outputs_w(piece.terms).size(), in_row = ceil_div(across, family.most_rows(across));
    return max(o_.g.N * outputs_h(piece.terms).size() * in_row, 1);
  }

  // With all outputs of an image that have the tap. Sums of a later block stand apart until it closes.
  void multiply(const Column<A>& column, const Item& item, int64_t n, Sum<A>* apart, ComingWeights<A>& ahead) const {
    const Axis &h = o_.g.h, &w = o_.g.w;
    const ImageView<const A> x = of_image(item.x, n);
    const Piece& piece = *item.held;
    const int64_t columns = column.args.columns;
    const ImageView<Sum<A>> later = {apart, 0, w.output * columns, columns, 1};
    const ImageView<Sum<A>>& sums = piece.first_block ? column.sums : later;
    const Range xs = outputs_w(piece.terms);
    const Range ys = xs.empty() ? Range{0, 0} : outputs_h(piece.terms);
    bool packs = n == 0 && item.packed_by_tile;
    TileArgs<A> args = product_.args(column, {{}, {}, piece.first_block});
    args.mode = piece.opens ? Mode::fresh : Mode::go_on;
    args.c_m = sums.w;
    if (piece.opens && ys.size() * xs.size() < h.output * w.output) {
      // Some outputs lack the tap: all sums begin before its products.
      for (int64_t at = 0; at < h.output * w.output; ++at) {
        args.c = sums.data + at / w.output * sums.h + at % w.output * sums.w;
        column.kernels[0](args);
      }
      args.mode = Mode::go_on;
    }
    for (int64_t y = ys.begin; y < ys.end; ++y) {
      product_.aim(args, column, piece.terms, x, y, xs.begin, false);
      const int64_t runs = ahead.runs();
      args.set_sums(args.I, runs, piece.terms.inner.size() / runs);
      args.a_j = args.K;
      args.set_b(column.args.b, column.args.b_i, args.K * column.args.b_k, column.args.b_k);
      args.c = sums.data + y * sums.h + xs.begin * sums.w;
      in_tiles(xs.size(), column.most_rows(xs.size()), [&](int64_t, int64_t m) {
        ahead.ask(args, piece.terms.inner.size());
        packs ? run_packing(column, item, args, m) : column.kernels[m - 1](args);
        packs = false;
        args.a += m * args.a_m;
        args.c += m * args.c_m;
      });
    }
    if (piece.first_block || !piece.closes) return;
    for (int64_t at = 0; at < h.output * w.output; ++at) {
      Sum<A>* const to = column.sums.data + at / w.output * column.sums.h + at % w.output * column.sums.w;
      o_.kernels.add(to, apart + at * columns, columns);
    }
  }

  // The products of a tile with weights where they lie, which are packed on the way.
  void run_packing(const Column<A>& column, const Item& item, TileArgs<A> args, int64_t m) const {
    const Terms& terms = item.held->terms;
    const S* const from = unpacked(item, *item.held, terms.rows.begin, terms.inner.begin);
    args.set_b(in_place<A>(from), o_.w.i, args.K * o_.w.c, o_.w.c);
    args.packed = item.packed;
    column.packing_kernels[m - 1](args);
  }

  const PiecesPlan& plan_;
  const Operands<S, A>& o_;
  DenseProduct<S, A> product_;
};

}  // namespace nhwc_conv
