// What the system says of this machine. It may move speed, and never a bit of a result: see conv/tuning.h.
#pragma once

#include <cstdint>

namespace nhwc_conv {

// Bytes: of one core's second-level cache, of a cache line, of a page. What the system does not tell is as on most
// processors.
struct Machine {
  int64_t second_level_cache = 1024 * 1024, line = 64, page = 4096;
};

Machine describe_machine();

}  // namespace nhwc_conv
