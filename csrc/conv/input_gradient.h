// The input gradient as forward convolutions of the output gradient, one per phase: see phases.h. With a bias and, for
// inference, weights packed ahead and an activation it is a transposed convolution.
#pragma once

#include <optional>
#include <utility>

#include "forward.h"
#include "phase_weights.h"

namespace nhwc_conv {

// A convolution and its weights without the taps that meet no pixel, as all but one of a 3x3 kernel over one pixel. Not
// for transposed convolutions, whose sums are cut into blocks as those of weights packed for any size of image.
template <class T>
std::pair<ConvGeometry, WeightView<T>> without_idle_taps(ConvGeometry g, WeightView<T> w, Algorithm algorithm) {
  const Range down = g.h.taps_met(), across = g.w.taps_met();
  const bool all = down.size() == g.h.kernel && across.size() == g.w.kernel;
  if (all || down.empty() || across.empty() || algorithm == Algorithm::winograd) return {g, w};
  w.data += down.begin * w.i + across.begin * w.j;
  g.h = g.h.of_taps(down);
  g.w = g.w.of_taps(across);
  return {g, w};
}

template <class S, class A> class InputGradient {
 public:
  // g: the forward geometry. grad [N, OH, OW, O], w [KH, KW, C/groups, O] as in forward; dx [N, H, W, C],
  // contiguous as that or as [N, C, H, W]. `bias` is added to complete sums, and `steps` are done to these.
  // `packed` is what PackedPhases has read, or nothing; then w is not read.
  InputGradient(const Kernels<S, A>& kernels, const ConvGeometry& g, Algorithm algorithm, int threads,
                const ImageView<const S>& grad, const WeightView<const S>& w, const ImageView<S>& dx,
                const BiasView<S>& bias = {}, const std::vector<PackedPhase<A>>& packed = {},
                const FinishSteps<A>& steps = {})
      : kernels_(kernels),
        g_(g),
        across_(phases_across(kernels, g)),
        merged_(across_ == PhasesAcross::channels ? g.w.stride : 1),
        grad_(grad),
        weights_(kernels, g, w),
        result_(dx),
        dx_(dx),
        bias_(bias),
        steps_(steps) {
    if (bias.data == nullptr && packed.empty() && is_pointwise(g)) {
      const ConvGeometry back = {g.N, g.O, g.C, g.groups, g.h, g.w};
      const GivenWeights<S, A> turned = {{w.data, w.i, w.j, w.o, w.c, w.group}, nullptr, {}};
      pointwise_.emplace(kernels, back, Algorithm::automatic, threads, grad, turned, BiasView<S>{},
                         Result<S, A>{dx, steps});
      return;
    }
    if (packed.empty()) memory_.packed_elements = weights_.elements();
    arrange_result();
    const std::vector<AxisPhase> down = phases_with_taps(g.h);
    std::vector<AxisPhase> across;
    if (across_ == PhasesAcross::each) across = phases_with_taps(g.w);
    if (across_ == PhasesAcross::channels) across = {input_gradient_phase(g.w, 0)};
    if (across_ == PhasesAcross::in_turn) across = {all_phases(g.w)};
    const auto has_gaps = [](const Axis& axis, const std::vector<AxisPhase>& phases) {
      return static_cast<int64_t>(phases.size()) < clamp(axis.stride, 0, axis.input);
    };
    has_gaps_ = has_gaps(g.h, down) || (across_ == PhasesAcross::each && has_gaps(g.w, across));
    stage_bias();
    phases_.reserve(down.size() * across.size());
    for (const AxisPhase& h : down) {
      for (const AxisPhase& a : across) {
        Phase phase;
        phase.h = h;
        phase.w = a;
        phase.g = {g.N, g.O, merged_ * g.C, g.groups, h.axis, a.axis};
        phase.dx.y = {dx_.data, dx_.n, h.step * dx_.h, a.step * dx_.w, dx_.c};
        phase.dx.steps = steps;
        if (bias.data != nullptr) phase.dx.residual = {bias.data, 0, 0, 0, staged_bias_ < 0 ? bias.step : 1};
        phase.first_pixel = h.first * dx_.h + a.first * dx_.w;
        if (!packed.empty()) phase.given = packed[PackedPhases<S, A>::index(g, across_, h, a)];
        const bool is_packed = phase.given.packed != nullptr;
        const WeightView<const S> view = is_packed ? WeightView<const S>{} : weights_.of_phase(h, a, w.data);
        phase.plan = make_plan(kernels, phase.g, grad_, view, phase.dx, algorithm, threads,
                               is_packed ? &phase.given.layout : nullptr);
        phase.packed = memory_.packed_elements;
        if (!is_packed) memory_.packed_elements += phase.plan.memory().packed_elements;
        memory_.scratch_elements = max(memory_.scratch_elements, phase.plan.memory().scratch_elements);
        phases_.push_back(phase);
      }
    }
  }

  PlanMemory memory() const { return pointwise_ ? pointwise_->memory() : memory_; }

  void run(const Parallel& parallel, A* workspace) const {
    if (pointwise_) return pointwise_->run(parallel, workspace);
    if (staged_bias_ >= 0) repeat_bias(reinterpret_cast<S*>(workspace + staged_bias_));
    if (has_gaps_) fill(parallel, workspace);
    if (!phases_.empty() && phases_.front().given.packed == nullptr) {
      weights_.copy(parallel, reinterpret_cast<S*>(workspace));
    }
    // Items of all phases share one index space, so that one parallel region serves them all.
    const int64_t count = phases_.size();
    int64_t most_pack = 0, most_items = 0;
    for (int64_t p = 0; p < count; ++p) {
      with_phase(p, workspace, [&](const auto& runner) {
        if (phases_[p].given.packed == nullptr) most_pack = max(most_pack, runner.pack_items());
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
    if (first_pixel_ >= 0) rearrange(parallel, pixels(workspace));
  }

  // Of the first phase. Where every tap meets padding only, the gradient is zero.
  Explanation explain() const {
    if (pointwise_) return pointwise_->explain();
    if (phases_.empty()) return {"", "zero", ""};
    Explanation plan = phases_.front().plan.explain();
    plan.phases = phases_.size();
    return plan;
  }

 private:
  struct Phase {
    AxisPhase h, w;
    ConvGeometry g;
    Result<S, A> dx;
    int64_t first_pixel;  // offset
    ConvPlan plan;
    int64_t packed;             // offset
    PackedPhase<A> given = {};  // ahead of the call, or none
  };

  // Phases across that are channels need pixels with the channels of one followed by those of the next. And each of
  // several would write every so many values of a channel that is apart. The copy of half precision is no faster than
  // that.
  void arrange_result() {
    if (g_.C == 1) dx_.c = dx_.w;
    const bool are_strided = std::is_same_v<S, A> && dx_.c != 1 && g_.w.stride > 1;
    if (merged_ > 1 ? dx_.w == g_.C * dx_.c : !are_strided) return;
    dx_ = {nullptr, g_.h.input * g_.w.input * g_.C, g_.w.input * g_.C, g_.C, 1};
    first_pixel_ = memory_.packed_elements;
    memory_.packed_elements += whole_lines<A>(g_.N * dx_.n);
  }

  // For phases that are channels, once for each.
  void stage_bias() {
    if (bias_.data == nullptr || merged_ == 1) return;
    staged_bias_ = memory_.packed_elements;
    memory_.packed_elements += whole_lines<A>(merged_ * g_.C);
  }

  void repeat_bias(S* to) const {
    for (int64_t at = 0; at < merged_ * g_.C; ++at) to[at] = bias_.data[at % g_.C * bias_.step];
  }

  template <class Use> void with_phase(int64_t index, A* workspace, const Use& use) const {
    const Phase& phase = phases_[index];
    const bool is_packed = phase.given.packed != nullptr;
    const WeightView<const S> w =
        is_packed ? WeightView<const S>{} : weights_.of_phase(phase.h, phase.w, in_place<S>(workspace));
    // Not written unless it is the workspace.
    A* const packed = is_packed ? const_cast<A*>(phase.given.packed) : workspace + phase.packed;
    Result<S, A> dx = phase.dx;
    dx.y.data = pixels(workspace) + phase.first_pixel;
    if (staged_bias_ >= 0) dx.residual.data = reinterpret_cast<const S*>(workspace + staged_bias_);
    with_runner<S, A>(phase.plan, {kernels_, phase.g, grad_, w, nullptr, dx, packed}, use);
  }

  S* pixels(A* workspace) const {
    return first_pixel_ >= 0 ? reinterpret_cast<S*>(workspace + first_pixel_) : dx_.data;
  }

  // With what becomes of sums of nothing: places that no phase reaches keep it.
  void fill(const Parallel& parallel, A* workspace) const {
    S* const dx = pixels(workspace);
    const int64_t rows = g_.N * g_.h.input;
    const bool are_zeros = bias_.data == nullptr && steps_.activation == Activation::none;
    const std::vector<A> sums(are_zeros ? 0 : g_.C);
    for_each_item(parallel, rows, [&](int64_t row, int64_t) {
      S* const to = dx + row / g_.h.input * dx_.n + row % g_.h.input * dx_.h;
      if (!are_zeros) {
        kernels_.finish({sums.data(), 0, to, dx_.w, dx_.c, g_.w.input, g_.C, steps_, bias_.data, 0, bias_.step});
        return;
      }
      for (int64_t c = 0; c < (dx_.c == 1 ? 1 : g_.C); ++c) {
        std::memset(static_cast<void*>(to + c * dx_.c), 0, g_.w.input * (dx_.c == 1 ? g_.C : 1) * sizeof(S));
      }
    });
  }

  // From [N, H, W, C] to [N, C, H, W].
  void rearrange(const Parallel& parallel, const S* from) const {
    const int64_t rows = g_.N * g_.h.input, shares = clamp(ceil_div(parallel.threads, max(rows, 1)), 1, g_.w.input);
    for_each_item(parallel, rows * shares, [&](int64_t item, int64_t) {
      const int64_t row = item / shares;
      const Range some = share_of(g_.w.input, item % shares, shares);
      const S* const row_of_pixels = from + row * dx_.h + some.begin * dx_.w;
      S* const to = result_.data + row / g_.h.input * result_.n + row % g_.h.input * result_.h + some.begin * result_.w;
      if constexpr (std::is_same_v<S, A>) {
        kernels_.rearrange({row_of_pixels, 1, dx_.w, to, result_.c, g_.C, some.size()});
      } else {
        for (int64_t at = 0; at < some.size() * g_.C; ++at) {
          to[at % g_.C * result_.c + at / g_.C * result_.w] = row_of_pixels[at];
        }
      }
    });
  }

  const Kernels<S, A>& kernels_;
  ConvGeometry g_;
  PhasesAcross across_;
  int64_t merged_;  // phases across that are channels of one convolution; or 1
  ImageView<const S> grad_;
  PhaseWeights<S, A> weights_;  // a copy is first in the workspace
  ImageView<S> result_, dx_;    // and what the phases write
  BiasView<S> bias_;
  FinishSteps<A> steps_;
  int64_t first_pixel_ = -1, staged_bias_ = -1;  // offsets in the workspace of such pixels, of the bias; or none
  bool has_gaps_;                                // places of dx that no phase reaches
  std::vector<Phase> phases_;
  PlanMemory memory_;
  std::optional<Forward<S, A>> pointwise_;  // all of it, where it is a product of matrices
};

}  // namespace nhwc_conv
