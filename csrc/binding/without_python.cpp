#include "without_python.h"

#include "aten.h"
#include "check_arguments.h"

namespace nhwc_conv {

namespace {

// The stable ABI has no question for it. A view that autograd records is no leaf, and any other is.
bool requires_grad(const Tensor& tensor) {
  return !call_op<bool>("aten::is_leaf", call_op<Tensor>("aten::alias", tensor));
}

}  // namespace

void refuse_gradient(const char* op, const Tensor& tensor) {
  if (!requires_grad(tensor)) return;
  fail(std::string(op) + " was called on a tensor of size " + text(info_of(tensor)) +
       " that requires grad, but gradients are computed by the Python package nhwc_conv, which this process has not "
       "imported: call it under torch::NoGradGuard or c10::InferenceMode");
}

}  // namespace nhwc_conv
