// Work items over threads. Results never depend on which thread runs an item, so items are handed out as threads come.
#pragma once

#include <atomic>
#include <cstdint>

namespace nhwc_conv {

// How the embedding program runs `slots` calls of body(context, slot) at once. body does not throw.
struct Parallel {
  int threads;
  void (*run)(int64_t slots, void (*body)(void* context, int64_t slot), void* context);
};

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

}  // namespace nhwc_conv
