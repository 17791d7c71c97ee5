// Work items on std::thread, started together: the sooner they overlap, the more ThreadSanitizer sees.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "../../csrc/conv/parallel.h"

namespace verify {

inline nhwc_conv::Parallel threads(int count) {
  return {count, [](int64_t slots, void (*body)(void*, int64_t), void* context) {
            std::atomic<int64_t> arrived{0};
            const auto work = [&](int64_t slot) {
              ++arrived;
              while (arrived < slots) std::this_thread::yield();
              body(context, slot);
            };
            std::vector<std::thread> others;
            for (int64_t slot = 1; slot < slots; ++slot) others.emplace_back(work, slot);
            work(0);
            for (std::thread& other : others) other.join();
          }};
}

}  // namespace verify
