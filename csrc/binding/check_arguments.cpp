// The texts follow F.conv2d's where it has one; nhwc_conv/_geometry/texts.py has the same ones, for the fakes.
#include "check_arguments.h"

#include <sstream>

namespace nhwc_conv {

namespace {

// More than any memory holds, and few enough that what plans compute of them, a few hundred times as much, stays within
// 64 bits.
constexpr Wide kMostElements = (Wide(1) << 47) - 1;

}  // namespace

std::string text(Wide value) {
  if (value < 0) return "-" + text(-value);
  return (value < 10 ? "" : text(value / 10)) + static_cast<char>('0' + static_cast<int>(value % 10));
}

namespace {

template <class Value> std::string list(const Value* values, int64_t count) {
  std::string result = "[";
  for (int64_t i = 0; i < count; ++i) result += (i ? ", " : "") + text(Wide(values[i]));
  return result + "]";
}

}  // namespace

std::string text(const Wide* values, int64_t count) { return list(values, count); }
std::string text(const int64_t* values, int64_t count) { return list(values, count); }
std::string text(const std::vector<int64_t>& values) { return text(values.data(), values.size()); }
std::string text(const TensorInfo& tensor) { return text(tensor.sizes, tensor.dim); }

namespace {

// torch's names in the order of the numbers that dtypes have in checkpoints, which therefore stay; "float" and "double"
// as F.conv2d has them.
constexpr char kDtypes[] =
    "uint8 int8 int16 int32 int64 float16 float double complex32 complex64 complex128 bool qint8 quint8 qint32 "
    "bfloat16 quint4x2 quint2x4 bits1x8 bits2x4 bits4x2 bits8 bits16 float8_e5m2 float8_e4m3fn float8_e5m2fnuz "
    "float8_e4m3fnuz uint16 uint32 uint64 uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 "
    "int7 float8_e8m0fnu float4_e2m1fn_x2 bcomplex32";
constexpr int32_t kComplex128 = 10, kBFloat16 = 15;

void check_convolved(Named tensor) {
  const int32_t dtype = tensor.tensor->dtype;
  if (dtype <= kComplex128 || dtype == kBFloat16) return;
  fail(std::string("expected ") + tensor.name + " to be of a type that PyTorch convolves, but got " +
       dtype_name(dtype) + ": convert it first");
}

}  // namespace

std::string dtype_name(int32_t dtype) {
  std::istringstream names(kDtypes);
  std::string name;
  for (int32_t i = 0; i <= dtype && names; ++i) names >> name;
  return names ? name : "dtype " + std::to_string(dtype);
}

void check_same_kind(Named a, Named b) {
  if (a.tensor->device_type != b.tensor->device_type) {
    fail(std::string("Expected all tensors to be on the same device, but got ") + b.name + " on another device than " +
         a.name);
  }
  check_convolved(a);
  check_convolved(b);
  if (a.tensor->dtype != b.tensor->dtype) {
    std::string role = a.role;
    role[0] = role[0] - 'a' + 'A';
    fail(role + " type (" + a.name + ": " + dtype_name(a.tensor->dtype) + ") and " + b.role + " type (" + b.name +
         ": " + dtype_name(b.tensor->dtype) + ") should be the same");
  }
}

void check_rank(const char* name, const TensorInfo& image) {
  if (image.dim != 3 && image.dim != 4) {
    fail(std::string("Expected 3D (unbatched) or 4D (batched) input to conv2d, but got ") + name +
         " of size: " + text(image));
  }
}

void check_weight(const TensorInfo& w, int64_t groups) {
  if (w.dim != 4) fail("Expected 4D weight [KH, KW, C per group, O], but got w of size: " + text(w));
  for (int64_t d = 0; d < 4; ++d) {
    const int64_t least = d == 3 ? groups : 1;
    if (w.sizes[d] < least) {
      fail("Given groups=" + text(groups) + ", expected weight to be at least " + text(least) + " at dimension " +
           text(d) + ", but got w of size " + text(w) + " instead");
    }
  }
  if (w.sizes[3] % groups != 0) {
    fail("Given groups=" + text(groups) + ", expected weight to be divisible by " + text(groups) +
         " at dimension 3, but got w of size " + text(w) + " instead");
  }
}

void check_image_size(const TensorInfo& x) {
  if (x.sizes[x.dim - 3] < 1 || x.sizes[x.dim - 2] < 1) {
    fail("Only zero batch or zero channel inputs are supported, but got input shape: x" + text(x));
  }
}

void check_count(const char* what, const Wide sizes[4], bool batched) {
  Wide count = 1;
  for (int d = 0; d < 4; ++d) {
    if (sizes[d] > 1) count *= sizes[d];
    if (count > kMostElements) {
      fail(std::string("expected the ") + what + " to have at most " + text(kMostElements) +
           " elements, but got size " + (batched ? text(sizes, 4) : text(sizes + 1, 3)));
    }
  }
}

namespace {

// The text is made only for the error: made ahead of every check, texts cost as much as the rest of a small call.
template <class Argument> void check_positive(const char* name, const Argument& argument, int64_t value) {
  if (value > 0) return;
  fail(std::string("non-positive ") + name + " is not supported, " + name + " should be greater than zero, but got " +
       name + "=" + text(argument));
}

void check_length(const char* name, const char* lengths, const std::vector<int64_t>& values, bool right) {
  if (right) return;
  fail(std::string("expected ") + name + " to be a single integer value or a list of " + lengths +
       " values to match the convolution dimensions, but got " + name + "=" + text(values));
}

void check_at_most(const char* name, const std::vector<int64_t>& values) {
  for (const int64_t value : values) {
    if (value > kMostElements) {
      fail(std::string("expected ") + name + " to be at most " + text(kMostElements) + ", but got " + name + "=" +
           text(values));
    }
  }
}

}  // namespace

void check_groups(int64_t groups) { check_positive("groups", groups, groups); }

void check_options(const ConvOptions& options) {
  check_groups(options.groups);
  const std::vector<int64_t>&stride = options.stride, &dilation = options.dilation, &padding = options.padding;
  check_length("stride", "2", stride, stride.size() == 1 || stride.size() == 2);
  for (const int64_t s : stride) check_positive("stride", stride, s);
  check_length("dilation", "2", dilation, dilation.size() == 1 || dilation.size() == 2);
  for (const int64_t d : dilation) check_positive("dilation", dilation, d);
  check_length("padding", "2 or 4", padding, padding.size() == 1 || padding.size() == 2 || padding.size() == 4);
  for (const int64_t p : padding) {
    if (p < 0) fail("negative padding is not supported, but got padding=" + text(padding));
  }
  check_at_most("padding", padding);
  check_at_most("dilation", dilation);
  if (options.auto_pad < 0 || options.auto_pad > 2) {
    fail("expected auto_pad to be 0 (explicit), 1 (same) or 2 (same_lower), but got auto_pad=" +
         text(options.auto_pad));
  }
  for (const int64_t p : padding) {
    if (options.auto_pad != 0 && p != 0) {
      fail("expected padding to be 0 where auto_pad=" + text(options.auto_pad) + ", but got padding=" + text(padding));
    }
  }
}

void check_size(const char* name, const std::vector<int64_t>& size) {
  if (size.size() != 2) {
    fail(std::string("expected ") + name + " to be a list of 2 values, but got " + name + "=" + text(size));
  }
  for (const int64_t value : size) check_positive(name, size, value);
}

void check_algorithm(int64_t algorithm) {
  if (algorithm < 0 || algorithm > 2) {
    fail("expected algorithm to be 0 (auto), 1 (direct) or 2 (winograd), but got algorithm=" + text(algorithm));
  }
}

}  // namespace nhwc_conv
