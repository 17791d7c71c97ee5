// Max pooling of images whose channels are neighbours in memory, as it stands between convolutions: PyTorch's own finds
// the places of the maxima, too, for a gradient.
#pragma once

#include "channels.h"

namespace nhwc_conv {

// Windows, down and across; places in the padding count for nothing.
struct Windows {
  int64_t size[2], stride[2], padding[2];
};

template <class S, class A> class MaxPool {
 public:
  // `sizes` of x; y [N, H, W, C] of so many rows and columns that each window meets a pixel.
  MaxPool(const Kernels<S, A>& kernels, const ImageSizes& sizes, const Windows& windows, const ImageView<const S>& x,
          const ImageView<S>& y, int64_t rows, int64_t columns)
      : kernels_(kernels), sizes_(sizes), windows_(windows), x_(x), y_(y), rows_(rows), columns_(columns) {}

  PlanMemory memory() const { return {}; }

  void run(const Parallel& parallel, A*) const {
    for_each_item(parallel, sizes_.N * rows_, [&](int64_t item, int64_t) { run_row(item / rows_, item % rows_); });
  }

 private:
  // The pixels of an axis that a window meets, counted in it.
  Range met(int axis, int64_t window, int64_t pixels) const {
    const int64_t first = window * windows_.stride[axis] - windows_.padding[axis];
    return Range{-first, pixels - first}.within({0, windows_.size[axis]});
  }

  void run_row(int64_t n, int64_t row) const {
    const Range down = met(0, row, sizes_.H);
    const int64_t y = row * windows_.stride[0] - windows_.padding[0] + down.begin;
    // Windows that lie within the row are done at once.
    const int64_t stride = windows_.stride[1], pad = windows_.padding[1];
    const Range inside =
        Range{ceil_div(pad, stride), floor_div(sizes_.W + pad - windows_.size[1], stride) + 1}.within({0, columns_});
    for (int64_t column = 0; column < columns_;) {
      const bool many = column == inside.begin && !inside.empty();
      const int64_t count = many ? inside.size() : 1;
      const Range across = met(1, column, sizes_.W);
      const S* const from = x_.data + n * x_.n + y * x_.h + (column * stride - pad + across.begin) * x_.w;
      kernels_.max_rows({from, stride * x_.w, x_.h, x_.w, y_.data + n * y_.n + row * y_.h + column * y_.w, y_.w, count,
                         sizes_.C, down.size(), across.size()});
      column += count;
    }
  }

  const Kernels<S, A>& kernels_;
  ImageSizes sizes_;
  Windows windows_;
  ImageView<const S> x_;
  ImageView<S> y_;
  int64_t rows_, columns_;
};

}  // namespace nhwc_conv
