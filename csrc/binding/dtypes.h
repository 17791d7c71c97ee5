// The dtypes that are computed here: those of storage_types.def.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "../conv/passes.h"
#include "../kernels/dispatch.h"

namespace nhwc_conv {

// A type of storage, its arithmetic, and the kernels in use.
template <class Storage, class Arithmetic> struct Types {
  using S = Storage;
  using A = Arithmetic;
  static const Kernels<S, A>& kernels() { return kernels_of<S, A>(active_kernels()); }
};

// Of tensors whose elements are T.
template <class T> int32_t dtype_of();
#define NHWC_STORAGE(S, A, dtype) \
  template <> inline int32_t dtype_of<S>() { return aoti_torch_dtype_##dtype(); }
#include "../kernels/storage_types.def"

struct ComputedDtype {
  int32_t number;
  const char* name;
};

inline const std::vector<ComputedDtype>& computed_dtypes() {
  static const std::vector<ComputedDtype> dtypes = {
#define NHWC_STORAGE(S, A, dtype) {aoti_torch_dtype_##dtype(), #dtype},
#include "../kernels/storage_types.def"
  };
  return dtypes;
}

inline bool is_computed_here(int32_t dtype) {
  for (const ComputedDtype& known : computed_dtypes()) {
    if (known.number == dtype) return true;
  }
  return false;
}

// "float32 or float64", each name between quotes.
inline std::string computed_dtype_names(const std::string& quote = "") {
  std::string text;
  const size_t count = computed_dtypes().size();
  for (size_t i = 0; i < count; ++i) {
    text += (i == 0 ? "" : i + 1 == count ? " or " : ", ") + quote + computed_dtypes()[i].name + quote;
  }
  return text;
}

// Throws std::invalid_argument for other names.
inline int32_t computed_dtype_named(const std::string& name) {
  for (const ComputedDtype& known : computed_dtypes()) {
    if (known.name == name) return known.number;
  }
  throw std::invalid_argument("dtype must be " + computed_dtype_names("'") + ", but got '" + name + "'");
}

// Returns call(Types<S, A>()) for a dtype that is computed here.
template <class Call> auto with_types(int32_t dtype, const Call& call) {
#define NHWC_STORAGE(S, A, name) \
  if (dtype == aoti_torch_dtype_##name()) return call(Types<S, A>());
#include "../kernels/storage_types.def"
  throw std::logic_error("a dtype that is not computed here");
}

// The dtype of the sums and of packed weights of a dtype that is computed here.
inline int32_t arithmetic_dtype(int32_t dtype) {
  return with_types(dtype, [](auto types) { return dtype_of<typename decltype(types)::A>(); });
}

}  // namespace nhwc_conv
