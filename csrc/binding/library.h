// What happens when the library is loaded, by import or by dlopen: kernels are chosen and the ops registered.
#pragma once

namespace nhwc_conv {

// Throws what went wrong then.
void check_loaded();

// The Python package has come: its rules stand between autograd and the CPU kernels from now on, in place of ours.
void attach_python();

bool is_python_attached();

}  // namespace nhwc_conv
