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
template <class Function>
void for_each_item(const Parallel& parallel, int64_t items, const Function& function) {
  const int64_t slots = items < parallel.threads ? items : parallel.threads;
  if (slots <= 1) {
    for (int64_t item = 0; item < items; ++item) function(item, 0);
    return;
  }
  struct Shared {
    const Function& function;
    int64_t items;
    std::atomic<int64_t> next;
  } shared{function, items, {0}};
  parallel.run(
      slots,
      [](void* context, int64_t slot) {
        Shared& s = *static_cast<Shared*>(context);
        for (int64_t item = s.next++; item < s.items; item = s.next++) s.function(item, slot);
      },
      &shared);
}

}  // namespace nhwc_conv
