#include "checks.h"

#include "check_arguments.h"
#include "dtypes.h"
#include "../conv/operands.h"

namespace nhwc_conv {

namespace {

// [N, H, W, C] of a tensor of three or four dimensions.
void batched_sizes(const TensorInfo& image, int64_t sizes[4]) {
  sizes[0] = 1;
  for (int64_t d = 0; d < image.dim; ++d) sizes[d + 4 - image.dim] = image.sizes[d];
}

int64_t along(const std::vector<int64_t>& pair, int axis) { return pair[pair.size() == 1 ? 0 : axis]; }

struct Padding {
  Wide before, after;
};

// auto_pad: as many outputs as ceil(input / stride), an odd zero after the input (same) or before it (same_lower).
Padding padding_of(int axis, Wide input, Wide kernel, const ConvOptions& options) {
  const std::vector<int64_t>& p = options.padding;
  if (options.auto_pad == 0) {
    return p.size() == 4 ? Padding{p[2 * axis], p[2 * axis + 1]} : Padding{along(p, axis), along(p, axis)};
  }
  const Wide stride = along(options.stride, axis);
  const Wide reach = (input - 1) / stride * stride + (kernel - 1) * along(options.dilation, axis) + 1;
  const Wide total = reach > input ? reach - input : 0;
  const Wide less = total / 2, more = total - less;
  return options.auto_pad == 1 ? Padding{less, more} : Padding{more, less};
}

// Options and the sizes that do not depend on each other have been checked.
ConvGeometry geometry_of(const int64_t x[4], const int64_t w[4], const ConvOptions& options, bool batched) {
  ConvGeometry g;
  g.N = x[0];
  g.C = x[3];
  g.O = w[3];
  g.groups = options.groups;
  Wide padded[2], extent[2];
  Padding padding[2];
  for (int a = 0; a < 2; ++a) {
    padding[a] = padding_of(a, x[1 + a], w[a], options);
    padded[a] = x[1 + a] + padding[a].before + padding[a].after;
    extent[a] = Wide(along(options.dilation, a)) * (w[a] - 1) + 1;
  }
  const Wide padded_sizes[4] = {g.N, padded[0], padded[1], g.C};
  check_count("padded input x", padded_sizes, batched);
  if (extent[0] > padded[0] || extent[1] > padded[1]) {
    fail("Calculated padded input size per channel: (" + text(padded[0]) + " x " + text(padded[1]) +
         "). Kernel size: (" + text(extent[0]) + " x " + text(extent[1]) +
         "). Kernel size can't be greater than actual input size");
  }
  Axis* axes[2] = {&g.h, &g.w};
  for (int a = 0; a < 2; ++a) {
    Axis& axis = *axes[a];
    const int64_t stride = along(options.stride, a), all = static_cast<int64_t>(padded[a]);
    axis.input = x[1 + a];
    axis.kernel = w[a];
    // Steps that are never taken may be anything; short ones keep all later arithmetic within 64 bits.
    axis.stride = stride < all ? stride : all;
    axis.dilation = axis.kernel > 1 ? along(options.dilation, a) : 1;
    axis.pad = static_cast<int64_t>(padding[a].before);
    axis.output = output_size(axis.input, axis.kernel, axis.stride, axis.dilation,
                              static_cast<int64_t>(padding[a].before + padding[a].after));
  }
  const Wide w_sizes[4] = {w[0], w[1], w[2], w[3]};
  check_count("weight w", w_sizes, true);
  const Wide y_sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  check_count("result", y_sizes, batched);
  return g;
}

// A tensor as large as the result.
void check_result_size(const std::string& name, const TensorInfo& tensor, const ConvGeometry& g, bool batched) {
  const int64_t sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  const int64_t dim = batched ? 4 : 3, *expected = sizes + 4 - dim;
  bool same = tensor.dim == dim;
  for (int64_t d = 0; same && d < dim; ++d) same = tensor.sizes[d] == expected[d];
  if (same) return;
  fail("expected " + name + " to be of size " + text(expected, dim) + ", but got " + name + " of size " + text(tensor));
}

}  // namespace

ConvGeometry check_forward(const TensorInfo& x, const TensorInfo& w, const TensorInfo* bias,
                           const ConvOptions& options) {
  check_same_kind({"input", "x", &x}, {"weight", "w", &w});
  if (bias != nullptr) check_same_kind({"input", "x", &x}, {"bias", "bias", bias});
  check_options(options);
  check_rank("x", x);
  check_weight(w, options.groups);
  const Wide channels = Wide(w.sizes[2]) * options.groups;
  if (x.sizes[x.dim - 1] != channels) {
    fail("Given groups=" + text(options.groups) + ", weight w of size " + text(w) + ", expected input x" + text(x) +
         " to have " + text(channels) + " channels, but got " + text(x.sizes[x.dim - 1]) + " channels instead");
  }
  if (bias != nullptr && (bias->dim != 1 || bias->sizes[0] != w.sizes[3])) {
    fail("Given weight w of size " + text(w) + ", expected bias to be 1-dimensional with " + text(w.sizes[3]) +
         " elements, but got bias of size " + text(*bias) + " instead of [" + text(w.sizes[3]) + "]");
  }
  check_image_size(x);
  int64_t x_sizes[4];
  batched_sizes(x, x_sizes);
  return geometry_of(x_sizes, w.sizes, options, x.dim == 4);
}

void check_winograd(const ConvGeometry& g, const ConvOptions& options) {
  const auto check = [](const char* name, const char* expected, std::vector<int64_t> value, int64_t needed) {
    if (value.size() == 1) value.push_back(value[0]);
    if (value[0] == needed && value[1] == needed) return;
    fail(std::string("expected ") + name + " to be " + expected + " for winograd, but got " + name + "=" + text(value));
  };
  check("kernel_size", "3x3", {g.h.kernel, g.w.kernel}, 3);
  check("stride", "1", options.stride, 1);
  check("dilation", "1", options.dilation, 1);
}

void check_packable(const TensorInfo& w, int64_t groups) {
  if (!is_computed_here(w.dtype)) {
    fail("expected w to be " + computed_dtype_names() + " to be packed, but got " + dtype_name(w.dtype));
  }
  check_groups(groups);
  check_weight(w, groups);
}

ConvGeometry check_packed(const TensorInfo& x, const TensorInfo& packed, const std::vector<int64_t>& weight_size,
                          const TensorInfo* bias, const ConvOptions& options) {
  TensorInfo w = packed;
  w.dim = weight_size.size();
  w.sizes = weight_size.data();
  check_packable(w, options.groups);
  if (is_computed_here(x.dtype)) {
    const int32_t expected = arithmetic_dtype(x.dtype);
    if (packed.dtype != expected) {
      fail("expected packed to be " + dtype_name(expected) + " for x of type " + dtype_name(x.dtype) + ", but got " +
           dtype_name(packed.dtype));
    }
    w.dtype = x.dtype;
  }
  return check_forward(x, w, bias, options);
}

void check_packed_weight(const TensorInfo& x, const TensorInfo& weight, const std::vector<int64_t>& weight_size) {
  check_same_kind({"input", "x", &x}, {"weight", "weight", &weight});
  bool same = weight.dim == 4;
  for (int d = 0; same && d < 4; ++d) same = weight.sizes[d] == weight_size[d];
  if (!same) {
    fail("expected weight to be of size weight_size=" + text(weight_size) + " as [KH, KW, C per group, O], but got " +
         text(weight));
  }
}

void check_activation(int64_t activation) {
  if (activation >= 0 && activation < kActivations) return;
  fail("expected activation to be at least 0 and less than " + text(kActivations) +
       ", but got activation=" + text(activation));
}

void check_residual(const TensorInfo& x, const TensorInfo& residual, const ConvGeometry& g) {
  check_same_kind({"input", "x", &x}, {"residual", "residual", &residual});
  check_result_size("residual", residual, g, x.dim == 4);
}

ConvGeometry check_input_gradient(const TensorInfo& grad, const TensorInfo& w, const std::vector<int64_t>& input_size,
                                  const ConvOptions& options, int64_t algorithm) {
  check_same_kind({"gradient", "grad", &grad}, {"weight", "w", &w});
  check_options(options);
  check_algorithm(algorithm);
  check_rank("grad", grad);
  check_weight(w, options.groups);
  check_size("input_size", input_size);
  int64_t sizes[4];
  batched_sizes(grad, sizes);
  const Wide C = Wide(w.sizes[2]) * options.groups;
  const Wide dx_sizes[4] = {sizes[0], input_size[0], input_size[1], C};
  check_count("padded input x", dx_sizes, grad.dim == 4);
  const int64_t x_sizes[4] = {sizes[0], input_size[0], input_size[1], static_cast<int64_t>(C)};
  const ConvGeometry g = geometry_of(x_sizes, w.sizes, options, grad.dim == 4);
  check_result_size("grad", grad, g, grad.dim == 4);
  if (algorithm == 2) check_winograd(g, options);
  return g;
}

int32_t check_out_dtype(const TensorInfo& x, const std::optional<torch::headeronly::ScalarType>& out_dtype) {
  const int32_t sums = is_computed_here(x.dtype) ? arithmetic_dtype(x.dtype) : x.dtype;
  const int32_t dtype = out_dtype ? static_cast<int32_t>(*out_dtype) : x.dtype;
  if (dtype != x.dtype && dtype != sums) {
    const std::string other = sums == x.dtype ? "" : " or " + dtype_name(sums);
    fail("expected out_dtype to be " + dtype_name(x.dtype) + other + " for x of type " + dtype_name(x.dtype) +
         ", but got " + dtype_name(dtype));
  }
  return dtype;
}

ConvGeometry check_weight_gradient(const TensorInfo& grad, const TensorInfo& x, const std::vector<int64_t>& kernel_size,
                                   const ConvOptions& options, int64_t algorithm) {
  check_same_kind({"gradient", "grad", &grad}, {"input", "x", &x});
  check_options(options);
  check_algorithm(algorithm);
  check_rank("grad", grad);
  check_rank("x", x);
  check_size("kernel_size", kernel_size);
  const Named images[2] = {{"input", "x", &x}, {"gradient", "grad", &grad}};
  for (const Named& image : images) {
    const int64_t channels = image.tensor->sizes[image.tensor->dim - 1];
    if (channels < options.groups || channels % options.groups != 0) {
      fail("Given groups=" + text(options.groups) + ", expected " + image.role + " to be divisible by " +
           text(options.groups) + " at dimension " + text(image.tensor->dim - 1) + ", but got " + image.name +
           " of size " + text(*image.tensor) + " instead");
    }
  }
  check_image_size(x);
  int64_t x_sizes[4];
  batched_sizes(x, x_sizes);
  const int64_t w_sizes[4] = {kernel_size[0], kernel_size[1], x_sizes[3] / options.groups, grad.sizes[grad.dim - 1]};
  const ConvGeometry g = geometry_of(x_sizes, w_sizes, options, x.dim == 4);
  check_result_size("grad", grad, g, x.dim == 4);
  if (algorithm == 2) check_winograd(g, options);
  return g;
}

}  // namespace nhwc_conv
