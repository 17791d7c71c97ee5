// What stands between convolutions: means of channels over all pixels, and images whose channels are scaled by one
// number each, as in squeeze-and-excitation; images that are copied to a share of another's channels, or added to
// others.
#pragma once

#include "operands.h"
#include "parallel.h"

namespace nhwc_conv {

// Images whose channels are neighbours in memory.
struct ImageSizes {
  int64_t N, H, W, C;
  double elements() const { return static_cast<double>(N * H * W) * C; }
};

// means[n*C + c]; sums are made along rows first, and then of them: the rounding errors of one long sum are larger.
template <class S, class A> class ChannelMeans {
 public:
  ChannelMeans(const Kernels<S, A>& kernels, const ImageSizes& sizes, int threads, const ImageView<const S>& x,
               S* means)
      : kernels_(kernels), sizes_(sizes), by_rows_(sizes.N < threads), x_(x), means_(means) {}

  // Sums of rows: of all, or of the one that is added to those before.
  PlanMemory memory() const {
    return by_rows_ ? PlanMemory{sizes_.N * sizes_.H * sizes_.C, 0} : PlanMemory{0, 2 * sizes_.C};
  }

  // Threads take images, or rows where there are too few, as those did that wrote them.
  void run(const Parallel& parallel, A* memory) const {
    const int64_t C = sizes_.C, rows = sizes_.N * sizes_.H, items = min(rows, kItemsPerThread * parallel.threads);
    if (by_rows_) {
      for_each_item(parallel, items, [&](int64_t item, int64_t) {
        const Range some = share_of(rows, item, items);
        for (int64_t row = some.begin; row < some.end; ++row) sum_row(row, memory + row * C);
      });
    }
    for_each_item(by_rows_ ? Parallel{1, nullptr} : parallel, sizes_.N, [&](int64_t n, int64_t slot) {
      A* const total = memory + (by_rows_ ? n * sizes_.H : 2 * slot) * C;
      for (int64_t y = 0; y < sizes_.H; ++y) {
        A* const row = total + (by_rows_ ? y : min(y, 1)) * C;
        if (!by_rows_) sum_row(n * sizes_.H + y, row);
        if (y > 0) kernels_.add(total, row, C);
      }
      for (int64_t c = 0; c < C; ++c) total[c] /= static_cast<A>(sizes_.H * sizes_.W);
      kernels_.finish({total, C, means_ + n * C, C, 1, 1, C, {}, nullptr, 0, 0});
    });
  }

 private:
  void sum_row(int64_t row, A* to) const {
    const S* const from = x_.data + row / sizes_.H * x_.n + row % sizes_.H * x_.h;
    kernels_.sum_rows({from, x_.w, to, sizes_.W, sizes_.C});
  }

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  bool by_rows_;
  ImageView<const S> x_;
  S* means_;
};

// y = x * factors, which are one number for each channel of an image, or images of the same size.
template <class S, class A> class ImageProduct {
 public:
  ImageProduct(const Kernels<S, A>& kernels, const ImageSizes& sizes, const ImageView<const S>& x,
               const ImageView<const S>& factors, const ImageView<S>& y)
      : kernels_(kernels), sizes_(sizes), x_(x), factors_(factors), y_(y) {
    const int64_t bytes = max(sizes.W * sizes.C * sizeof(S), 1);
    rows_ = clamp(kItemBytes / bytes, 1, max(sizes.H, 1));
  }

  PlanMemory memory() const { return {}; }

  void run(const Parallel& parallel, A*) const {
    const int64_t items = ceil_div(sizes_.H, rows_);
    for_each_item(parallel, sizes_.N * items, [&](int64_t item, int64_t) {
      const int64_t n = item / items, begin = item % items * rows_, end = min(begin + rows_, sizes_.H);
      for (int64_t y = begin; y < end; ++y) run_row(n, y);
    });
  }

 private:
  static constexpr int64_t kItemBytes = 1 << 17;

  void run_row(int64_t n, int64_t y) const {
    const S* const x = x_.data + n * x_.n + y * x_.h;
    const S* const factors = factors_.data + n * factors_.n + y * factors_.h;
    S* const to = y_.data + n * y_.n + y * y_.h;
    const int64_t W = sizes_.W, C = sizes_.C;
    if (factors_.w == 0) return kernels_.scale_rows({x, x_.w, factors, to, y_.w, W, C});
    if (x_.w == C && factors_.w == C && y_.w == C) return kernels_.scale_rows({x, 0, factors, to, 0, 1, W * C});
    for (int64_t w = 0; w < W; ++w) {
      kernels_.scale_rows({x + w * x_.w, 0, factors + w * factors_.w, to + w * y_.w, 0, 1, C});
    }
  }

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  ImageView<const S> x_, factors_;
  ImageView<S> y_;
  int64_t rows_;
};

// y = x, or x + residual, which may be null, and what `steps` do with that.
template <class S, class A> class ImageCopy {
 public:
  ImageCopy(const Kernels<S, A>& kernels, const ImageSizes& sizes, const ImageView<const S>& x,
            const ImageView<const S>& residual, const ImageView<S>& y, const FinishSteps<A>& steps = {})
      : kernels_(kernels), sizes_(sizes), x_(x), residual_(residual), y_(y), steps_(steps) {}

  // A row of sums.
  PlanMemory memory() const { return {0, is_copy() ? 0 : sizes_.W * sizes_.C}; }

  void run(const Parallel& parallel, A* scratch) const {
    const int64_t rows = sizes_.N * sizes_.H, items = min(rows, kItemsPerThread * parallel.threads);
    for_each_item(parallel, items, [&](int64_t item, int64_t slot) {
      const Range some = share_of(rows, item, items);
      for (int64_t row = some.begin; row < some.end; ++row) run_row(row, scratch + slot * sizes_.W * sizes_.C);
    });
  }

 private:
  bool is_copy() const {
    return std::is_same_v<S, A> && residual_.data == nullptr && steps_.activation == Activation::none;
  }

  void run_row(int64_t row, A* sums) const {
    const int64_t n = row / sizes_.H, h = row % sizes_.H, W = sizes_.W, C = sizes_.C;
    const S* const from = x_.data + n * x_.n + h * x_.h;
    S* const to = y_.data + n * y_.n + h * y_.h;
    if constexpr (std::is_same_v<S, A>) {
      if (is_copy()) return kernels_.copy({from, x_.w, 1, to, y_.w, W, C, false});
    }
    kernels_.copy({from, x_.w, 1, sums, C, W, C, false});
    const S* const added = residual_.data == nullptr ? nullptr : residual_.data + n * residual_.n + h * residual_.h;
    kernels_.finish({sums, C, to, y_.w, 1, W, C, steps_, added, residual_.w, 1});
  }

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  ImageView<const S> x_, residual_;
  ImageView<S> y_;
  FinishSteps<A> steps_;
};

}  // namespace nhwc_conv
