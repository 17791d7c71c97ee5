// The pieces in which weights are taken: by taps that the same outputs have, and no deeper than the plan says.
#pragma once

#include "dense.h"

namespace nhwc_conv {

struct PiecesPlan : DensePlan {
  bool staged;
  // Weights whose taps are neighbours are packed a tile of columns at once; pieces are parts of that.
  bool whole_tiles;
  // Weights that are not packed are asked for row by row before each tile, instead of line by line in its steps.
  bool asks_for_rows;
  int64_t depth;  // products in a row of a piece, at most
  int64_t step;   // of the reduction: pieces are whole ones
  int64_t column_shares;
  int64_t staged_elements, piece_elements, sum_elements;  // of the scratch; of the result's, the rest
};

// Weights of a tile of columns whose taps the same outputs have. They may open a block of the reduction, and close it.
struct Piece {
  int64_t tile;
  Terms terms;
  bool first_block, opens, closes;
};

// The pieces of a block, in the order of the sum. Taps of a row that the same outputs have are one run for im2col,
// and short rows that the same outputs have share a piece.
template <class Visit>
void each_piece(const PiecesPlan& plan, const ConvGeometry& g, const Block& block, const Visit& visit) {
  const int64_t Cg = g.C_per_group();
  const bool im2col = plan.im2col();
  const Range all = im2col ? block.inner : Range{0, g.w.kernel * Cg};
  Piece piece = {0, {}, block.first, true, false};
  for (int64_t i = block.rows.begin, next = i; i < block.rows.end; i = next) {
    next = i + 1;
    for (int64_t begin = all.begin, end; begin < all.end; begin = end) {
      const int64_t j = begin / Cg;
      for (end = (j + 1) * Cg; im2col && end < all.end && g.w.outputs(end / Cg) == g.w.outputs(j);) end += Cg;
      end = min(end, all.end);
      const Range run = im2col ? Range{begin, end} : block.inner;
      const auto joins = [&](int64_t row) {
        return g.h.outputs(row) == g.h.outputs(i) && (row + 1 - i) * run.size() <= plan.depth;
      };
      while (im2col && run == all && next < block.rows.end && joins(next)) ++next;
      const int64_t pieces = ceil_div(run.size(), plan.depth);
      for (int64_t p = 0; p < pieces; ++p, piece.opens = false) {
        const Range steps = share_of(ceil_div(run.size(), plan.step), p, pieces);
        const Range share = {run.begin + steps.begin * plan.step, min(run.begin + steps.end * plan.step, run.end)};
        piece.terms = {{i, next}, im2col ? Range{0, 1} : Range{j, j + 1}, share};
        piece.closes = next == block.rows.end && end == all.end && p + 1 == pieces;
        visit(piece);
      }
    }
  }
}

}  // namespace nhwc_conv
