// _C.explain: the plan that an op would run, as a dict, for contiguous tensors of the given shapes.
#include <stdexcept>
#include <string>
#include <vector>

#include "../conv/input_gradient.h"
#include "../conv/plan.h"
#include "../kernels/dispatch.h"
#include "checks.h"
#include "module.h"

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

const char* name_of(Algorithm algorithm) { return algorithm == Algorithm::im2col ? "im2col" : "matmul"; }

template <class T>
ImageView<const T> contiguous_image(int64_t H, int64_t W, int64_t C) {
  return {nullptr, H * W * C, W * C, C, 1};
}

PyObject* describe_dense(const ConvGeometry& g, const DensePlan& plan, int64_t shared, int64_t per_thread,
                         int64_t size, int64_t phases) {
  const long long KH = g.h.kernel, KW = g.w.kernel, C = g.C_per_group();
  const bool view = plan.source == Source::view, im2col = plan.algorithm == Algorithm::im2col;
  return Py_BuildValue(
      "{s:s, s:s, s:s, s:(LLL), s:[iL], s:O, s:(LL), s:L, s:L, s:L}", "algorithm", name_of(plan.algorithm),
      "instruction_set", active_kernels().name, "source", view ? "view" : "panel", "reduction",
      view ? KH : 1LL, view && !im2col ? KW : 1LL, view ? (im2col ? KW * C : C) : KH * KW * C, "tile", plan.rows,
      static_cast<long long>(plan.columns.vectors) * plan.columns.lanes, "packed_weights",
      plan.pack_weights ? Py_True : Py_False, "reduction_blocks", static_cast<long long>(plan.row_blocks),
      static_cast<long long>(plan.inner_blocks), "phases", static_cast<long long>(phases), "workspace_shared",
      static_cast<long long>(shared * size), "workspace_per_thread", static_cast<long long>(per_thread * size));
}

template <class T>
PyObject* explain_pass(const std::string& pass, Algorithm algorithm, const ConvGeometry& g, int threads) {
  const Kernels<T>& kernels = kernels_of<T>(active_kernels());
  const int64_t size = sizeof(T), Cg = g.C_per_group();
  const ImageView<const T> x = contiguous_image<T>(g.h.input, g.w.input, g.C);
  const WeightView<const T> w = {nullptr, g.w.kernel * Cg * g.O, Cg * g.O, g.O, 1, g.O_per_group()};
  if (pass == "forward") {
    const DensePlan plan = make_dense_plan(kernels, g, dense_layout(g, x, w), algorithm, threads);
    return describe_dense(g, plan, plan.packed_elements, plan.panel_elements, size, 1);
  }
  if (pass == "input_gradient") {
    const ImageView<T> dx = {nullptr, x.n, x.h, x.w, 1};
    const InputGradient<T> gradient(kernels, g, Algorithm::automatic, threads,
                                    contiguous_image<T>(g.h.output, g.w.output, g.O), w, dx);
    if (gradient.plan() == nullptr) return Py_BuildValue("{s:s}", "algorithm", "zero");
    return describe_dense(gradient.geometry(), *gradient.plan(), gradient.packed_elements(), gradient.panel_elements(),
                          size, gradient.phases());
  }
  const WeightGradientPlan plan = make_weight_gradient_plan(kernels, g, x.w);
  return Py_BuildValue("{s:s, s:s, s:s, s:(LLL), s:[iL], s:O, s:L, s:L, s:L}", "algorithm", "direct",
                       "instruction_set", active_kernels().name, "source", "view", "reduction",
                       static_cast<long long>(plan.block_rows), 1LL, static_cast<long long>(g.w.output), "tile", plan.rows,
                       static_cast<long long>(plan.columns.vectors) * plan.columns.lanes, "packed_weights", Py_False,
                       "partials", static_cast<long long>(plan.partials), "workspace_shared",
                       static_cast<long long>(plan.partial_elements * size), "workspace_per_thread", 0LL);
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
  std::vector<int64_t> x = sizes_of(x_shape), w = sizes_of(w_shape);
  const std::vector<int64_t> strides = sizes_of(stride), pads = sizes_of(padding), dilations = sizes_of(dilation);
  if (PyErr_Occurred()) return nullptr;
  const std::string name = algorithm_name, type = dtype, which = pass;
  if (name != "auto" && name != "im2col" && name != "matmul") {
    return PyErr_Format(PyExc_ValueError, "algorithm must be 'auto', 'im2col' or 'matmul', but got '%s'", algorithm_name);
  }
  if (type != "float32" && type != "float64") {
    return PyErr_Format(PyExc_ValueError, "dtype must be 'float32' or 'float64', but got '%s'", dtype);
  }
  if (which != "forward" && which != "input_gradient" && which != "weight_gradient") {
    return PyErr_Format(PyExc_ValueError,
                        "pass_ must be 'forward', 'input_gradient' or 'weight_gradient', but got '%s'", pass);
  }
  const Algorithm algorithm = name == "im2col"   ? Algorithm::im2col
                              : name == "matmul" ? Algorithm::matmul
                                                 : Algorithm::automatic;
  try {
    if (x.size() == 3) x.insert(x.begin(), 1);
    if (x.size() != 4 || w.size() != 4) fail("x_shape must have 3 or 4 sizes and w_shape 4");
    const ConvGeometry g = check_geometry(x.data(), w.data(), {strides, pads, dilations, groups, auto_pad});
    const int threads = torch_threads().threads;
    return type == "float32" ? explain_pass<float>(which, algorithm, g, threads)
                             : explain_pass<double>(which, algorithm, g, threads);
  } catch (const std::exception& error) {
    return PyErr_Format(PyExc_RuntimeError, "%s", error.what());
  }
}

}  // namespace nhwc_conv
