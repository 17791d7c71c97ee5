// The texts follow F.conv2d's where it has one, and nhwc_conv/_geometry.py raises the same ones for the fakes.
#include "checks.h"

#include <limits>

namespace nhwc_conv {

namespace {

// Sums and products of a few arguments of 64 bits cannot overflow in it.
using Wide = __int128;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 4;

std::string text(const int64_t* values, int64_t count) {
  std::string result = "[";
  for (int64_t i = 0; i < count; ++i) result += (i ? ", " : "") + std::to_string(values[i]);
  return result + "]";
}
std::string text(const std::vector<int64_t>& values) { return text(values.data(), values.size()); }
std::string text(const TensorInfo& tensor) { return text(tensor.sizes, tensor.dim); }

std::string dtype_name(int32_t dtype) {
  struct Row {
    int32_t (*dtype)();
    const char* name;
  };
  static const Row rows[] = {
      {aoti_torch_dtype_float32, "float"},
      {aoti_torch_dtype_float64, "double"},
      {aoti_torch_dtype_bfloat16, "c10::BFloat16"},
      {aoti_torch_dtype_float16, "c10::Half"},
      {aoti_torch_dtype_uint8, "unsigned char"},
      {aoti_torch_dtype_int8, "signed char"},
      {aoti_torch_dtype_int16, "short"},
      {aoti_torch_dtype_int32, "int"},
      {aoti_torch_dtype_int64, "long"},
      {aoti_torch_dtype_bool, "bool"},
      {aoti_torch_dtype_complex64, "c10::complex<float>"},
      {aoti_torch_dtype_complex128, "c10::complex<double>"},
  };
  for (const Row& row : rows) {
    if (row.dtype() == dtype) return row.name;
  }
  return "dtype " + std::to_string(dtype);
}

struct Named {
  const char* name;
  const TensorInfo* tensor;
};

void check_same_kind(Named a, Named b) {
  if (a.tensor->device_type != b.tensor->device_type) {
    fail(std::string("Expected all tensors to be on the same device, but ") + a.name + " is on cpu and " + b.name +
         " is on another");
  }
  if (a.tensor->dtype != b.tensor->dtype) {
    fail(std::string("Input type (") + dtype_name(a.tensor->dtype) + ") of " + a.name + " and type (" +
         dtype_name(b.tensor->dtype) + ") of " + b.name + " should be the same");
  }
}

void check_image_rank(Named image) {
  if (image.tensor->dim != 3 && image.tensor->dim != 4) {
    fail(std::string("Expected 3D (unbatched) or 4D (batched) ") + image.name +
         " to conv2d, but got " + image.name + " of size: " + text(*image.tensor));
  }
}

void check_weight_rank(const TensorInfo& w) {
  if (w.dim != 4) fail("Expected 4D weight w [KH, KW, C/groups, O], but got w of size: " + text(w));
}

// [N, H, W, C] of a tensor of three or four dimensions.
void batched_sizes(const TensorInfo& image, int64_t sizes[4]) {
  sizes[0] = 1;
  for (int64_t d = 0; d < image.dim; ++d) sizes[d + 4 - image.dim] = image.sizes[d];
}

void check_pair(const char* name, const std::vector<int64_t>& values) {
  if (values.size() != 2) {
    fail(std::string("expected ") + name +
         " to be a single integer value or a list of 2 values to match the convolution dimensions, but got " + name +
         "=" + text(values));
  }
}

void check_options(const ConvOptions& options) {
  check_pair("stride", options.stride);
  check_pair("dilation", options.dilation);
  if (options.padding.size() != 2 && options.padding.size() != 4) {
    fail(
        "expected padding to be a single integer value or a list of 2 values (h, w) or of 4 (top, bottom, left, "
        "right), but got padding=" +
        text(options.padding));
  }
  for (const int64_t s : options.stride) {
    if (s <= 0) fail("non-positive stride is not supported, but got stride=" + text(options.stride));
  }
  for (const int64_t d : options.dilation) {
    if (d <= 0) fail("dilation should be greater than zero, but got dilation=" + text(options.dilation));
  }
  for (const int64_t p : options.padding) {
    if (p < 0) fail("negative padding is not supported, but got padding=" + text(options.padding));
    if (p > kMost) fail("padding is too large: padding=" + text(options.padding));
  }
  if (options.groups <= 0) {
    fail("non-positive groups is not supported, but got groups=" + std::to_string(options.groups));
  }
  if (options.auto_pad < 0 || options.auto_pad > 2) {
    fail("auto_pad must be 0 (explicit), 1 (same) or 2 (same_lower), but got auto_pad=" +
         std::to_string(options.auto_pad));
  }
  for (const int64_t p : options.padding) {
    if (options.auto_pad != 0 && p != 0) {
      fail("padding must be 0 when auto_pad=" + std::to_string(options.auto_pad) +
           ", but got padding=" + text(options.padding));
    }
  }
}

void check_algorithm(int64_t algorithm) {
  if (algorithm < 0 || algorithm > 1) {
    fail("algorithm must be 0 (auto) or 1 (direct), but got algorithm=" + std::to_string(algorithm));
  }
}

struct Padding {
  Wide before, after;
};

// auto_pad: as many outputs as ceil(input / stride), an odd zero after the input (same) or before it (same_lower).
Padding padding_of(int axis, Wide input, Wide kernel, const ConvOptions& options) {
  const std::vector<int64_t>& p = options.padding;
  if (options.auto_pad == 0) {
    return p.size() == 2 ? Padding{p[axis], p[axis]} : Padding{p[2 * axis], p[2 * axis + 1]};
  }
  const Wide stride = options.stride[axis];
  const Wide reach = ((input + stride - 1) / stride - 1) * stride + (kernel - 1) * options.dilation[axis] + 1;
  const Wide total = reach > input ? reach - input : 0;
  const Wide less = total / 2, more = total - less;
  return options.auto_pad == 1 ? Padding{less, more} : Padding{more, less};
}

std::string by(Wide h, Wide w) {
  return "(" + std::to_string(static_cast<int64_t>(h)) + " x " + std::to_string(static_cast<int64_t>(w)) + ")";
}

}  // namespace

ConvGeometry check_geometry(const int64_t x_sizes[4], const int64_t w_sizes[4], const ConvOptions& options) {
  check_options(options);
  const int64_t C = x_sizes[3], O = w_sizes[3], groups = options.groups;
  if (O < groups) {
    fail("Given groups=" + std::to_string(groups) + ", expected weight to be at least " + std::to_string(groups) +
         " at dimension 3, but got weight w of size " + text(w_sizes, 4) + " instead");
  }
  if (O % groups != 0) {
    fail("Given groups=" + std::to_string(groups) + ", expected weight to be divisible by " + std::to_string(groups) +
         " at dimension 3, but got weight w of size " + text(w_sizes, 4) + " instead");
  }
  if (Wide(w_sizes[2]) * groups != C) {
    fail("Given groups=" + std::to_string(groups) + ", weight w of size " + text(w_sizes, 4) + ", expected input x" +
         text(x_sizes, 4) + " to have " + std::to_string(static_cast<int64_t>(w_sizes[2]) * groups) +
         " channels, but got " + std::to_string(C) + " channels instead");
  }
  if (w_sizes[0] <= 0 || w_sizes[1] <= 0) {
    fail("kernel size should be greater than zero, but got weight w of size " + text(w_sizes, 4));
  }
  if (x_sizes[1] <= 0 || x_sizes[2] <= 0 || C <= 0) {
    fail("Only zero batch inputs are supported, but got input x of size " + text(x_sizes, 4));
  }

  ConvGeometry g;
  g.N = x_sizes[0];
  g.C = C;
  g.O = O;
  g.groups = groups;
  Axis* axes[2] = {&g.h, &g.w};
  Wide padded[2], extent[2];
  Padding padding[2];
  for (int a = 0; a < 2; ++a) {
    padding[a] = padding_of(a, x_sizes[1 + a], w_sizes[a], options);
    padded[a] = x_sizes[1 + a] + padding[a].before + padding[a].after;
    extent[a] = Wide(options.dilation[a]) * (w_sizes[a] - 1) + 1;
  }
  for (int a = 0; a < 2; ++a) {
    if (padded[a] > kMost) fail("padding is too large: padding=" + text(options.padding));
    if (extent[a] > padded[a]) {
      const auto shown = [](Wide value) { return value > kMost ? Wide(kMost) : value; };
      fail("Calculated padded input size per channel: " + by(shown(padded[0]), shown(padded[1])) + ". Kernel size: " +
           by(shown(extent[0]), shown(extent[1])) + ". Kernel size can't be greater than actual input size");
    }
  }
  for (int a = 0; a < 2; ++a) {
    Axis& axis = *axes[a];
    axis.input = x_sizes[1 + a];
    axis.kernel = w_sizes[a];
    // Steps that are never taken may be anything; short ones keep all later arithmetic within 64 bits.
    axis.stride = options.stride[a] < padded[a] ? options.stride[a] : static_cast<int64_t>(padded[a]);
    axis.dilation = axis.kernel > 1 ? options.dilation[a] : 1;
    axis.pad = static_cast<int64_t>(padding[a].before);
    axis.output = output_size(axis.input, axis.kernel, axis.stride, axis.dilation,
                              static_cast<int64_t>(padding[a].before + padding[a].after));
  }
  // Each factor is below 2^63: two products fit, and the third is only formed from one that is small.
  const Wide rows = Wide(g.N ? g.N : 1) * g.h.output;
  const Wide row = Wide(g.w.output) * O;
  if (rows > kMost || row > kMost || rows * row > kMost / 8) {
    const int64_t sizes[4] = {g.N, g.h.output, g.w.output, O};
    fail("result of size " + text(sizes, 4) + " has too many elements");
  }
  return g;
}

ConvGeometry check_forward(const TensorInfo& x, const TensorInfo& w, const TensorInfo* bias,
                           const ConvOptions& options) {
  check_image_rank({"input x", &x});
  check_weight_rank(w);
  check_same_kind({"x", &x}, {"w", &w});
  if (bias != nullptr) {
    check_same_kind({"x", &x}, {"bias", bias});
    if (bias->dim != 1 || bias->sizes[0] != w.sizes[3]) {
      fail("Given weight w of size " + text(w) + ", expected bias to be 1-dimensional with " +
           std::to_string(w.sizes[3]) + " elements, but got bias of size " + text(*bias) + " instead");
    }
  }
  int64_t x_sizes[4];
  batched_sizes(x, x_sizes);
  return check_geometry(x_sizes, w.sizes, options);
}

namespace {

// grad must be the result's size: `expected` has as many dimensions as grad.
void check_grad_size(const TensorInfo& grad, const ConvGeometry& g) {
  const int64_t expected[4] = {g.N, g.h.output, g.w.output, g.O};
  for (int64_t d = 0; d < grad.dim; ++d) {
    if (grad.sizes[d] != expected[d + 4 - grad.dim]) {
      fail("Expected grad of size " + text(expected + 4 - grad.dim, grad.dim) + ", but got grad of size " + text(grad));
    }
  }
}

void check_positive(const char* name, const std::vector<int64_t>& values) {
  check_pair(name, values);
  for (const int64_t value : values) {
    if (value <= 0) fail(std::string(name) + " should be greater than zero, but got " + name + "=" + text(values));
  }
}

}  // namespace

ConvGeometry check_input_gradient(const TensorInfo& grad, const TensorInfo& w, const std::vector<int64_t>& input_size,
                                  const ConvOptions& options, int64_t algorithm) {
  check_image_rank({"grad", &grad});
  check_weight_rank(w);
  check_same_kind({"grad", &grad}, {"w", &w});
  check_positive("input_size", input_size);
  check_options(options);
  check_algorithm(algorithm);
  int64_t grad_sizes[4];
  batched_sizes(grad, grad_sizes);
  const Wide C = Wide(w.sizes[2]) * options.groups;
  const int64_t x_sizes[4] = {grad_sizes[0], input_size[0], input_size[1], C > kMost ? 0 : static_cast<int64_t>(C)};
  const ConvGeometry g = check_geometry(x_sizes, w.sizes, options);
  check_grad_size(grad, g);
  if (Wide(g.N ? g.N : 1) * g.h.input > kMost || Wide(g.w.input) * g.C > kMost ||
      Wide(g.N ? g.N : 1) * g.h.input * g.w.input > kMost / 8 / g.C) {
    fail("input_size is too large: input_size=" + text(input_size));
  }
  return g;
}

ConvGeometry check_weight_gradient(const TensorInfo& grad, const TensorInfo& x, const std::vector<int64_t>& kernel_size,
                                   const ConvOptions& options, int64_t algorithm) {
  check_image_rank({"grad", &grad});
  check_image_rank({"input x", &x});
  check_same_kind({"x", &x}, {"grad", &grad});
  check_positive("kernel_size", kernel_size);
  check_options(options);
  check_algorithm(algorithm);
  int64_t grad_sizes[4], x_sizes[4];
  batched_sizes(grad, grad_sizes);
  batched_sizes(x, x_sizes);
  if (x_sizes[3] % options.groups != 0) {
    fail("Given groups=" + std::to_string(options.groups) + ", expected channels of x to be divisible by " +
         std::to_string(options.groups) + ", but got x of size " + text(x));
  }
  const int64_t w_sizes[4] = {kernel_size[0], kernel_size[1], x_sizes[3] / options.groups, grad_sizes[3]};
  const ConvGeometry g = check_geometry(x_sizes, w_sizes, options);
  if (grad.dim != x.dim) {
    fail("Expected grad and x to be both batched or both unbatched, but got grad of size " + text(grad) +
         " and x of size " + text(x));
  }
  check_grad_size(grad, g);
  return g;
}

}  // namespace nhwc_conv
