// The threads that work items run on: torch's own, as torch.set_num_threads says.
#pragma once

#include "../conv/parallel.h"

namespace nhwc_conv {

Parallel torch_threads();

// To be called once, at import: from then on forked children are known as such.
void watch_forks();

}  // namespace nhwc_conv
