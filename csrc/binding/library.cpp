#include "library.h"

#include <torch/csrc/stable/library.h>

#include <cstdlib>
#include <cstring>
#include <optional>

#include "../conv/passes.h"
#include "../kernels/dispatch.h"
#include "aten_convolution.h"
#include "ops.h"
#include "threads.h"
#include "without_python.h"

// torch has these from 2.12 on; before, they are null, and schemas that are defined in C++ cannot have tags.
extern "C" {
__attribute__((weak)) int32_t torch_tag_pt2_compliant_tag();
__attribute__((weak)) AOTITorchError torch_library_def_with_tags(TorchLibraryHandle, const char*, const int32_t*,
                                                                 int32_t);
}

namespace nhwc_conv {

namespace {

using torch::stable::detail::StableLibrary;

// Not STABLE_TORCH_LIBRARY, which offers no tags to a library that must run on torch 2.10, and ends the process where
// the schemas are there already.
class Schemas {
 public:
  Schemas() {
    if (aoti_torch_library_init_def("nhwc_conv", __FILE__, __LINE__, &handle_) != AOTI_TORCH_SUCCESS) {
      fail(
          "the ops of nhwc_conv are defined already: this process has loaded the library from elsewhere too, or has "
          "imported nhwc_conv without it");
    }
#define NHWC_OP(op, schema) define(#op schema);
#define NHWC_SHORT_OP NHWC_OP
#include "ops_table.def"
#undef NHWC_OP
  }
  Schemas(const Schemas&) = delete;
  Schemas& operator=(const Schemas&) = delete;
  ~Schemas() { aoti_torch_delete_library_object(handle_); }

 private:
  void define(const char* schema) {
#if !defined(_WIN32)  // whose linker has no references that may stay null
    if (torch_library_def_with_tags != nullptr) {
      const int32_t tag = torch_tag_pt2_compliant_tag();
      check_call(torch_library_def_with_tags(handle_, schema, &tag, 1), schema);
      return;
    }
#endif
    check_call(aoti_torch_library_def(handle_, schema), schema);
  }

  TorchLibraryHandle handle_;
};

#define NHWC_OP(op, schema) constexpr char op##_name[] = "nhwc_conv::" #op;
#include "ops_table.def"
#undef NHWC_OP

// Until the library is unloaded.
std::optional<Schemas> schemas;
std::optional<StableLibrary> kernels;
// Taken out again by attach_python(), so that the Python package's rules replace them without a warning.
std::optional<StableLibrary> without_gradients;
const char* failure = nullptr;

void register_ops() {
  schemas.emplace();
  auto& cpu = kernels.emplace(StableLibrary::Kind::IMPL, "nhwc_conv", "CPU", __FILE__, __LINE__);
#define NHWC_OP(op, schema) cpu.impl(#op, TORCH_BOX(&nhwc_conv::op));
#include "ops_table.def"
#undef NHWC_OP
  auto& autograd = without_gradients.emplace(StableLibrary::Kind::IMPL, "nhwc_conv", "AutogradCPU", __FILE__, __LINE__);
#define NHWC_OP(op, schema) autograd.impl(#op, TORCH_BOX((&WithoutGradient<&nhwc_conv::op, op##_name>::call)));
#include "ops_table.def"
#undef NHWC_OP
}

// Nobody can catch what is thrown here: a bad NHWC_CONV_ISA is reported by whoever asks for kernels, and what else goes
// wrong by check_loaded().
void load() {
  initialize_kernels();
  const char* winograd = std::getenv("NHWC_CONV_WINOGRAD");
  set_winograd_enabled(winograd == nullptr || std::strcmp(winograd, "0") != 0);
  watch_forks();
  try {
    register_ops();
    register_aten_convolution();
  } catch (const std::exception& error) {
    failure = strdup(error.what());
  }
}

[[maybe_unused]] const bool loaded = (load(), true);

}  // namespace

void check_loaded() {
  if (failure != nullptr) fail(failure);
}

void attach_python() { without_gradients.reset(); }

bool is_python_attached() { return !without_gradients; }

}  // namespace nhwc_conv
