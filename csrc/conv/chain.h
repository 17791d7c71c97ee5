// Convolutions of which each reads what the one before makes, and nobody else does, in strips of rows: the images
// between them never stand in memory as a whole. Of each there is a buffer with the rows that a strip reads; those that
// the next strip reads too are kept.
#pragma once

#include <cstring>
#include <numeric>
#include <vector>

#include "forward.h"

namespace nhwc_conv {

template <class S, class A> struct Link {
  ConvGeometry g;
  GivenWeights<S, A> weights;  // packed
  BiasView<S> bias;
  Result<S, A> result;  // its y is read of the last link only
};

// Whether some rows of outputs may be computed without the others: neither algorithm nor form depends on how many there
// are, so that bits do not change.
inline bool has_rows_apart(const ConvGeometry& g) {
  return g.taps() == 1 || (groups_are_channels(g) && g.groups > 1) || g.w.stride > 1;
}

// Whether a convolution goes well in strips, each of which reads all of its weights.
template <class S, class A> bool takes_strips(const Kernels<S, A>& kernels, const ConvGeometry& g) {
  const int64_t weights = g.depth() * g.O * sizeof(A);
  return has_rows_apart(g) && weights <= kernels.machine.second_level_cache / kCachesOfWeights;
}

// Whether its results take more of the second-level cache than a strip may: beside what they are made of, and what is
// made of them, they would be gone before they are read.
template <class S, class A> bool leaves_cache(const Kernels<S, A>& kernels, const ConvGeometry& g) {
  const int64_t results = g.N * g.h.output * g.w.output * g.O * sizeof(S);
  return results > kernels.machine.second_level_cache / kCachesOfStrip;
}

template <class S, class A> class Chain {
 public:
  Chain(const Kernels<S, A>& kernels, const std::vector<Link<S, A>>& links, const ImageView<const S>& x, int threads)
      : kernels_(kernels), links_(links), x_(x), last_(links.size() - 1), buffers_(links.size()) {
    const Axis& h = links[last_].g.h;
    int64_t rows = 1, bytes = 0;
    for (int64_t k = last_; k > 0; --k) {
      rows *= links[k].g.h.stride;
      bytes += rows * row_elements(k - 1) * sizeof(S);
    }
    strip_ = clamp(kernels.machine.second_level_cache / kCachesOfStrip / max(bytes, 1), 1, h.output);
    shares_ = clamp(threads / std::gcd(threads, links[0].g.N), 1, ceil_div(h.output, strip_));
    rows = strip_;
    for (int64_t k = last_; k > 0; --k) {
      rows = links[k].g.h.reach(rows);
      buffers_[k - 1] = memory_.scratch_elements;
      memory_.scratch_elements += in_lines(rows * row_elements(k - 1));
    }
    int64_t most = 0;
    A anywhere;  // plans do not ask where images lie
    for (int64_t share = 0; share < shares_; ++share) {
      for_each_step(share, [&](int64_t k, const Step& step) {
        const PlanMemory wanted = pass(k, 0, step, &anywhere).memory();
        most = max(most, wanted.packed_elements + wanted.scratch_elements);
      });
    }
    of_passes_ = memory_.scratch_elements;
    memory_.scratch_elements += most;
  }

  PlanMemory memory() const { return memory_; }

  void run(const Parallel& parallel, A* workspace) const {
    for_each_item(parallel, links_[0].g.N * shares_, [&](int64_t item, int64_t slot) {
      A* const scratch = workspace + slot * memory_.scratch_elements;
      for_each_step(item % shares_, [&](int64_t k, const Step& step) {
        if (k < last_) keep(k, step, scratch);
        pass(k, item / shares_, step, scratch).run({1, nullptr}, scratch + of_passes_);
      });
    });
  }

 private:
  // What a link does for a strip: of the rows that its buffer holds it keeps some, and makes others. Of the last link,
  // they are made in the result.
  struct Step {
    Range held, wanted, made;
    Range input;  // rows of the link before, or of x
  };

  int64_t row_elements(int64_t k) const { return links_[k].g.w.output * links_[k].g.O; }

  // Elements of type A that so many of type S take, in whole lines.
  static int64_t in_lines(int64_t elements) {
    return ceil_div(elements * sizeof(S), kLineBytes) * (kLineBytes / sizeof(A));
  }

  // Calls step(k, Step) for all links of all strips of a share of the result's rows.
  template <class Use> void for_each_step(int64_t share, const Use& use) const {
    const Range outputs = share_of(links_[last_].g.h.output, share, shares_);
    std::vector<Step> steps(links_.size());
    for (int64_t y = outputs.begin; y < outputs.end; y += strip_) {
      steps[last_].made = {y, min(y + strip_, outputs.end)};
      for (int64_t k = last_; k >= 0; --k) {
        Step& step = steps[k];
        if (!step.made.empty()) step.input = links_[k].g.h.inputs(step.made);
        if (k == 0) break;
        Step& before = steps[k - 1];
        before.held = before.wanted;
        before.wanted = step.input;
        before.made = before.wanted.after(before.held);
      }
      for (int64_t k = 0; k <= last_; ++k) use(k, steps[k]);
    }
  }

  S* buffer(int64_t k, A* scratch) const { return reinterpret_cast<S*>(scratch + buffers_[k]); }

  // Moves the rows that are read again to the front.
  void keep(int64_t k, const Step& step, A* scratch) const {
    const Range kept = step.wanted.within(step.held);
    if (kept.empty() || kept.begin == step.held.begin) return;
    S* const rows = buffer(k, scratch);
    const int64_t row = row_elements(k);
    std::memmove(rows, rows + (kept.begin - step.held.begin) * row, kept.size() * row * sizeof(S));
  }

  // The convolution of link k that makes a step's rows of image n.
  Forward<S, A> pass(int64_t k, int64_t n, const Step& step, A* scratch) const {
    const Link<S, A>& link = links_[k];
    ConvGeometry g = link.g;
    g.N = 1;
    g.h.input = step.input.size();
    g.h.output = step.made.size();
    g.h.pad += step.input.begin - step.made.begin * g.h.stride;
    const auto rows_of = [](auto image, int64_t from, int64_t row) {
      image.data += from * image.n + row * image.h;
      return image;
    };
    const auto in_buffer = [&](int64_t of, int64_t row) {
      const int64_t elements = row_elements(of), pixel = links_[of].g.O;
      return ImageView<S>{buffer(of, scratch) + row * elements, 0, elements, pixel, 1};
    };
    ImageView<const S> x = rows_of(x_, n, step.input.begin);
    if (k > 0) {
      const ImageView<S> before = in_buffer(k - 1, 0);
      x = {before.data, before.n, before.h, before.w, before.c};
    }
    Result<S, A> result = link.result;
    result.y = k == last_ ? rows_of(result.y, n, step.made.begin) : in_buffer(k, step.made.begin - step.wanted.begin);
    if (result.residual.data != nullptr) result.residual = rows_of(result.residual, n, step.made.begin);
    return {kernels_, g, Algorithm::automatic, 1, x, link.weights, link.bias, result};
  }

  const Kernels<S, A>& kernels_;
  const std::vector<Link<S, A>>& links_;
  ImageView<const S> x_;
  int64_t last_;
  int64_t strip_, shares_;        // rows of a strip; parts of an image that different threads take
  std::vector<int64_t> buffers_;  // where they begin in the scratch
  int64_t of_passes_;             // where the scratch of the links' passes begins
  PlanMemory memory_;
};

}  // namespace nhwc_conv
