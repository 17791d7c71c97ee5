// Max pooling of images whose channels are neighbours in memory, as it stands between convolutions: PyTorch's own finds
// the places of the maxima, too, for a gradient.
#pragma once

#include "operands.h"
#include "parallel.h"

namespace nhwc_conv {

template <class S, class A> class MaxPool {
 public:
  // Of N images x of C channels, by windows along `h` and `w`, each of which meets a pixel; y [N, H, W, C].
  MaxPool(const Kernels<S, A>& kernels, int64_t N, int64_t C, const Axis& h, const Axis& w, const ImageView<const S>& x,
          const ImageView<S>& y)
      : kernels_(kernels), N_(N), C_(C), h_(h), w_(w), x_(x), y_(y) {}

  PlanMemory memory() const { return {}; }

  void run(const Parallel& parallel, A*) const {
    for_each_item(parallel, N_ * h_.output,
                  [&](int64_t item, int64_t) { run_row(item / h_.output, item % h_.output); });
  }

 private:
  void run_row(int64_t n, int64_t row) const {
    const Range down = h_.taps(row), inside = w_.interior();
    // Windows that lie within the row are done at once.
    for (int64_t column = 0; column < w_.output;) {
      const int64_t count = column == inside.begin && !inside.empty() ? inside.size() : 1;
      const Range across = w_.taps(column);
      const S* const from =
          x_.data + n * x_.n + h_.input_of(row, down.begin) * x_.h + w_.input_of(column, across.begin) * x_.w;
      kernels_.max_rows({from, w_.stride * x_.w, x_.h, x_.w, y_.data + n * y_.n + row * y_.h + column * y_.w, y_.w,
                         count, C_, down.size(), across.size()});
      column += count;
    }
  }

  const Kernels<S, A>& kernels_;
  int64_t N_, C_;
  Axis h_, w_;
  ImageView<const S> x_;
  ImageView<S> y_;
};

}  // namespace nhwc_conv
