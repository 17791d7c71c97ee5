// The threads that work items run on: torch's own, as torch.set_num_threads says.
#pragma once

#include "../conv/parallel.h"

namespace nhwc_conv {

// Or the calling thread alone where there is little work (ConvGeometry::work, or bytes alone): the others would take as
// long to begin and to end. Only for speed, but tests of tiny layers want all threads.
Parallel torch_threads(double work);
void share_all_work(bool enabled);

// To be called once, at import: from then on forked children are known as such.
void watch_forks();

}  // namespace nhwc_conv
