// The last step of an item: complete sums become the result, while they are in the caches.
#pragma once

#include <limits>
#include <type_traits>

#include "../kernels/kernels.h"
#include "views.h"

namespace nhwc_conv {

// Scratch holds elements that are multiplied and sums alike: both are as large.
template <class A> A* elements_in(Sum<A>* scratch) {
  static_assert(sizeof(A) == sizeof(Sum<A>), "workspaces are counted in sums");
  return reinterpret_cast<A*>(scratch);
}

// Where results of storage type S go, and what is done to complete sums of type A on the way. Sums are made in the
// result itself where it can hold them, else in the item's scratch.
template <class S, class A> struct Result {
  ImageView<S> y;
  FinishSteps<A> steps = {};
  ImageView<const S> residual = {};  // as large as y; or none

  bool holds_sums() const { return std::is_same_v<S, A> && y.c == 1; }
  bool only_rounds() const { return steps.activation == Activation::none && residual.data == nullptr; }

  bool only_clamps() const {
    return (steps.activation == Activation::relu || steps.activation == Activation::clamp) && residual.data == nullptr;
  }

  // Whether tiles may make results of their complete sums: clamp them, or round them to another type.
  bool takes_finished_sums() const { return y.c == 1 && (only_clamps() || (!std::is_same_v<S, A> && only_rounds())); }

  // Lets tiles that make complete sums finish them.
  template <class T> void finish_in_tiles(TileArgs<T>& args) const {
    args.clamps = only_clamps();
    args.low = steps.activation == Activation::relu ? 0 : steps.alpha;
    args.high = steps.activation == Activation::relu ? std::numeric_limits<A>::infinity() : steps.beta;
  }

  // Elements of scratch that sums of so many outputs take.
  int64_t scratch_elements(int64_t outputs) const { return holds_sums() ? 0 : outputs; }

  // Where the sums of a region of image n are made, indexed as the result's image is.
  ImageView<A> sums(int64_t n, const Region& region, A* scratch) const {
    if (holds_sums()) return {reinterpret_cast<A*>(y.data) + n * y.n, 0, y.h, y.w, 1};
    const int64_t channels = region.channels.size(), width = region.xs.size();
    const int64_t before = (region.ys.begin * width + region.xs.begin) * channels + region.channels.begin;
    return {scratch - before, 0, width * channels, channels, 1};
  }

  // To be called once all sums of the region are complete.
  template <class T>
  void finish(const Kernels<S, T>& kernels, int64_t n, const Region& region, const ImageView<A>& sums) const {
    if (holds_sums() && only_rounds()) return;
    const auto offset = [&](const auto& view, int64_t row) {
      return row * view.h + region.xs.begin * view.w + region.channels.begin * view.c;
    };
    const bool adds = residual.data != nullptr;
    // Rows without gaps are one long row: those of a result whose channels stand apart are short for its vectors.
    const int64_t width = region.xs.size();
    const bool joined = sums.h == width * sums.w && y.h == width * y.w && (!adds || residual.h == width * residual.w);
    const int64_t step = joined ? max(region.ys.size(), 1) : 1;
    for (int64_t row = region.ys.begin; row < region.ys.end; row += step) {
      const S* const added = adds ? residual.data + n * residual.n + offset(residual, row) : nullptr;
      kernels.finish({sums.data + offset(sums, row), sums.w, y.data + n * y.n + offset(y, row), y.w, y.c, step * width,
                      region.channels.size(), steps, added, residual.w, residual.c});
    }
  }
};

}  // namespace nhwc_conv
