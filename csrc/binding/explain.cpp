#include "explain.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "../conv/depthwise_gradient.h"
#include "../conv/input_gradient.h"
#include "../conv/weight_gradient.h"
#include "../conv/winograd_gradient.h"
#include "../kernels/dispatch.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

template <class T>
ImageView<const T> contiguous_image(int64_t H, int64_t W, int64_t C) {
  return {nullptr, H * W * C, W * C, C, 1};
}

// A JSON object. Names and texts are those of this folder's sources, and need no escapes.
class Json {
 public:
  Json& text(const char* name, const std::string& value) { return add(name, '"' + value + '"'); }
  Json& flag(const char* name, bool value) { return add(name, value ? "true" : "false"); }
  Json& number(const char* name, int64_t value) { return add(name, std::to_string(value)); }
  Json& list(const char* name, std::initializer_list<int64_t> values) {
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

// What every plan tells first, and last.
Json opening(const char* algorithm, const char* source) {
  return Json().text("algorithm", algorithm).text("instruction_set", active_kernels().name).text("source", source);
}

std::string closing(Json& plan, int64_t shared, int64_t per_thread) {
  return plan.number("workspace_shared", shared).number("workspace_per_thread", per_thread).closed();
}

template <class T>
std::string describe(const ConvGeometry& g, const ConvPlan& plan, int64_t shared, int64_t per_thread, int64_t phases) {
  const int64_t KH = g.h.kernel, KW = g.w.kernel, C = g.C_per_group();
  if (plan.method == Method::depthwise) {
    const auto& lanewise = plan.lanewise;
    return closing(opening("depthwise", lanewise.expand ? "panel" : "view")
                       .list("reduction", {KH, KW, C})
                       .list("tile", {kMaxLanewiseRows, lanewise.item_channels * lanewise.pixels_abreast})
                       .flag("packed_weights", lanewise.pack_weights)
                       .number("phases", phases),
                   shared, per_thread);
  }
  if (plan.method == Method::winograd) {
    const WinogradPlan& winograd = plan.winograd;
    const ColumnTiles& columns = winograd.columns;
    const int rows = family_of(kernels_of<T>(active_kernels()), columns.lanes, columns.vectors).max_rows;
    return closing(opening("winograd", "view")
                       .list("reduction", {1, 1, C})
                       .list("tile", {rows, columns.vectors * columns.lanes})
                       .flag("packed_weights", winograd.pack_weights)
                       .list("reduction_blocks", {1, winograd.depth_blocks})
                       .number("winograd_tile", winograd.tile)
                       .number("block_tiles", winograd.block_tiles)
                       .number("phases", phases),
                   shared, per_thread);
  }
  const DensePlan& dense = plan.dense;
  const bool view = dense.source != Source::panel, im2col = dense.algorithm == Algorithm::im2col;
  const ColumnTiles& columns = dense.source == Source::planes ? dense.across : dense.columns;
  const char* const sources[] = {"view", "window", "panel", "planes"};
  return closing(
      opening(im2col ? "im2col" : "matmul", sources[static_cast<int>(dense.source)])
          .list("reduction", {view ? KH : 1, view && !im2col ? KW : 1, view ? (im2col ? KW * C : C) : KH * KW * C})
          .list("tile", {dense.rows, columns.vectors * columns.lanes})
          .flag("packed_weights", dense.pack_weights)
          .list("reduction_blocks", {dense.row_blocks, dense.inner_blocks})
          .number("phases", phases),
      shared, per_thread);
}

std::string describe_weight_gradient(const char* algorithm, const char* source, int64_t rows, int64_t pixels,
                                     int64_t tile_rows, int64_t tile_columns, int64_t partials, int64_t shared,
                                     int64_t per_thread) {
  return closing(opening(algorithm, source)
                     .list("reduction", {rows, 1, pixels})
                     .list("tile", {tile_rows, tile_columns})
                     .flag("packed_weights", false)
                     .number("partials", partials),
                 shared, per_thread);
}

template <class T>
std::string explain_pass(const std::string& pass, Algorithm algorithm, const ConvGeometry& g, int threads) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const int64_t size = sizeof(T);
  const int64_t Cg = g.C_per_group();
  ImageView<const T> x = contiguous_image<T>(g.h.input, g.w.input, g.C);
  ImageView<const T> grad = contiguous_image<T>(g.h.output, g.w.output, g.O);
  const WeightView<const T> w = {nullptr, g.w.kernel * Cg * g.O, Cg * g.O, g.O, 1, g.O_per_group()};
  if (pass == "forward") {
    ConvGeometry joined = g;
    join_pixels(joined, x);
    const ConvPlan plan = make_plan(kernels, joined, x, w, algorithm, threads);
    return describe<T>(joined, plan, plan.packed_elements * size, plan.scratch_elements * size, 1);
  }
  const Algorithm of_gradient = is_direct_by_name(algorithm) ? Algorithm::direct : algorithm;
  if (pass == "input_gradient") {
    const InputGradient<T> gradient(kernels, g, of_gradient, threads, grad, w, {nullptr, x.n, x.h, x.w, 1});
    if (gradient.plan() == nullptr) return Json().text("algorithm", "zero").closed();
    return describe<T>(gradient.geometry(), *gradient.plan(), gradient.packed_elements() * size,
                       gradient.scratch_elements() * size, gradient.phases());
  }
  if (takes_winograd_gradient<T>(of_gradient, g)) {
    const WinogradGradientPlan plan = make_winograd_gradient_plan(kernels, g, threads);
    return describe_weight_gradient("winograd", "view", plan.tile_blocks, plan.block_tiles, plan.rows,
                                    plan.columns.vectors * plan.columns.lanes, 1, 0, plan.scratch_elements * size);
  }
  ConvGeometry joined = g;
  join_single_pixels(joined, x, grad);
  if (is_depthwise(kernels, joined)) {
    const DepthwiseWeightGradient<T> gradient(kernels, joined, x, grad, nullptr);
    const DepthwisePlan& plan = gradient.plan();
    return describe_weight_gradient("depthwise", plan.expand ? "panel" : "view", plan.item_rows, plan.item_columns,
                                    kMaxLanewiseRows, plan.item_channels, gradient.partials(),
                                    gradient.partial_elements() * size, gradient.scratch_elements() * size);
  }
  const WeightGradientPlan plan = make_weight_gradient_plan(kernels, joined, x, grad);
  return describe_weight_gradient("direct", plan.scratch_elements() > 0 ? "window" : "view", plan.block_rows,
                                  plan.block_columns, plan.rows, plan.columns.vectors * plan.columns.lanes,
                                  plan.partials, plan.partial_elements * size, plan.scratch_elements() * size);
}

[[noreturn]] void refuse(const char* name, const char* expected, const std::string& actual) {
  throw std::invalid_argument(std::string(name) + " must be " + expected + ", but got '" + actual + "'");
}

}  // namespace

bool is_double(const std::string& dtype) {
  if (dtype != "float32" && dtype != "float64") refuse("dtype", "'float32' or 'float64'", dtype);
  return dtype == "float64";
}

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
  const bool of_double = is_double(dtype);
  if (direction != "forward" && direction != "input_gradient" && direction != "weight_gradient") {
    refuse("direction", "'forward', 'input_gradient' or 'weight_gradient'", direction);
  }
  const TensorInfo x = {static_cast<int64_t>(x_shape.size()), x_shape.data(), nullptr, 0, 0};
  const TensorInfo w = {static_cast<int64_t>(w_shape.size()), w_shape.data(), nullptr, 0, 0};
  const ConvGeometry g = check_forward(x, w, nullptr, options);
  if (found->second == Algorithm::winograd) check_winograd(g, options);
  const int threads = torch_threads().threads;
  return of_double ? explain_pass<double>(direction, found->second, g, threads)
                   : explain_pass<float>(direction, found->second, g, threads);
}

}  // namespace nhwc_conv
