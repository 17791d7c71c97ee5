// The memory of a program: results that are not returned, and workspaces, stand in one block, each as far in front as
// there is room. What they leave is used again while the caches still hold it; memory taken anew for each would have to
// be fetched before it is written.
#pragma once

#include <vector>

#include "tensor.h"

namespace nhwc_conv {

class ReusedMemory {
 public:
  ReusedMemory() = default;
  ReusedMemory(const ReusedMemory&) = delete;

  // As empty_dense. The first result says how large the block is; what finds no room has memory of its own.
  Tensor empty(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype) {
    const int64_t element = aoti_torch_dtype_element_size(dtype);
    int64_t bytes = element;
    for (int64_t d = 0; d < dim; ++d) bytes *= sizes[d];
    if (bytes == 0 || bytes > kMostBytes / 2) return empty_dense(dim, sizes, strides, dtype);
    if (begin_ == nullptr) {
      const int64_t elements = clamp(kTimesFirst * bytes, kLeastBytes, kMostBytes) / element, step = 1;
      block_ = empty_dense(1, &elements, &step, dtype);
      begin_ = write<char>(block_);
      size_ = elements * element;
      dtype_ = dtype;
    }
    char* const at = dtype == dtype_ ? take(bytes) : nullptr;
    if (at == nullptr) return empty_dense(dim, sizes, strides, dtype);
    AtenTensorHandle handle;
    const int64_t offset = (at - begin_) / element;
    check_call(aoti_torch__reinterpret_tensor(block_.get(), dim, sizes, strides, offset, &handle), "making a tensor");
    return Tensor(handle);
  }

  // Nobody reads this tensor any more.
  void leave(const Tensor& tensor) { leave(read<char>(tensor)); }

  // So many bytes, or null.
  char* take(int64_t bytes) {
    if (bytes > size_) return nullptr;
    const int64_t size = ceil_div(bytes, kPageBytes) * kPageBytes + kGap;
    int64_t at = 0;
    auto next = taken_.begin();
    for (; next != taken_.end() && next->begin - at < size; ++next) at = next->end;
    if (at + size > size_) return nullptr;
    taken_.insert(next, Range{at, at + size});
    return begin_ + at;
  }

  void leave(const char* data) {
    for (auto part = taken_.begin(); part != taken_.end(); ++part) {
      if (begin_ + part->begin != data) continue;
      taken_.erase(part);
      return;
    }
  }

 private:
  // Of the block, and in results as large as the first. Parts do not begin at the same place of a page.
  static constexpr int64_t kTimesFirst = 8, kLeastBytes = kMegabyte, kMostBytes = 16 * kMegabyte, kGap = 4 * kLineBytes;

  Tensor block_{nullptr};
  char* begin_ = nullptr;
  int64_t size_ = 0;
  int32_t dtype_ = 0;
  std::vector<Range> taken_;
};

}  // namespace nhwc_conv
