// One convolution as one of several kinds of plan, and the runner of each. A forward pass is one, an input gradient is
// one per phase.
#pragma once

#include <optional>
#include <utility>
#include <variant>

#include "dense_plan.h"
#include "lanewise.h"
#include "pairs.h"
#include "winograd.h"

namespace nhwc_conv {

struct ConvPlan {
  std::variant<ViewPlan, PanelPlan, PiecesPlan, StreamPlan, PlanesPlan, LanewisePlan, WinogradPlan> kind;
  ConvGeometry g;            // what is computed
  bool turned;               // of images of one column, rows
  int64_t prepacked_offset;  // of what the runner reads of weights that were packed ahead of the call
  int64_t lanes_row;         // not zero: a dense runner reads weights that were packed for lanes, in rows of so many
  std::optional<ConvGeometry> pairs;  // what is computed, if by pairs

  const PlanMemory& memory() const {
    return std::visit([](const auto& plan) -> const PlanMemory& { return plan; }, kind);
  }
  Explanation explain() const {
    Explanation explanation = std::visit([&](const auto& plan) { return plan.explain(pairs.value_or(g)); }, kind);
    explanation.pairs = pairs.has_value();
    return explanation;
  }
};

// Images of one column are taken for images of one row: so the taps of a kernel of one column lie in one run of memory.
// Not with few outputs: weights packed ahead are of the dot form, or not, by the kernel as it is.
inline bool is_column_of_pixels(const ConvGeometry& g) {
  const bool has_one = g.w.input == 1 && g.w.output == 1 && g.w.kernel == 1 && g.w.pad == 0;
  return has_one && g.h.output > 1 && g.O_per_group() > kMaxDotFamilies;
}

template <class View> View turned(View view) {
  std::swap(view.h, view.w);
  return view;
}
template <class S> WeightView<const S> turned(WeightView<const S> w) {
  std::swap(w.i, w.j);
  return w;
}
template <class S, class A> Result<S, A> turned(Result<S, A> result) {
  result.y = turned(result.y);
  result.residual = turned(result.residual);
  return result;
}

// The weights as the runner finds them: given, or packed for lanes over all groups, [KH][KW][C/groups] rows with the
// outputs of every group.
template <class S, class A>
WeightView<const S> weights_of(const ConvPlan& plan, const ConvGeometry& g, const WeightView<const S>& given,
                               const A* packed) {
  if (plan.lanes_row == 0) return given;
  const int64_t tap = g.C_per_group() * plan.lanes_row;
  return {in_place<S>(packed), g.w.kernel * tap, tap, plan.lanes_row, 1, g.O_per_group()};
}

// Algorithm::winograd takes geometries that fit it only; automatic takes it where it wins and may. Where groups are
// narrow, lanes run over the channels of all of them: im2col then stages the rows that a region of outputs reads,
// padding included, and matmul and automatic read them where they lie, unless that is slower.
template <class S, class A>
ConvPlan make_plan(const Kernels<S, A>& kernels, const ConvGeometry& g, const ImageView<const S>& x,
                   const WeightView<const S>& w, const Result<S, A>& result, Algorithm algorithm, int threads,
                   const Prepacked* prepacked = nullptr) {
  if (is_column_of_pixels(g)) {
    ConvPlan plan = make_plan(kernels, turned(g), turned(x), turned(w), turned(result), algorithm, threads, prepacked);
    plan.turned = true;
    return plan;
  }
  ConvPlan plan = {};
  plan.g = g;
  const bool lanewise = takes_lanes<A>(kernels, g), transformed = prepacked && keeps_winograd(*prepacked, g);
  const bool pairs = takes_pairs(kernels, g, algorithm), grouped = is_grouped<A>(kernels, g);
  const double direct_cost = pairs ? kernels.pairs->product_cost : grouped ? kGroupedCost : 1;
  const auto weights = transformed ? WinogradWeights::prepacked : WinogradWeights::given;
  // Neither panels of pairs nor lanes hold what Winograd could transform.
  const bool has_weights = !prepacked || transformed || !(pairs || lanewise);
  const bool may_win = algorithm == Algorithm::winograd || !lanewise || winograd_rivals_lanes<A>(kernels, g);
  if (has_weights && may_win && takes_winograd<A>(algorithm, g, weights, 1, direct_cost, kernels.weight_cost)) {
    plan.kind = make_winograd_plan(kernels, g, threads, result, prepacked);
    if (transformed) plan.prepacked_offset = prepacked->direct_elements;
    return plan;
  }
  // Planes read weights that were packed for lanes as if they were given: outputs are neighbours, which need no
  // packing.
  const bool dense_may = !is_direct_by_name(algorithm) && g.C_per_group() > 1 && (!prepacked || std::is_same_v<S, A>);
  if (grouped || (lanewise && !(dense_may && takes_planes<A>(kernels, g)))) {
    const RowPadding padding = algorithm == Algorithm::im2col ? RowPadding::always : RowPadding::if_better;
    plan.kind = make_lanewise_plan(kernels, g, x, has_lanes_in_order<S, A>(g, w), threads, padding, result);
    return plan;
  }
  if (prepacked && lanewise) plan.lanes_row = spread<A>(g.O);
  const DenseForm* form = prepacked && !lanewise ? &prepacked->form : nullptr;
  const auto plan_dense = [&](const auto& dense_kernels, const ConvGeometry& of, const auto& view, const auto& weight) {
    const DensePlanner planner(dense_kernels, of, view, weight, algorithm, threads, result, form);
    std::visit([&](const auto& kind) { plan.kind = kind; }, planner.plan());
  };
  if constexpr (kHasPairs<S, A>) {
    if (pairs) {
      plan.pairs = in_pairs(g);
      plan_dense(*kernels.pairs, *plan.pairs, in_pairs(x, g), in_pairs(w, g));
      return plan;
    }
  }
  plan_dense(kernels, g, x, weights_of<S, A>(plan, g, w, nullptr));
  return plan;
}

// A runner packs every pack_items() item, then runs every items() item, in any order and on any thread; run(item,
// scratch) has a thread's scratch.
template <class S, class A> struct RunnerOf {
  const Operands<S, A>& o;
  ViewRunner<S, A> operator()(const ViewPlan& plan) const { return {plan, o}; }
  PanelRunner<S, A> operator()(const PanelPlan& plan) const { return {plan, o}; }
  PiecesRunner<S, A> operator()(const PiecesPlan& plan) const { return {plan, o}; }
  StreamRunner<S, A> operator()(const StreamPlan& plan) const { return {plan, o}; }
  PlanesRunner<S, A> operator()(const PlanesPlan& plan) const { return {plan, o}; }
  LanewiseRunner<S, A> operator()(const LanewisePlan& plan) const { return {plan, o}; }
  WinogradRunner<S, A> operator()(const WinogradPlan& plan) const { return {plan, o}; }
};

template <class S, class A, class Use>
void with_runner(const ConvPlan& plan, const Operands<S, A>& given, const Use& use) {
  Operands<S, A> operands = {given.kernels, plan.g, given.x, given.w, given.bias, given.result, given.packed};
  if (plan.turned) {
    operands.x = turned(operands.x);
    operands.w = turned(operands.w);
    operands.result = turned(operands.result);
  }
  if constexpr (kHasPairs<S, A>) {
    if (plan.pairs) {
      const Operands<S, BFloat16Pair> o = {*operands.kernels.pairs,
                                           *plan.pairs,
                                           in_pairs(operands.x, operands.g),
                                           in_pairs(operands.w, operands.g),
                                           operands.bias,
                                           operands.result,
                                           elements_in<BFloat16Pair>(operands.packed)};
      if (const ViewPlan* view = std::get_if<ViewPlan>(&plan.kind)) use(ViewRunner<S, BFloat16Pair>(*view, o));
      if (const PlanesPlan* planes = std::get_if<PlanesPlan>(&plan.kind))
        use(PlanesRunner<S, BFloat16Pair>(*planes, o));
      if (const PiecesPlan* pieces = std::get_if<PiecesPlan>(&plan.kind))
        use(PiecesRunner<S, BFloat16Pair>(*pieces, o));
      return;
    }
  }
  operands.w = weights_of<S, A>(plan, operands.g, operands.w, operands.packed);
  operands.packed += plan.prepacked_offset;
  std::visit([&](const auto& kind) { use(RunnerOf<S, A>{operands}(kind)); }, plan.kind);
}

}  // namespace nhwc_conv
