// What the system says of this machine. It may move speed, and never a bit of a result: see conv/tuning.h.
#pragma once

#include <cstdint>

namespace nhwc_conv {

// Bytes: of one core's second-level cache, of a cache line, of a page. What the system does not tell is as on most
// processors. No initializers: dispatch.cpp.
struct Machine {
  int64_t second_level_cache, line, page;
};

Machine describe_machine();

}  // namespace nhwc_conv
