#include <torch/csrc/stable/library.h>

#include "module.h"
#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(nhwc_conv, CPU, m) {
  m.impl("im2col", TORCH_BOX(&nhwc_conv::im2col));
  m.impl("matmul", TORCH_BOX(&nhwc_conv::matmul));
  m.impl("winograd", TORCH_BOX(&nhwc_conv::winograd));
  m.impl("conv2d", TORCH_BOX(&nhwc_conv::conv2d));
  m.impl("pack_weight", TORCH_BOX(&nhwc_conv::pack_weight));
  m.impl("conv2d_packed", TORCH_BOX(&nhwc_conv::conv2d_packed));
  m.impl("conv2d_input", TORCH_BOX(&nhwc_conv::conv2d_input));
  m.impl("conv2d_weight", TORCH_BOX(&nhwc_conv::conv2d_weight));
}

PyMODINIT_FUNC PyInit__C() { return nhwc_conv::create_module(); }
