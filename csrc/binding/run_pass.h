// A pass with its memory, on torch's threads, and against a clock while somebody asks how long passes take: what is
// left of a network's time stands between its kernels.
#pragma once

#include <atomic>
#include <chrono>

#include "threads.h"
#include "workspace.h"

namespace nhwc_conv {

// Counts from its construction to its destruction, in the process's sums, while they are watched.
class KernelClock {
 public:
  KernelClock() : counts_(watched.load(std::memory_order_relaxed)) {
    if (counts_) start_ = Clock::now();
  }
  KernelClock(const KernelClock&) = delete;
  KernelClock& operator=(const KernelClock&) = delete;
  ~KernelClock() {
    if (!counts_) return;
    nanoseconds += std::chrono::nanoseconds(Clock::now() - start_).count();
    ++passes;
  }

  static inline std::atomic<bool> watched{false};
  static inline std::atomic<int64_t> nanoseconds{0}, passes{0};

 private:
  using Clock = std::chrono::steady_clock;

  const bool counts_;
  Clock::time_point start_;
};

template <class A, class Pass>
void run_pass(const Pass& pass, const Parallel& parallel, ReusedMemory* memory = nullptr) {
  const Workspace<A> workspace(pass.memory(), parallel.threads, memory);
  const KernelClock clock;
  pass.run(parallel, workspace.data());
}

}  // namespace nhwc_conv
