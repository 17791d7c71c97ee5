// The plan that an op would run, without running it.
#pragma once

#include <string>
#include <vector>

#include "checks.h"

namespace nhwc_conv {

// A JSON object, for contiguous tensors of the given shapes. Throws std::invalid_argument for unknown names,
// std::runtime_error for shapes that the op would refuse.
std::string explain(const std::string& direction, const std::string& algorithm, const std::string& dtype,
                    const std::vector<int64_t>& x_shape, const std::vector<int64_t>& w_shape,
                    const ConvOptions& options);

}  // namespace nhwc_conv
