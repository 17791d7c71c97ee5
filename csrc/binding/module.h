// The Python module nhwc_conv._C beside the ops: instruction sets, the build's identity, plans, and the machine's peak.
#pragma once

#include <Python.h>

namespace nhwc_conv {

PyObject* create_module();

// _C.explain(...): what an op would do, without doing it. See explain.cpp.
PyObject* explain(PyObject* module, PyObject* args);

}  // namespace nhwc_conv
