// The weights of an input gradient's phases: views of the given ones, or of a copy in an order that phases read well;
// and the same packed ahead of the calls, for transposed convolutions.
#pragma once

#include <vector>

#include "packed_weights.h"
#include "phases.h"

namespace nhwc_conv {

template <class S, class A> class PhaseWeights {
 public:
  // w: as the forward pass reads it.
  PhaseWeights(const Kernels<S, A>& kernels, const ConvGeometry& g, const WeightView<const S>& w)
      : kernels_(kernels), g_(g), given_(w), w_(w), merged_(phases_across(kernels, g) == PhasesAcross::channels) {
    // As channels, phases need weights in which the input channels of one tap are followed by those of the next. And
    // phases that take some taps out of all that lie in a row would read all of them, a few at a time.
    taps_in_row_ = std::is_same_v<S, A> && taps_are_neighbours<A>(w, g);
    copies_ = merged_ ? w.j != g.C * w.c : taps_in_row_ && (g.h.stride > 1 || g.w.stride > 1);
    if (!copies_) return;
    const int64_t Cg = g.C_per_group(), tap = Cg * g.O;
    w_ = {nullptr, g.w.kernel * tap, tap, merged_ ? g.O : 1, merged_ ? 1 : Cg, g.O_per_group() * Cg};
  }

  // Of the copy.
  int64_t elements() const { return copies_ ? g_.h.kernel * w_.i : 0; }

  WeightView<const S> of_phase(const AxisPhase& h, const AxisPhase& w, const S* copy) const {
    const S* const taps = (copies_ ? copy : given_.data) + h.last_tap * w_.i + w.last_tap * w_.j;
    return {taps, -h.tap_step * w_.i, -w.tap_step * w_.j, w_.o, w_.c, w_.group};
  }

  // To [KH][KW][C][O], or [KH][KW][O][C/groups]; in their own type, since phases read them as they would read what was
  // given.
  void copy(const Parallel& parallel, S* to) const {
    if (!copies_) return;
    const int64_t rows = merged_ ? g_.C : g_.O_per_group(), columns = merged_ ? g_.O : g_.C_per_group();
    const int64_t row = merged_ ? given_.c : given_.o, column = merged_ ? given_.o : given_.c;
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

 private:
  const Kernels<S, A>& kernels_;
  ConvGeometry g_;
  WeightView<const S> given_, w_;
  bool merged_, copies_, taps_in_row_;  // merged: phases across are channels
};

// Of one phase, behind its header.
template <class A> struct PackedPhase {
  const A* packed;
  Prepacked layout;
};

// Those of a transposed convolution: one packing after the other, of phases in the order of their first taps, down and
// across, unless those across are one. So they do not depend on the padding.
template <class S, class A> class PackedPhases {
 public:
  PackedPhases(const Kernels<S, A>& kernels, const ConvGeometry& g) : kernels_(kernels) {
    const PhasesAcross across = phases_across(kernels, g);
    const int64_t columns = count_across(g, across);
    for (int64_t tap = 0; tap < first_taps(g.h) * columns; ++tap) {
      const AxisPhase h = input_gradient_phase(g.h, tap / columns);
      const AxisPhase w = across == PhasesAcross::in_turn ? all_phases(g.w) : input_gradient_phase(g.w, tap % columns);
      ConvGeometry phase = {};
      phase.C = g.O;
      phase.O = across == PhasesAcross::channels ? g.w.stride * g.C : g.C;
      phase.groups = g.groups;
      phase.h = h.axis;
      phase.w = w.axis;
      phases_.push_back({phase, h, w});
    }
  }

  // Which of them has these first taps.
  static int64_t index(const ConvGeometry& g, PhasesAcross across, const AxisPhase& h, const AxisPhase& w) {
    return h.first_tap() * count_across(g, across) + w.first_tap();
  }

  int64_t elements() const {
    int64_t elements = 0;
    for (const Phase& phase : phases_) elements += elements_of(weights_of(phase));
    return elements;
  }

  // Into a buffer of elements(), from `w`, with room for a copy of it.
  void pack(const Parallel& parallel, const PhaseWeights<S, A>& w, const WeightState& state, A* buffer, S* copy) const {
    w.copy(parallel, copy);
    for (const Phase& phase : phases_) {
      const PackedWeights<S, A> weights = weights_of(phase);
      weights.pack(parallel, w.of_phase(phase.h, phase.w, copy), state, elements_of(weights), buffer);
      buffer += elements_of(weights);
    }
  }

  // What is in a buffer of so many elements; nothing where it is not what pack() would write now.
  std::vector<PackedPhase<A>> read(const A* buffer, int64_t size) const {
    std::vector<PackedPhase<A>> result;
    for (const Phase& phase : phases_) {
      if (size < kPackedHeader<A>) return {};
      const PackedHeader header = read_header(buffer);
      const PackedWeights<S, A> weights = weights_of(phase);
      const int64_t elements = elements_of(weights);
      if (size < elements || !weights.matches(header, elements)) return {};
      result.push_back({buffer + kPackedHeader<A>, weights.layout()});
      buffer += elements;
      size -= elements;
    }
    return size == 0 ? result : std::vector<PackedPhase<A>>{};
  }

 private:
  struct Phase {
    ConvGeometry g;
    AxisPhase h, w;
  };

  static int64_t count_across(const ConvGeometry& g, PhasesAcross across) {
    return across == PhasesAcross::each ? first_taps(g.w) : 1;
  }

  PackedWeights<S, A> weights_of(const Phase& phase) const {
    const auto suits = [](const Axis& axis) { return axis.kernel == 3 && axis.dilation == 1; };
    return {kernels_, phase.g, suits(phase.g.h) && suits(phase.g.w)};
  }

  static int64_t elements_of(const PackedWeights<S, A>& weights) { return whole_lines<A>(weights.elements()); }

  const Kernels<S, A>& kernels_;
  std::vector<Phase> phases_;
};

}  // namespace nhwc_conv
