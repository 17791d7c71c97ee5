// _C.explain: the plan that an op would run, as a dict, for contiguous tensors of the given shapes.
#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../conv/depthwise_gradient.h"
#include "../conv/input_gradient.h"
#include "../conv/weight_gradient.h"
#include "../conv/winograd_gradient.h"
#include "../kernels/dispatch.h"
#include "checks.h"
#include "module.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

std::vector<int64_t> sizes_of(PyObject* sequence) {
  std::vector<int64_t> sizes;
  const Py_ssize_t count = PySequence_Size(sequence);
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_GetItem(sequence, i);
    sizes.push_back(item == nullptr ? 0 : PyLong_AsLongLong(item));
    Py_XDECREF(item);
  }
  return sizes;
}

template <class T>
ImageView<const T> contiguous_image(int64_t H, int64_t W, int64_t C) {
  return {nullptr, H * W * C, W * C, C, 1};
}

using Long = long long;

template <class T>
PyObject* describe(const ConvGeometry& g, const ConvPlan& plan, Long shared, Long per_thread, Long phases) {
  const Long KH = g.h.kernel, KW = g.w.kernel, C = g.C_per_group();
  const char* isa = active_kernels().name;
  if (plan.method == Method::depthwise) {
    return Py_BuildValue("{s:s, s:s, s:s, s:(LLL), s:[iL], s:O, s:L, s:L, s:L}", "algorithm", "depthwise",
                         "instruction_set", isa, "source", plan.lanewise.expand ? "panel" : "view", "reduction", KH, KW,
                         C, "tile", kMaxLanewiseRows,
                         static_cast<Long>(plan.lanewise.item_channels * plan.lanewise.pixels_abreast),
                         "packed_weights", plan.lanewise.pack_weights ? Py_True : Py_False, "phases", phases,
                         "workspace_shared", shared, "workspace_per_thread", per_thread);
  }
  if (plan.method == Method::winograd) {
    const WinogradPlan& winograd = plan.winograd;
    const int rows =
        family_of(kernels_of<T>(active_kernels()), winograd.columns.lanes, winograd.columns.vectors).max_rows;
    return Py_BuildValue("{s:s, s:s, s:s, s:(LLL), s:[iL], s:O, s:(LL), s:L, s:L, s:L, s:L, s:L}", "algorithm",
                         "winograd", "instruction_set", isa, "source", "view", "reduction", 1LL, 1LL, C, "tile", rows,
                         static_cast<Long>(winograd.columns.vectors) * winograd.columns.lanes, "packed_weights",
                         winograd.pack_weights ? Py_True : Py_False, "reduction_blocks", 1LL,
                         static_cast<Long>(winograd.depth_blocks), "winograd_tile", static_cast<Long>(winograd.tile),
                         "block_tiles", static_cast<Long>(winograd.block_tiles), "phases", phases, "workspace_shared",
                         shared, "workspace_per_thread", per_thread);
  }
  const DensePlan& dense = plan.dense;
  const bool view = dense.source != Source::panel, im2col = dense.algorithm == Algorithm::im2col;
  const ColumnTiles& columns = dense.source == Source::planes ? dense.across : dense.columns;
  const char* const sources[] = {"view", "window", "panel", "planes"};
  const char* source = sources[static_cast<int>(dense.source)];
  return Py_BuildValue("{s:s, s:s, s:s, s:(LLL), s:[iL], s:O, s:(LL), s:L, s:L, s:L}", "algorithm",
                       im2col ? "im2col" : "matmul", "instruction_set", isa, "source", source, "reduction",
                       view ? KH : 1, view && !im2col ? KW : 1, view ? (im2col ? KW * C : C) : KH * KW * C, "tile",
                       dense.rows, static_cast<Long>(columns.vectors) * columns.lanes, "packed_weights",
                       dense.pack_weights ? Py_True : Py_False, "reduction_blocks", static_cast<Long>(dense.row_blocks),
                       static_cast<Long>(dense.inner_blocks), "phases", phases, "workspace_shared", shared,
                       "workspace_per_thread", per_thread);
}

PyObject* describe_weight_gradient(const char* algorithm, const char* source, Long rows, Long pixels, Long tile_rows,
                                   Long tile_columns, Long partials, Long shared, Long per_thread) {
  return Py_BuildValue("{s:s, s:s, s:s, s:(LLL), s:[LL], s:O, s:L, s:L, s:L}", "algorithm", algorithm,
                       "instruction_set", active_kernels().name, "source", source, "reduction", rows, 1LL, pixels,
                       "tile", tile_rows, tile_columns, "packed_weights", Py_False, "partials", partials,
                       "workspace_shared", shared, "workspace_per_thread", per_thread);
}

template <class T>
PyObject* explain_pass(const std::string& pass, Algorithm algorithm, const ConvGeometry& g, int threads) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const Long size = sizeof(T);
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
    if (gradient.plan() == nullptr) return Py_BuildValue("{s:s}", "algorithm", "zero");
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

}  // namespace

PyObject* explain(PyObject*, PyObject* args) {
  const char *pass, *algorithm_name, *dtype;
  PyObject *x_shape, *w_shape, *stride, *padding, *dilation;
  long long groups, auto_pad;
  if (!PyArg_ParseTuple(args, "sssOOOOOLL", &pass, &algorithm_name, &dtype, &x_shape, &w_shape, &stride, &padding,
                        &dilation, &groups, &auto_pad)) {
    return nullptr;
  }
  const std::vector<int64_t> x = sizes_of(x_shape), w = sizes_of(w_shape);
  const std::vector<int64_t> strides = sizes_of(stride), pads = sizes_of(padding), dilations = sizes_of(dilation);
  if (PyErr_Occurred()) return nullptr;
  const std::string name = algorithm_name, type = dtype, which = pass;
  const std::pair<const char*, Algorithm> algorithms[] = {{"auto", Algorithm::automatic},
                                                          {"im2col", Algorithm::im2col},
                                                          {"matmul", Algorithm::matmul},
                                                          {"winograd", Algorithm::winograd}};
  const auto* found = std::find_if(std::begin(algorithms), std::end(algorithms),
                                   [&](const auto& known) { return name == known.first; });
  if (found == std::end(algorithms)) {
    return PyErr_Format(PyExc_ValueError, "algorithm must be 'auto', 'im2col', 'matmul' or 'winograd', but got '%s'",
                        algorithm_name);
  }
  if (type != "float32" && type != "float64") {
    return PyErr_Format(PyExc_ValueError, "dtype must be 'float32' or 'float64', but got '%s'", dtype);
  }
  if (which != "forward" && which != "input_gradient" && which != "weight_gradient") {
    return PyErr_Format(PyExc_ValueError,
                        "direction must be 'forward', 'input_gradient' or 'weight_gradient', but got '%s'", pass);
  }
  try {
    const TensorInfo x_info = {static_cast<int64_t>(x.size()), x.data(), nullptr, 0, 0};
    const TensorInfo w_info = {static_cast<int64_t>(w.size()), w.data(), nullptr, 0, 0};
    const ConvOptions options = {strides, pads, dilations, groups, auto_pad};
    const ConvGeometry g = check_forward(x_info, w_info, nullptr, options);
    if (found->second == Algorithm::winograd) check_winograd(g, options);
    const int threads = torch_threads().threads;
    return type == "float32" ? explain_pass<float>(which, found->second, g, threads)
                             : explain_pass<double>(which, found->second, g, threads);
  } catch (const std::exception& error) {
    return PyErr_Format(PyExc_RuntimeError, "%s", error.what());
  }
}

}  // namespace nhwc_conv
