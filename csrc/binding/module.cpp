#include "module.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../conv/winograd.h"
#include "../kernels/dispatch.h"
#include "ops.h"
#include "threads.h"

namespace nhwc_conv {

namespace {

std::string usable_names() {
  std::string names;
  for (int i = 0; usable_instruction_set(i) != nullptr; ++i)
    names += std::string(i ? ", " : "") + usable_instruction_set(i);
  return names;
}

PyObject* instruction_set(PyObject*, PyObject*) { return PyUnicode_FromString(active_kernels().name); }

PyObject* instruction_sets(PyObject*, PyObject*) {
  int count = 0;
  while (usable_instruction_set(count) != nullptr) ++count;
  PyObject* names = PyTuple_New(count);
  for (int i = 0; names != nullptr && i < count; ++i) {
    PyTuple_SetItem(names, i, PyUnicode_FromString(usable_instruction_set(i)));
  }
  return names;
}

PyObject* set_instruction_set(PyObject*, PyObject* args) {
  const char* name;
  if (!PyArg_ParseTuple(args, "s", &name)) return nullptr;
  if (!select_kernels(name)) {
    return PyErr_Format(PyExc_ValueError, "instruction set '%s' is not usable here; usable: %s", name,
                        usable_names().c_str());
  }
  Py_RETURN_NONE;
}

PyObject* set_winograd(PyObject*, PyObject* args) {
  int enabled;
  if (!PyArg_ParseTuple(args, "p", &enabled)) return nullptr;
  set_winograd_enabled(enabled);
  Py_RETURN_NONE;
}

PyObject* packed_size(PyObject*, PyObject* args) {
  const char* dtype;
  long long size[4], groups;
  int winograd;
  if (!PyArg_ParseTuple(args, "s(LLLL)Lp", &dtype, &size[0], &size[1], &size[2], &size[3], &groups, &winograd)) {
    return nullptr;
  }
  const int64_t sizes[4] = {size[0], size[1], size[2], size[3]};
  return PyLong_FromLongLong(packed_elements(std::strcmp(dtype, "float64") == 0, sizes, groups, winograd != 0));
}

PyObject* build_id(PyObject*, PyObject*) { return PyUnicode_FromString(NHWC_BUILD_ID); }

// GFLOP/s of multiply-adds on registers alone: the best of many short runs within `seconds`.
PyObject* fma_peak(PyObject*, PyObject* args) {
  const char* dtype;
  double seconds;
  if (!PyArg_ParseTuple(args, "sd", &dtype, &seconds)) return nullptr;
  const bool is_double = std::strcmp(dtype, "float64") == 0;
  if (!is_double && std::strcmp(dtype, "float32") != 0) {
    return PyErr_Format(PyExc_ValueError, "dtype must be 'float32' or 'float64', but got '%s'", dtype);
  }
  using Clock = std::chrono::steady_clock;
  const auto measure = is_double ? active_kernels().f64.peak : active_kernels().f32.peak;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto start = Clock::now();
    const double operations = measure(20000);
    const double rate = operations / std::chrono::duration<double>(Clock::now() - start).count() * 1e-9;
    if (rate > best) best = rate;
  } while (Clock::now() < end);
  return PyFloat_FromDouble(best);
}

PyMethodDef methods[] = {
    {"instruction_set", instruction_set, METH_NOARGS, "instruction_set() -> str: the one in use."},
    {"instruction_sets", instruction_sets, METH_NOARGS, "instruction_sets() -> tuple of the usable ones, best first."},
    {"set_instruction_set", set_instruction_set, METH_VARARGS,
     "set_instruction_set(name): for tests; between calls only."},
    {"set_winograd", set_winograd, METH_VARARGS, "set_winograd(enabled): whether automatic choices may take Winograd."},
    {"packed_size", packed_size, METH_VARARGS,
     "packed_size(dtype, w_shape, groups, winograd) -> elements that pack_weight returns, on any machine."},
    {"build_id", build_id, METH_NOARGS, "build_id() -> str: digest of the sources this module was built from."},
    {"explain", explain, METH_VARARGS,
     "explain(pass_, algorithm, dtype, x_shape, w_shape, stride, padding, dilation, groups, auto_pad) -> dict"},
    {"fma_peak", fma_peak, METH_VARARGS, "fma_peak(dtype, seconds) -> GFLOP/s of one thread's multiply-add units."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "nhwc_conv._C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyObject* create_module() {
  if (!initialize_kernels()) {
    return PyErr_Format(PyExc_RuntimeError, "NHWC_CONV_ISA is '%s', which is not usable here; usable: %s",
                        std::getenv("NHWC_CONV_ISA"), usable_names().c_str());
  }
  watch_forks();
  return PyModule_Create(&definition);
}

}  // namespace nhwc_conv
