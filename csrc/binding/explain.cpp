#include "explain.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "dtypes.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

template <class S> ImageView<S> contiguous_image(int64_t H, int64_t W, int64_t C) {
  return {nullptr, H * W * C, W * C, C, 1};
}

// A JSON object. Names and texts are those of csrc/, and need no escapes.
class Json {
 public:
  Json& text(const char* name, const std::string& value) { return add(name, '"' + value + '"'); }
  Json& flag(const char* name, bool value) { return add(name, value ? "true" : "false"); }
  Json& number(const char* name, int64_t value) { return add(name, std::to_string(value)); }
  template <size_t count> Json& list(const char* name, const std::array<int64_t, count>& values) {
    std::string items;
    for (const int64_t value : values) items += (items.empty() ? "" : ", ") + std::to_string(value);
    return add(name, '[' + items + ']');
  }
  std::string closed() const { return members_ + '}'; }

 private:
  Json& add(const char* name, const std::string& value) {
    members_ += (members_.size() > 1 ? ", \"" : "\"") + std::string(name) + "\": " + value;
    return *this;
  }
  std::string members_ = "{";
};

template <class Pass> std::string explain_pass(const Pass& pass, int64_t element_bytes) {
  const Explanation plan = pass.explain();
  const PlanMemory memory = pass.memory();
  Json json;
  json.text("algorithm", plan.algorithm);
  if (*plan.runner == 0) return json.closed();
  json.text("runner", plan.runner).text("instruction_set", active_kernels().name).text("source", plan.source);
  json.list("reduction", plan.reduction).list("tile", plan.tile).flag("packed_weights", plan.packed_weights);
  if (plan.pairs) json.flag("pairs", true);
  if (plan.reduction_blocks[0] > 0) json.list("reduction_blocks", plan.reduction_blocks);
  const std::pair<const char*, int64_t> numbers[] = {{"winograd_tile", plan.winograd_tile},
                                                     {"block_tiles", plan.block_tiles},
                                                     {"phases", plan.phases},
                                                     {"partials", plan.partials}};
  for (const auto& [name, value] : numbers) {
    if (value > 0) json.number(name, value);
  }
  return json.number("workspace_shared", memory.packed_elements * element_bytes)
      .number("workspace_per_thread", memory.scratch_elements * element_bytes)
      .closed();
}

template <class S, class A>
std::string explain_direction(const std::string& direction, Algorithm algorithm, const ConvGeometry& g) {
  const Kernels<S, A>& kernels = Types<S, A>::kernels();
  const int threads = torch_threads(g.work(sizeof(S))).threads;
  const int64_t size = sizeof(A), Cg = g.C_per_group();
  const auto x = contiguous_image<const S>(g.h.input, g.w.input, g.C);
  const auto grad = contiguous_image<const S>(g.h.output, g.w.output, g.O);
  const WeightView<const S> w = {nullptr, g.w.kernel * Cg * g.O, Cg * g.O, g.O, 1, g.O_per_group()};
  if (direction == "forward") {
    const Result<S, A> y = {contiguous_image<S>(g.h.output, g.w.output, g.O)};
    return explain_pass(Forward<S, A>(kernels, g, algorithm, threads, x, {w, nullptr, {}}, {nullptr, 1}, y), size);
  }
  if (is_direct_by_name(algorithm)) algorithm = Algorithm::direct;
  if (direction == "input_gradient") {
    const auto dx = contiguous_image<S>(g.h.input, g.w.input, g.C);
    const auto [met, weights] = without_idle_taps(g, w, algorithm);
    return explain_pass(InputGradient<S, A>(kernels, met, algorithm, threads, grad, weights, dx), size);
  }
  return explain_pass(WeightGradient<S, A>(kernels, g, algorithm, threads, x, grad, {}), size);
}

[[noreturn]] void refuse(const char* name, const char* expected, const std::string& actual) {
  throw std::invalid_argument(std::string(name) + " must be " + expected + ", but got '" + actual + "'");
}

}  // namespace

std::string explain(const std::string& direction, const std::string& algorithm, const std::string& dtype,
                    const std::vector<int64_t>& x_shape, const std::vector<int64_t>& w_shape,
                    const ConvOptions& options) {
  const std::pair<const char*, Algorithm> algorithms[] = {{"auto", Algorithm::automatic},
                                                          {"im2col", Algorithm::im2col},
                                                          {"matmul", Algorithm::matmul},
                                                          {"winograd", Algorithm::winograd}};
  const auto* found = std::find_if(std::begin(algorithms), std::end(algorithms),
                                   [&](const auto& known) { return algorithm == known.first; });
  if (found == std::end(algorithms)) refuse("algorithm", "'auto', 'im2col', 'matmul' or 'winograd'", algorithm);
  const int32_t number = computed_dtype_named(dtype);
  if (direction != "forward" && direction != "input_gradient" && direction != "weight_gradient") {
    refuse("direction", "'forward', 'input_gradient' or 'weight_gradient'", direction);
  }
  const TensorInfo x = {static_cast<int64_t>(x_shape.size()), x_shape.data(), nullptr, 0, 0};
  const TensorInfo w = {static_cast<int64_t>(w_shape.size()), w_shape.data(), nullptr, 0, 0};
  const ConvGeometry g = check_forward(x, w, nullptr, options);
  if (found->second == Algorithm::winograd) check_winograd(g, options);
  return with_types(number, [&](auto types) {
    return explain_direction<typename decltype(types)::S, typename decltype(types)::A>(direction, found->second, g);
  });
}

}  // namespace nhwc_conv
