// The register tiles of a product: how output channels are cut into them, and which kernels compute them.
#pragma once

#include "../kernels/kernels.h"
#include "geometry.h"
#include "tuning.h"

namespace nhwc_conv {

// Output channels of one group, cut into tiles of whole vectors. Only the last vector may be partial; then it stands
// back from the end and overlaps its neighbour in the same tile, so a tile that ends partial has two vectors or more.
struct ColumnTiles {
  int64_t columns;  // output channels
  int lanes;        // per vector
  int vectors;      // of the widest tile
  int64_t total;    // vectors in all
  int64_t tiles;

  int64_t first_vector(int64_t tile) const { return tile * total / tiles; }
  int64_t begin(int64_t tile) const { return first_vector(tile) * lanes; }
  int64_t end(int64_t tile) const { return tile + 1 == tiles ? columns : begin(tile + 1); }
  int64_t size(int64_t tile) const { return end(tile) - begin(tile); }
  Range of(Range some) const { return {begin(some.begin), end(some.end - 1)}; }
  int64_t vectors_of(int64_t tile) const { return first_vector(tile + 1) - first_vector(tile); }
  // With what a partial vector lacks.
  int64_t padded(int64_t tile) const { return vectors_of(tile) * lanes; }
  int64_t widest() const { return int64_t(vectors) * lanes; }
  int64_t padded_columns() const { return total * lanes; }
  // Of groups before, and of tiles before in this one.
  int64_t padded_before(int64_t group, int64_t tile) const { return group * padded_columns() + begin(tile); }
};

// The form of the tile kernels, and with it the layout of packed weights.
struct DenseForm {
  bool dot;  // too few columns for lanes over them: lanes run over the reduction, and weights are packed [O][KH][KW][C]
  ColumnTiles columns;
};

// The broadcast kernels of one shape. The plan named it from these kernels, so it is there.
template <class A> const TileFamily<A>& family_of(const Arithmetic<A>& kernels, int lanes, int64_t vectors) {
  int f = 0;
  while (kernels.family[f].lanes != lanes || kernels.family[f].vectors != vectors) ++f;
  return kernels.family[f];
}

// Of one tile, or of the widest.
template <class A>
const TileFamily<A>& family_of(const Arithmetic<A>& kernels, const ColumnTiles& columns, int64_t tile) {
  return family_of(kernels, columns.lanes, columns.vectors_of(tile));
}
template <class A> const TileFamily<A>& widest_family(const Arithmetic<A>& kernels, const ColumnTiles& columns) {
  return family_of(kernels, columns.lanes, columns.vectors);
}

// Whether the widest vectors are whole cache lines, each of which is loaded at once.
template <class A> bool loads_lines(const Arithmetic<A>& kernels) {
  return kernels.lanewise[0].lanes * static_cast<int64_t>(sizeof(A)) >= kLineBytes;
}

// The sets of a first-level cache into which lines so many bytes apart fall.
inline int64_t cache_sets(int64_t apart) {
  const int64_t power_of_two = apart & -apart;
  return power_of_two == 0 ? 1 : clamp(kPageBytes / power_of_two, 1, kPageBytes / kLineBytes);
}

// Rows of A that stand so many elements apart and stay in the cache together, beside B and C.
template <class A> int64_t rows_together(int64_t apart) {
  return (kCacheWays - 1) * cache_sets(apart * static_cast<int64_t>(sizeof(A)));
}

// Whose tiles these are. Where a weight gradient has several, none is wider than kGradientColumnsBytes.
enum class TilesOf { outputs, weight_gradient };

// The estimated cycles of tiles of `run` rows, of so many at most, of a family's width. A step of the reduction in a
// tile of m rows and v vectors takes m*v multiply-adds; loads of B and of A run beside them and only count a little. A
// vector of B is loaded for a whole step. Rows of A are lines of memory each, but those of a weight gradient are one
// line, and matrices of them load as vectors of B do.
template <class A>
double cycles_of_run(const Arithmetic<A>& kernels, int64_t run, int64_t max_rows, int64_t vectors, TilesOf whose) {
  const int64_t tiles = ceil_div(run, max_rows);
  const double rows = double(run) / tiles, products = rows * vectors;
  const bool far_rows = whose == TilesOf::outputs && kernels.reduction_step == 1;
  return tiles * ((products > kLatency ? products : kLatency) + kVectorCost * kernels.reduction_step * vectors +
                  (far_rows ? kRowCost * rows : 0) + kTileCost) +
         kOutputCost * run;
}

// Vectors per tile for runs of `run` rows: those of the fewest cycles.
template <class A>
ColumnTiles choose_columns(const Arithmetic<A>& kernels, int64_t columns, int64_t run,
                           TilesOf whose = TilesOf::outputs) {
  int lanes = 1;
  for (int f = kernels.families - 1; f >= 0; --f) {
    if (kernels.family[f].lanes <= columns) lanes = kernels.family[f].lanes;
  }
  const int64_t total = ceil_div(columns, lanes);
  const bool partial = columns % lanes != 0;
  ColumnTiles best = {columns, lanes, 1, total, total};
  double best_cost = -1;
  for (int f = 0; f < kernels.families; ++f) {
    const TileFamily<A>& family = kernels.family[f];
    if (family.lanes != lanes || family.vectors > total || (partial && total > 1 && family.vectors == 1)) continue;
    // Columns that fill no vector stay together: planes read their weights as one matrix, and Winograd's transforms of
    // one column alone round otherwise.
    if (lanes == 1 && family.vectors < total) continue;
    const ColumnTiles candidate = {columns, lanes, family.vectors, total, ceil_div(total, family.vectors)};
    const bool gradient = whose == TilesOf::weight_gradient;
    const int64_t width_bytes = candidate.widest() * static_cast<int64_t>(sizeof(A));
    if (gradient && candidate.tiles > 1 && width_bytes > kGradientColumnsBytes) continue;
    const auto cost_of = [&](int64_t vectors) {
      return cycles_of_run(kernels, run, family_of(kernels, lanes, vectors).most_rows(run), vectors, whose);
    };
    // Tiles have two widths. Adding them up one by one would not end for more columns than any memory holds.
    const int64_t narrow = total / candidate.tiles, wider = total % candidate.tiles;
    double cost = (candidate.tiles - wider) * cost_of(narrow);
    if (wider > 0) cost += wider * cost_of(narrow + 1);
    if (best_cost < 0 || cost < best_cost) {
      best = candidate;
      best_cost = cost;
    }
  }
  return best;
}

// run: outputs in a row that share all taps; depth: products in a row. Tiles of more rows than an instruction takes pay
// where the weights of several taps come anew from the second-level cache for each.
template <class A>
DenseForm choose_form(const Arithmetic<A>& kernels, const ConvGeometry& g, int64_t run, int64_t depth) {
  const int64_t columns = g.O_per_group();
  const bool flat = kernels.reduction_step > 1 && g.taps() == 1;
  const ColumnTiles tiles = choose_columns(kernels, columns, flat ? min(run, kMatrixRows) : run);
  const bool dot = columns <= kMaxDotFamilies && depth >= kernels.dot_lanes;
  return dot ? DenseForm{true, {columns, 1, static_cast<int>(columns), columns, 1}} : DenseForm{false, tiles};
}

}  // namespace nhwc_conv
