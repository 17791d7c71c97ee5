// Work items over threads. Results never depend on which thread runs an item, so items are handed out as threads come.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "geometry.h"
#include "tuning.h"

namespace nhwc_conv {

// How the embedding program runs `slots` calls of body(context, slot) at once. body does not throw.
struct Parallel {
  int threads;
  void (*run)(int64_t slots, void (*body)(void* context, int64_t slot), void* context);
};

// Whether to call other threads takes little time beside so much work, as ConvGeometry::work counts it.
inline bool is_worth_threads(double work) { return work >= kSharedWork; }

// Calls function(item, slot) for every item < items. A slot is held by one thread at a time: it numbers scratch memory.
template <class Function> void for_each_item(const Parallel& parallel, int64_t items, const Function& function) {
  const int64_t slots = items < parallel.threads ? items : parallel.threads;
  if (slots <= 1) {
    for (int64_t item = 0; item < items; ++item) function(item, 0);
    return;
  }
  // Every slot begins with a share of its own, the same in every call, and then helps with the others: what a thread
  // has written, it reads in the next call, and neighbouring items share inputs.
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  constexpr int64_t kMostShares = 64;
  struct Shared {
    const Function& function;
    int64_t shares;
    Share share[kMostShares];
  } shared{function, slots < kMostShares ? slots : kMostShares, {}};
  for (int64_t s = 0; s < shared.shares; ++s) {
    shared.share[s].next = items * s / shared.shares;
    shared.share[s].end = items * (s + 1) / shared.shares;
  }
  parallel.run(
      slots,
      [](void* context, int64_t slot) {
        Shared& s = *static_cast<Shared*>(context);
        for (int64_t k = 0; k < s.shares; ++k) {
          Share& share = s.share[(slot + k) % s.shares];
          for (int64_t item = share.next++; item < share.end; item = share.next++) s.function(item, slot);
        }
      },
      &shared);
}

// Rows of an item, `most` of them at most: equal parts of all rows, so that no thread waits long for the last item,
// where each part makes `others` items. An item takes as long as so many rows more, which it reads or stages beside its
// own. Items are many where that costs little: threads are not equally fast.
inline int64_t rows_of_items(int64_t rows, int64_t most, int64_t others, int threads, double more) {
  if (threads == 1 || rows <= 1) return most;
  const int64_t fewest = ceil_div(rows, max(most, 1));
  const int64_t parts = clamp(ceil_div(kItemsPerThread * threads, max(others, 1)), fewest, max(rows, fewest));
  const auto cost = [&](int64_t count) {
    return ceil_div(others * count, threads) * (static_cast<double>(ceil_div(rows, count)) + more);
  };
  double least = cost(fewest);
  for (int64_t count = fewest + 1; count <= parts; ++count) least = std::min(least, cost(count));
  int64_t count = parts;
  while (kBetterRounds * cost(count) > least) --count;
  return ceil_div(rows, count);
}

}  // namespace nhwc_conv
