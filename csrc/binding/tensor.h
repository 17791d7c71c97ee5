// Tensors through the C functions of the stable ABI: what this library needs of them and no more.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "../conv/operands.h"

namespace nhwc_conv {

using torch::stable::Tensor;

// torch turns the exception into a Python RuntimeError with exactly this text.
[[noreturn]] inline void fail(const std::string& message) { throw std::runtime_error(message); }

inline void check_call(AOTITorchError error, const char* what) {
  if (error != AOTI_TORCH_SUCCESS) fail(std::string("nhwc_conv: ") + what + " failed");
}

// Sizes and strides belong to the tensor and live as long as it does.
struct TensorInfo {
  int64_t dim;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t dtype, device_type;
};

inline TensorInfo info_of(const Tensor& tensor) {
  TensorInfo info;
  int64_t *sizes, *strides;
  check_call(aoti_torch_get_dim(tensor.get(), &info.dim), "reading a tensor's rank");
  check_call(aoti_torch_get_sizes(tensor.get(), &sizes), "reading a tensor's sizes");
  check_call(aoti_torch_get_strides(tensor.get(), &strides), "reading a tensor's strides");
  check_call(aoti_torch_get_dtype(tensor.get(), &info.dtype), "reading a tensor's dtype");
  check_call(aoti_torch_get_device_type(tensor.get(), &info.device_type), "reading a tensor's device");
  info.sizes = sizes;
  info.strides = strides;
  return info;
}

// A tensor with its last dimensions in another order; of one that lacks them, as it is.
class ReorderedInfo {
 public:
  ReorderedInfo(const ReorderedInfo&) = delete;
  const TensorInfo& operator*() const { return info_; }

 protected:
  explicit ReorderedInfo(const Tensor& tensor) : info_(info_of(tensor)) {}

  // Of the last `count`, d becomes what order[d] is.
  template <int count> void reorder(const int (&order)[count]) {
    const int64_t before = info_.dim - count;
    if (before < 0 || info_.dim > 4) return;
    for (int64_t d = 0; d < info_.dim; ++d) {
      const int64_t from = d < before ? d : before + order[d - before];
      sizes_[d] = info_.sizes[from];
      strides_[d] = info_.strides[from];
    }
    info_.sizes = sizes_;
    info_.strides = strides_;
  }

 private:
  int64_t sizes_[4], strides_[4];
  TensorInfo info_;
};

// A weight as [KH, KW, C/groups, O]: of a tensor in that order, or, with oihw, [O, C/groups, KH, KW].
struct HwioInfo : ReorderedInfo {
  HwioInfo(const Tensor& weight, bool oihw) : ReorderedInfo(weight) {
    if (oihw) reorder({2, 3, 1, 0});
  }
};

// Images as [N, H, W, C] or [H, W, C]: of a tensor in that order, or, with nchw, [N, C, H, W] or [C, H, W].
struct NhwcInfo : ReorderedInfo {
  NhwcInfo(const Tensor& images, bool nchw) : ReorderedInfo(images) {
    if (nchw) reorder({1, 2, 0});
  }
};

inline Tensor empty(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype) {
  AtenTensorHandle handle;
  const AOTITorchError error =
      aoti_torch_empty_strided(dim, sizes, strides, dtype, aoti_torch_device_type_cpu(), 0, &handle);
  if (error != AOTI_TORCH_SUCCESS) {
    std::string shape;
    for (int64_t d = 0; d < dim; ++d) shape += (d ? ", " : "") + std::to_string(sizes[d]);
    fail("nhwc_conv: not enough memory for a tensor of size [" + shape + "]");
  }
  return Tensor(handle);
}

template <class T> const T* read(const Tensor& tensor) {
  const void* data;
  check_call(torch_get_const_data_ptr(tensor.get(), &data), "reading a tensor's data pointer");
  return static_cast<const T*>(data);
}

template <class T> T* write(const Tensor& tensor) {
  void* data;
  check_call(torch_get_mutable_data_ptr(tensor.get(), &data), "reading a tensor's data pointer");
  return static_cast<T*>(data);
}

// Asks for huge pages under large tensors. glibc takes the largest anew from the system in each call, and others often,
// and where that waits to be asked, a fault for every 4 KB costs several times what writing them does (8x112x112x96 on
// Zen 4: 22 -> 7 ms). To ask costs a microsecond.
inline void ask_for_huge_pages(const Tensor& tensor, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int64_t huge = 2 << 20, large = 4 << 20;
  if (bytes < large) return;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(write<char>(tensor));
  const uintptr_t first = (begin + huge - 1) / huge * huge, end = (begin + bytes) / huge * huge;
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);  // a hint: it may fail
#endif
}

// A result of up to four dimensions that fills one run of memory.
inline Tensor empty_dense(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype) {
  Tensor result = empty(dim, sizes, strides, dtype);
  int64_t elements = 1;
  for (int64_t d = 0; d < dim; ++d) elements *= sizes[d];
  ask_for_huge_pages(result, elements * aoti_torch_dtype_element_size(dtype));
  return result;
}

inline void contiguous_strides(int64_t dim, const int64_t* sizes, int64_t* strides) {
  int64_t step = 1;
  for (int64_t d = dim - 1; d >= 0; --d) {
    strides[d] = step;
    step *= sizes[d] > 1 ? sizes[d] : 1;
  }
}

inline Tensor empty_contiguous(int64_t dim, const int64_t* sizes, int32_t dtype) {
  int64_t strides[4] = {};
  contiguous_strides(dim, sizes, strides);
  return empty_dense(dim, sizes, strides, dtype);
}

// x[N, H, W, C] or x[H, W, C] as a view of four dimensions. Strides of dimensions of size 1 say nothing and may be
// anything; they become those of a contiguous tensor, so that whoever compares strides sees what matters.
template <class Pointer> auto image_view(Pointer* data, const TensorInfo& info) {
  int64_t strides[4];
  int64_t next = 1;
  for (int64_t d = 3; d >= 0; --d) {
    const int64_t at = d - (4 - info.dim);
    const int64_t size = at >= 0 ? info.sizes[at] : 1;
    strides[d] = size == 1 ? next : info.strides[at];
    next = strides[d] * size;
  }
  return ImageView<Pointer>{data, strides[0], strides[1], strides[2], strides[3]};
}

// The bias of O values, or none; then `info` is not read.
template <class T> BiasView<T> bias_view(const std::optional<Tensor>& bias, const TensorInfo& info) {
  if (!bias) return {nullptr, 1};
  return {read<T>(*bias), info.sizes[0] == 1 ? 1 : info.strides[0]};
}

template <class T> WeightView<const T> weight_view(const T* data, const TensorInfo& info, int64_t groups) {
  const ImageView<const T> view = image_view(data, info);
  return {view.data, view.n, view.h, view.w, view.c, info.sizes[3] / groups * view.c};
}

}  // namespace nhwc_conv
