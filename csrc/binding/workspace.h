// The one allocation of a call besides its result, freed when it goes out of scope. What little a tiny layer needs is
// on the stack: to allocate would take as long as to compute.
#pragma once

#include <string>

#include "reused_memory.h"
#include "tensor.h"

namespace nhwc_conv {

template <class T> class Workspace {
 public:
  Workspace(const PlanMemory& needed, int threads, ReusedMemory* memory = nullptr) {
    const __int128 scratch = static_cast<__int128>(needed.scratch_elements) * threads;
    const __int128 wanted = (needed.packed_elements + scratch) * sizeof(T);
    if (wanted <= static_cast<int64_t>(sizeof(small_))) {
      data_ = reinterpret_cast<T*>(small_);
      return;
    }
    const int64_t most = INT64_MAX, bytes = wanted < most ? static_cast<int64_t>(wanted) : most, stride = 1;
    char* const part = memory ? memory->take(bytes) : nullptr;
    if (part != nullptr) {
      memory_ = memory;
      data_ = reinterpret_cast<T*>(part);
      return;
    }
    AtenTensorHandle handle;
    if (aoti_torch_empty_strided(1, &bytes, &stride, aoti_torch_dtype_uint8(), aoti_torch_device_type_cpu(), 0,
                                 &handle) != AOTI_TORCH_SUCCESS) {
      fail("nhwc_conv: not enough memory for a workspace of " + std::to_string(bytes) + " bytes");
    }
    tensor_ = Tensor(handle);
    ask_for_huge_pages(tensor_, bytes);
    data_ = write<T>(tensor_);
  }
  Workspace(const Workspace&) = delete;
  ~Workspace() {
    if (memory_ != nullptr) memory_->leave(reinterpret_cast<const char*>(data_));
  }
  T* data() const { return data_; }

 private:
  Tensor tensor_{nullptr};
  ReusedMemory* memory_ = nullptr;  // of which the data are a part
  T* data_ = nullptr;
  alignas(64) char small_[16 * 1024];  // aligned as torch aligns memory
};

}  // namespace nhwc_conv
