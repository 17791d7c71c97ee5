// How the sums of a weight gradient are cut, in shares, parts of the batch and taps that see the same outputs. Parts
// let threads have work where the weights are few; how many there are and where they end follows from the geometry
// alone: the same bits on any number of threads.
#pragma once

#include "operands.h"
#include "parallel.h"

namespace nhwc_conv {

// The gradient in `shares` shares, each a sum over the same blocks of pixels. Calls sum(share, blocks, to, scratch) for
// every share and every part of the blocks, and adds up what it has written: the first part's sums stand in `total`, in
// any order, the others at the front of the workspace.
template <class S, class A, class Plan, class Sum>
void add_partial_sums(const GradientOperands<S, A>& o, const Plan& plan, const Parallel& parallel, int64_t shares,
                      int64_t blocks, A* total, A* workspace, const Sum& sum) {
  const int64_t elements = o.elements(), chunk = 4096;
  for_each_item(parallel, plan.partials * shares, [&](int64_t item, int64_t slot) {
    const int64_t partial = item / shares;
    A* const to = partial == 0 ? total : workspace + (partial - 1) * elements;
    A* const scratch = workspace + plan.packed_elements + slot * plan.scratch_elements;
    sum(item % shares, share_of(blocks, partial, plan.partials), to, scratch);
  });
  if (plan.partials == 1) return;
  for_each_item(parallel, ceil_div(elements, chunk), [&](int64_t item, int64_t) {
    const int64_t begin = item * chunk, size = min(elements - begin, chunk);
    for (int64_t p = 0; p + 1 < plan.partials; ++p) {
      o.kernels.add(total + begin, workspace + p * elements + begin, size);
    }
  });
}

// Calls add(taps, outputs, mode) for outputs that all of these taps see, `together`, and then tap by tap for the others
// of `outputs`, which only some of them see.
template <class Add>
void walk_taps(const Axis& axis, Range taps, Range outputs, Range together, Mode mode, const Add& add) {
  add(taps, together, mode);
  for (int64_t tap = taps.begin; tap < taps.end; ++tap) {
    const Range seen = axis.outputs(tap).within(outputs);
    add(Range{tap, tap + 1}, seen.before(together), Mode::add);
    add(Range{tap, tap + 1}, seen.after(together), Mode::add);
  }
}

}  // namespace nhwc_conv
