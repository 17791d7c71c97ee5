// Checks of single arguments, each raising the text that names it and its value. checks.cpp puts them together.
#pragma once

#include <string>
#include <vector>

#include "checks.h"

namespace nhwc_conv {

// Sums and products of two arguments of 64 bits cannot overflow in it.
using Wide = __int128;

// A tensor by the role that F.conv2d's messages give it and by its name in the schema.
struct Named {
  const char* role;
  const char* name;
  const TensorInfo* tensor;
};

std::string text(Wide value);
std::string text(const Wide* values, int64_t count);
std::string text(const int64_t* values, int64_t count);
std::string text(const std::vector<int64_t>& values);
std::string text(const TensorInfo& tensor);

std::string dtype_name(int32_t dtype);

// One device, one dtype, of those that PyTorch convolves.
void check_same_kind(Named a, Named b);

// Three or four dimensions.
void check_rank(const char* name, const TensorInfo& image);

void check_groups(int64_t groups);

// [KH, KW, C/groups, O], nothing empty, O divisible by groups.
void check_weight(const TensorInfo& w, int64_t groups);

// H and W are positive.
void check_image_size(const TensorInfo& x);

// Few enough elements that neither their count nor their bytes overflow.
void check_count(const char* what, const Wide sizes[4], bool batched);

// stride, padding, dilation, groups and auto_pad, each by itself.
void check_options(const ConvOptions& options);

// (h, w), both positive.
void check_size(const char* name, const std::vector<int64_t>& size);

void check_algorithm(int64_t algorithm);

}  // namespace nhwc_conv
