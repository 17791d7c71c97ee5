// The input gradient as forward convolutions of the output gradient, one per phase: see phases.h.
#pragma once

#include "convolution.h"
#include "parallel.h"
#include "phases.h"

namespace nhwc_conv {

template <class S, class A> class InputGradient {
 public:
  // g: the forward geometry. grad [N, OH, OW, O], w [KH, KW, C/groups, O] as in forward; dx [N, H, W, C],
  // contiguous as that or as [N, C, H, W].
  InputGradient(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                const ImageView<const S>& grad, const WeightView<const S>& w, const ImageView<S>& dx)
      : kernels_(kernels), g_(g), grad_(grad), given_(w), w_(w), dx_(dx), result_(dx) {
    const bool merge = phases_are_channels(g);
    const int64_t merged = merge ? g.w.stride : 1;
    // As channels, phases need weights in which the input channels of one tap are followed by those of the next. And
    // phases that take some taps out of all that lie in a row would read all of them, a few at a time.
    taps_in_row_ = std::is_same_v<S, A> && taps_are_neighbours<A>(w, g);
    inputs_first_ = merge;
    copies_weights_ = merge ? w.j != g.C * w.c : taps_in_row_ && (g.h.stride > 1 || g.w.stride > 1);
    if (copies_weights_) {
      const int64_t Cg = g.C_per_group(), tap = Cg * g.O;
      w_ = {w.data, g.w.kernel * tap, tap, merge ? g.O : 1, merge ? 1 : Cg, g.O_per_group() * Cg};
      memory_.packed_elements = g.h.kernel * w_.i;
    }
    // And pixels with the channels of one followed by those of the next.
    rearranges_ = merge && dx.w != g.C * dx.c;
    if (rearranges_) {
      dx_ = {nullptr, g.h.input * g.w.input * g.C, g.w.input * g.C, g.C, 1};
      first_pixel_ = memory_.packed_elements;
      memory_.packed_elements += g.N * dx_.n;
    }
    const std::vector<AxisPhase> down = phases_with_taps(g.h);
    const std::vector<AxisPhase> across =
        merge ? std::vector<AxisPhase>{input_gradient_phase(g.w, 0)} : phases_with_taps(g.w);
    has_gaps_ = static_cast<int64_t>(down.size()) < clamp(g.h.stride, 0, g.h.input) ||
                static_cast<int64_t>(across.size()) * merged < clamp(g.w.stride, 0, g.w.input);
    phases_.reserve(down.size() * across.size());
    for (const AxisPhase& h : down) {
      for (const AxisPhase& a : across) {
        Phase phase;
        phase.g = {g.N, g.O, merged * g.C, g.groups, h.axis, a.axis};
        phase.w = {w_.data, -h.tap_step * w_.i, -a.tap_step * w_.j, w_.o, w_.c, w_.group};
        phase.first_weight = h.last_tap * w_.i + a.last_tap * w_.j;
        phase.dx.y = {dx_.data, dx_.n, g.h.stride * dx_.h, g.w.stride * dx_.w, dx_.c};
        phase.first_pixel = h.first * dx_.h + a.first * dx_.w;
        phase.plan = make_plan(kernels, phase.g, grad_, phase.w, phase.dx, algorithm, threads);
        phase.packed = memory_.packed_elements;
        memory_.packed_elements += phase.plan.memory().packed_elements;
        memory_.scratch_elements = max(memory_.scratch_elements, phase.plan.memory().scratch_elements);
        phases_.push_back(phase);
      }
    }
  }

  PlanMemory memory() const { return memory_; }

  void run(const Parallel& parallel, A* workspace) const {
    if (has_gaps_) clear(parallel, pixels(workspace));
    if (copies_weights_) copy_weights(parallel, reinterpret_cast<S*>(workspace));
    // Items of all phases share one index space, so that one parallel region serves them all.
    const int64_t count = phases_.size();
    int64_t most_pack = 0, most_items = 0;
    for (int64_t p = 0; p < count; ++p) {
      with_phase(p, workspace, [&](const auto& runner) {
        most_pack = max(most_pack, runner.pack_items());
        most_items = max(most_items, runner.items());
      });
    }
    for_each_item(parallel, count * most_pack, [&](int64_t item, int64_t) {
      with_phase(item % count, workspace, [&](const auto& runner) {
        if (item / count < runner.pack_items()) runner.pack(item / count);
      });
    });
    for_each_item(parallel, count * most_items, [&](int64_t item, int64_t slot) {
      A* const scratch = workspace + memory_.packed_elements + slot * memory_.scratch_elements;
      with_phase(item % count, workspace, [&](const auto& runner) {
        if (item / count < runner.items()) runner.run(item / count, scratch);
      });
    });
    if (rearranges_) rearrange(parallel, pixels(workspace));
  }

  // Of the first phase. Where every tap meets padding only, the gradient is zero.
  Explanation explain() const {
    if (phases_.empty()) return {"", "zero", ""};
    Explanation plan = phases_.front().plan.explain(phases_.front().g);
    plan.phases = phases_.size();
    return plan;
  }

 private:
  struct Phase {
    ConvGeometry g;
    WeightView<const S> w;
    int64_t first_weight;  // offset
    Result<S, A> dx;
    int64_t first_pixel;  // offset
    ConvPlan plan;
    int64_t packed;  // offset
  };

  template <class Use> void with_phase(int64_t index, A* workspace, const Use& use) const {
    const Phase& phase = phases_[index];
    WeightView<const S> w = phase.w;
    w.data = (copies_weights_ ? in_place<S>(workspace) : w.data) + phase.first_weight;
    A* const packed = workspace + phase.packed;
    Result<S, A> dx = phase.dx;
    dx.y.data = pixels(workspace) + phase.first_pixel;
    with_runner<S, A>(phase.plan, {kernels_, phase.g, grad_, w, nullptr, dx, packed}, use);
  }

  S* pixels(A* workspace) const { return rearranges_ ? reinterpret_cast<S*>(workspace + first_pixel_) : dx_.data; }

  void clear(const Parallel& parallel, S* dx) const {
    const int64_t chunk = 64 * 1024, elements = g_.N * g_.h.input * g_.w.input * g_.C;
    for_each_item(parallel, ceil_div(elements, chunk), [&](int64_t item, int64_t) {
      const int64_t begin = item * chunk, count = min(elements - begin, chunk);
      std::memset(static_cast<void*>(dx + begin), 0, count * sizeof(S));
    });
  }

  // From [N, H, W, C] to [N, C, H, W].
  void rearrange(const Parallel& parallel, const S* from) const {
    for_each_item(parallel, g_.N * g_.h.input, [&](int64_t row, int64_t) {
      const S* const pixels = from + row * dx_.h;
      S* const to = result_.data + row / g_.h.input * result_.n + row % g_.h.input * result_.h;
      if constexpr (std::is_same_v<S, A>) {
        kernels_.rearrange({pixels, 1, dx_.w, to, result_.c, g_.C, g_.w.input});
      } else {
        for (int64_t at = 0; at < dx_.h; ++at) to[at % g_.C * result_.c + at / g_.C * result_.w] = pixels[at];
      }
    });
  }

  // To [KH][KW][C][O], or [KH][KW][O][C/groups]; in their own type, since phases read them as they would read what was
  // given.
  void copy_weights(const Parallel& parallel, S* to) const {
    const int64_t rows = inputs_first_ ? g_.C : g_.O_per_group(), columns = inputs_first_ ? g_.O : g_.C_per_group();
    const int64_t row = inputs_first_ ? given_.c : given_.o, column = inputs_first_ ? given_.o : given_.c;
    if constexpr (std::is_same_v<S, A>) {
      if (taps_in_row_) {
        const int64_t shares = clamp(parallel.threads, 1, max(rows, 1));
        for_each_item(parallel, g_.groups * shares, [&](int64_t item, int64_t) {
          const int64_t group = item / shares;
          const Range some = share_of(rows, item % shares, shares);
          kernels_.copy_taps({given_.data + group * given_.group + some.begin * row, row, column,
                              to + (group * rows + some.begin) * columns, w_.j, columns, g_.taps(), some.size(),
                              columns});
        });
        return;
      }
    }
    for_each_item(parallel, g_.taps(), [&](int64_t tap, int64_t) {
      const S* from = given_.data + tap / g_.w.kernel * given_.i + tap % g_.w.kernel * given_.j;
      if constexpr (std::is_same_v<S, A>) {
        kernels_.rearrange({from, row, column, to + tap * w_.j, columns, rows, columns});
      } else {
        for (int64_t at = 0; at < w_.j; ++at) to[tap * w_.j + at] = from[at / columns * row + at % columns * column];
      }
    });
  }

  const Kernels<S, A>& kernels_;
  ConvGeometry g_;
  ImageView<const S> grad_;
  WeightView<const S> given_, w_;
  ImageView<S> dx_, result_;         // what the phases write, and where it goes in the end
  bool copies_weights_;              // first in the workspace
  bool taps_in_row_, inputs_first_;  // as they are given; and as they are copied, before the output channels
  bool rearranges_;                  // from pixels in the workspace
  int64_t first_pixel_ = 0;          // their offset
  bool has_gaps_;                    // places of dx that no phase reaches
  std::vector<Phase> phases_;
  PlanMemory memory_;
};

}  // namespace nhwc_conv
