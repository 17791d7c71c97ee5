// What squeeze-and-excitation does between its convolutions: means of channels over all pixels of an image, and images
// whose channels are scaled by one number each.
#pragma once

#include "operands.h"
#include "parallel.h"

namespace nhwc_conv {

// Images whose channels are neighbours in memory.
struct ImageSizes {
  int64_t N, H, W, C;
};

// means[n*C + c]; sums are made along rows first, and then of them: the rounding errors of one long sum are larger.
template <class S, class A> class ChannelMeans {
 public:
  ChannelMeans(const Kernels<S, A>& kernels, const ImageSizes& sizes, int threads, const ImageView<const S>& x,
               S* means)
      : kernels_(kernels), sizes_(sizes), x_(x), means_(means) {
    shares_ = clamp(ceil_div(threads, max(sizes.N, 1)), 1, ceil_div(sizes.C, kLeastChannels));
  }

  PlanMemory memory() const { return {0, 2 * sizes_.C}; }

  void run(const Parallel& parallel, A* scratch) const {
    for_each_item(parallel, sizes_.N * shares_, [&](int64_t item, int64_t slot) {
      run_item(item / shares_, share_of(sizes_.C, item % shares_, shares_), scratch + slot * 2 * sizes_.C);
    });
  }

 private:
  static constexpr int64_t kLeastChannels = 64;

  void run_item(int64_t n, Range channels, A* total) const {
    A* const row = total + sizes_.C;
    const S* from = x_.data + n * x_.n + channels.begin;
    const int64_t count = channels.size();
    for (int64_t y = 0; y < sizes_.H; ++y, from += x_.h) {
      kernels_.sum_rows({from, x_.w, y == 0 ? total : row, sizes_.W, count});
      if (y > 0) kernels_.add(total, row, count);
    }
    for (int64_t c = 0; c < count; ++c) total[c] /= static_cast<A>(sizes_.H * sizes_.W);
    S* const to = means_ + n * sizes_.C + channels.begin;
    kernels_.finish({total, count, to, count, 1, 1, count, {}, nullptr, 0, 0});
  }

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  ImageView<const S> x_;
  S* means_;
  int64_t shares_;
};

// y = x * factors[n*C + c]
template <class S, class A> class ChannelScale {
 public:
  ChannelScale(const Kernels<S, A>& kernels, const ImageSizes& sizes, const ImageView<const S>& x, const S* factors,
               const ImageView<S>& y)
      : kernels_(kernels), sizes_(sizes), x_(x), factors_(factors), y_(y) {
    const int64_t bytes = max(sizes.W * sizes.C * sizeof(S), 1);
    rows_ = clamp(kItemBytes / bytes, 1, max(sizes.H, 1));
  }

  PlanMemory memory() const { return {}; }

  void run(const Parallel& parallel, A*) const {
    const int64_t items = ceil_div(sizes_.H, rows_);
    for_each_item(parallel, sizes_.N * items, [&](int64_t item, int64_t) {
      const int64_t n = item / items, begin = item % items * rows_, end = min(begin + rows_, sizes_.H);
      for (int64_t y = begin; y < end; ++y) {
        kernels_.scale_rows({x_.data + n * x_.n + y * x_.h, x_.w, factors_ + n * sizes_.C,
                             y_.data + n * y_.n + y * y_.h, y_.w, sizes_.W, sizes_.C});
      }
    });
  }

 private:
  static constexpr int64_t kItemBytes = 1 << 17;

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  ImageView<const S> x_;
  const S* factors_;
  ImageView<S> y_;
  int64_t rows_;
};

}  // namespace nhwc_conv
