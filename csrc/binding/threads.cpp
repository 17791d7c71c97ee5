#include "threads.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include <thread>
#include <vector>

#include "tensor.h"

namespace nhwc_conv {

namespace {

// A fork copies only the thread that calls it. Where torch's pool has run before, the child's copy of it waits for
// threads that are gone, for ever; and there is no asking whether it has.
bool forked = false;

bool shares_all = false;

void run_on_pool(int64_t slots, void (*body)(void*, int64_t), void* context) {
  struct Call {
    void (*body)(void*, int64_t);
    void* context;
  } call{body, context};
  torch_parallel_for(
      0, slots, 1,
      [](int64_t begin, int64_t end, void* opaque) {
        const Call& c = *static_cast<Call*>(opaque);
        for (int64_t slot = begin; slot < end; ++slot) c.body(c.context, slot);
      },
      &call);
}

// Threads for this one call. They take items until there are none, so fewer of them do as well.
void run_on_new_threads(int64_t slots, void (*body)(void*, int64_t), void* context) {
  std::vector<std::thread> others;
  others.reserve(slots);
  try {
    for (int64_t slot = 1; slot < slots; ++slot) others.emplace_back(body, context, slot);
  } catch (...) {  // no thread, or no memory for one
  }
  body(context, 0);
  for (std::thread& other : others) other.join();
}

}  // namespace

void share_all_work(bool enabled) { shares_all = enabled; }

Parallel torch_threads(double work) {
  uint32_t threads = 1;
  if (!is_worth_threads(work) && !shares_all) return {1, run_on_pool};
  check_call(torch_get_num_threads(&threads), "reading the number of threads");
  return {static_cast<int>(threads), forked ? run_on_new_threads : run_on_pool};
}

void watch_forks() {
#if !defined(_WIN32)  // where nothing forks
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
}

}  // namespace nhwc_conv
