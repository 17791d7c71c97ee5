// Winograd's convolution: 3x3 kernels of stride 1, with 2.25 products an output instead of nine in F(4x4, 3x3) and four
// in F(2x2, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016). A block of patches at a
// time is transformed, multiplied and transformed back, so that it stays in the caches:
//
//   V[p][patch][c] = input transform of x     M[p][patch][o] = sum over c of V[p][patch][c] * U[p][c][o]
//   y              = output transform of M    U[p][c][o]     = transform of the weight
//
// where p counts the points of a patch. Results differ from the direct path's in the last bits; an output whose inputs
// are all zero may come out as a tiny number, and a NaN or an infinity spreads to its whole patch.
#pragma once

#include "winograd_plan.h"

namespace nhwc_conv {

// The weights U in chunks of one tile of columns and one block of channels, [point][channel][column].
template <class S, class A> class TransformedWeights {
 public:
  TransformedWeights(const WinogradPlan& plan, const Operands<S, A>& o) : plan_(plan), o_(o) {}

  // The channels of a block.
  Range depth(int64_t block) const { return share_of(o_.g.C_per_group(), block, plan_.depth_blocks); }

  // A chunk that is packed, or else is transformed now, into scratch.
  PointMatrices<A> chunk(int64_t group, int64_t tile, int64_t block, A* scratch) const {
    if (plan_.pack_weights) return packed_chunk(group, tile, block);
    const PointMatrices<A> chunk = chunk_at(scratch, tile, block);
    transform(group, tile, block, {0, chunk.rows}, chunk);
    return chunk;
  }

  // Small weights have one block for all threads, so it is packed in parts.
  int64_t pack_items() const { return o_.g.groups * plan_.columns.tiles * plan_.depth_blocks * kPackParts; }
  void pack(int64_t item) const {
    const int64_t index = item / kPackParts, block = index % plan_.depth_blocks;
    const int64_t tile = index / plan_.depth_blocks % plan_.columns.tiles;
    const int64_t group = index / plan_.depth_blocks / plan_.columns.tiles;
    const PointMatrices<A> chunk = packed_chunk(group, tile, block);
    transform(group, tile, block, share_of(chunk.rows, item % kPackParts, kPackParts), chunk);
  }

 private:
  static constexpr int64_t kStagedChannels = 16;

  PointMatrices<A> chunk_at(A* data, int64_t tile, int64_t block) const {
    const Range columns = {0, plan_.columns.size(tile)};
    return point_matrices(data, depth(block).size(), plan_.columns.padded(tile)).of_columns(columns);
  }

  PointMatrices<A> packed_chunk(int64_t group, int64_t tile, int64_t block) const {
    const int64_t before =
        plan_.columns.padded_before(group, tile) * (o_.g.C_per_group() + plan_.depth_blocks * kPointGap);
    const int64_t rows = depth(block).begin * plan_.columns.padded(tile) + block * kPointGap;
    return chunk_at(o_.packed + winograd_points(plan_.patch) * (before + rows), tile, block);
  }

  // part: of the block's channels, counted in it.
  void transform(int64_t group, int64_t tile, int64_t block, Range part, const PointMatrices<A>& chunk) const {
    const int64_t Cg = o_.g.C_per_group(), first = depth(block).begin + part.begin, width = chunk.row;
    const PointMatrices<A> to = chunk.of_rows(part);
    WeightView<const S> w = o_.w;
    w.data += group * w.group + plan_.columns.begin(tile) * w.o + first * w.c;
    if (plan_.from_panels) {
      const A* panel = o_.packed + o_.g.depth() * plan_.columns.padded_before(group, tile);
      transform_rows({panel + first * width, 3 * Cg * width, Cg * width, width, 1, 0}, to);
    } else if (std::is_same_v<S, A> && w.o == 1) {
      transform_rows({in_place<A>(w.data), w.i, w.j, w.c, 1, 0}, to);
    } else {
      transform_staged(w, to);
    }
  }

  // Of weights whose output channels are neighbours. Rows of a tap may lie a page apart, where no prefetcher follows;
  // where they all share cache sets, what is asked for much ahead is gone before it is needed.
  void transform_rows(const WeightView<const A>& w, const PointMatrices<A>& to) const {
    const TransformFn<A> transform = winograd_transforms<A>(o_.kernels, plan_.patch).weight;
    const int64_t size = plan_.patch + 2;
    for (int64_t c = 0; c < to.rows; ++c) {
      for (int64_t tap = 0; tap < 9; ++tap) {
        ask_for(w.data + (c + kRowsAhead) * w.c + tap / 3 * w.i + tap % 3 * w.j, to.columns);
      }
      A* const row = to.data + c * to.row;
      transform({w.data + c * w.c, w.i, w.j, row, size * to.point, to.point, size, size, to.columns, nullptr});
    }
  }

  // Others are staged on the stack, some channels at a time.
  void transform_staged(const WeightView<const S>& w, const PointMatrices<A>& to) const {
    A taps[9 * kStagedChannels * kMaxTileColumns];
    for (int64_t begin = 0; begin < to.rows; begin += kStagedChannels) {
      const int64_t count = min(to.rows - begin, kStagedChannels), tap_elements = count * to.columns;
      const S* const from = w.data + begin * w.c;
      if (taps_are_neighbours<A>(w, o_.g)) {
        copy_neighbouring_taps(o_.kernels, o_.g, w, from, count, to.columns, taps, tap_elements, to.columns);
      } else {
        for (int64_t tap = 0; tap < 9; ++tap) {
          o_.kernels.copy({from + tap / 3 * w.i + tap % 3 * w.j, w.c, w.o, taps + tap * tap_elements, to.columns, count,
                           to.columns});
        }
      }
      transform_rows({taps, 3 * tap_elements, tap_elements, to.columns, 1, 0}, to.of_rows({begin, begin + count}));
    }
  }

  const WinogradPlan& plan_;
  const Operands<S, A>& o_;
};

template <class S, class A> class WinogradRunner {
 public:
  WinogradRunner(const WinogradPlan& plan, const Operands<S, A>& o)
      : plan_(plan),
        o_(o),
        transforms_(winograd_transforms<A>(o.kernels, plan.patch)),
        weights_(plan, o),
        patches_(o.g, plan.patch) {}

  int64_t pack_items() const { return plan_.pack_weights ? weights_.pack_items() : 0; }
  void pack(int64_t item) const { weights_.pack(item); }
  int64_t items() const { return o_.g.groups * ceil_div(patches_.count, plan_.block_patches) * plan_.column_shares; }

  void run(int64_t item, A* scratch) const {
    const ConvGeometry& g = o_.g;
    const int64_t Cg = g.C_per_group(), points = winograd_points(plan_.patch);
    const int64_t blocks = ceil_div(patches_.count, plan_.block_patches), index = item / plan_.column_shares;
    // All groups of a block before the next block: they read lines next to each other, on the same pages.
    const int64_t group = index % g.groups;
    const Range block = share_of(patches_.count, index / g.groups, blocks);
    const Range tiles = share_of(plan_.columns.tiles, item % plan_.column_shares, plan_.column_shares);
    const PointMatrices<A> v = point_matrices(scratch, block.size(), Cg);
    A* const field = v.data + points * v.point;
    A* const sums = field + points * Cg;
    A* const weights = sums + points * (block.size() * plan_.columns.widest() + kPointGap);
    const Squares<S> squares = {o_.x, channels_of(group, Cg), g.h.input, g.w.input, g.h.pad, g.w.pad, plan_.patch + 2};
    transform_squares(o_.kernels, transforms_.input, squares, patches_, block, field, v);
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      const PointMatrices<A> m = point_matrices(sums, block.size(), plan_.columns.padded(tile));
      for (int64_t k = 0; k < plan_.depth_blocks; ++k) {
        const PointMatrices<A> u = weights_.chunk(group, tile, k, weights);
        multiply_points(o_.kernels, points, plan_.columns, {tile, tile + 1}, k > 0 ? Mode::add : Mode::fresh,
                        v.of_columns(weights_.depth(k)), u, m, plan_.pack_weights);
      }
      transform_output(outputs_of(g, group, plan_.columns.of({tile, tile + 1})), block, m, scratch + plan_.sums_offset);
    }
  }

 private:
  // scratch: for sums that the result cannot hold.
  void transform_output(Range channels, Range block, const PointMatrices<A>& m, A* scratch) const {
    const A* const bias = o_.bias == nullptr ? nullptr : o_.bias + channels.begin;
    for (int64_t p = block.begin; p < block.end; ++p) {
      const Patch patch = patches_.at(p);
      const Region outputs = {patch.ys, patch.xs, channels};
      const ImageView<A> sums = o_.result.sums(patch.n, outputs, scratch);
      A* const to = sums.data + patch.ys.begin * sums.h + patch.xs.begin * sums.w + channels.begin;
      transforms_.output({m.data + (p - block.begin) * m.row, (plan_.patch + 2) * m.point, m.point, to, sums.h, sums.w,
                          patch.ys.size(), patch.xs.size(), channels.size(), bias});
      o_.result.finish(o_.kernels, patch.n, outputs, sums);
    }
  }

  const WinogradPlan& plan_;
  const Operands<S, A>& o_;
  const WinogradTransforms<A>& transforms_;
  TransformedWeights<S, A> weights_;
  Patches patches_;
};

}  // namespace nhwc_conv
