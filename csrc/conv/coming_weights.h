// What the tiles of one piece of weights ask for of the next, which is near then when its turn comes.
#pragma once

#include "../kernels/kernels.h"
#include "views.h"

namespace nhwc_conv {

// Lines that a tile asks for in its steps, one each: its steps are so many runs, whose lines begin `apart` elements
// from each other and go on by `step`. The tile after it begins `next` elements further on. So many tiles ask.
struct ComingLines {
  int64_t runs = 1, apart = 0, step = 0, next = 0, tiles = 0;
};

// Rows of memory, of which each tile asks for some before its first step.
struct ComingRows {
  int64_t count = 0, step = 0, elements = 0, of_tile = 0;
};

// What is left to ask for from one address on, in one of the two ways.
template <class A> struct ComingWeights {
  const A* from = nullptr;
  ComingLines lines = {};
  ComingRows rows = {};

  // Runs of the steps of the next tile.
  int64_t runs() const { return lines.tiles > 0 ? lines.runs : 1; }

  // For a tile of so many steps.
  void ask(TileArgs<A>& args, int64_t steps) {
    for (int64_t row = min(rows.count, rows.of_tile); row > 0; --row, --rows.count, from += rows.step) {
      ask_for(from, rows.elements);
    }
    if (lines.tiles > 0) {
      args.set_ahead(from, steps * lines.step, lines.apart, lines.step);
    } else {
      args.set_ahead(nullptr, 0, 0, 0);
    }
    from += lines.next;
    --lines.tiles;
  }
};

}  // namespace nhwc_conv
