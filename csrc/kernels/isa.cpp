// Compiled once per row of isa_table.def, with NHWC_ISA_NAME, NHWC_ISA_VECTOR_BYTES and NHWC_ISA_REGISTERS defined and
// the row's flags. The bodies stand in an unnamed namespace inside the instruction set's own: were they plain
// templates, the linker would merge the instances of all rows into one, and an old processor would run instructions it
// lacks.
#include "kernels.h"

#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nhwc_conv {
#if defined(__AVX512BF16__)
namespace avx512 {
void fill(KernelTable& table);
}
#endif
namespace NHWC_ISA_NAME {
namespace {

#include "vector.h"
#include "half.h"
#include "activation_body.h"
#include "tile_body.h"
#include "lanewise_tile_body.h"
#include "lanewise_3x3_body.h"
#include "lanewise_body.h"
#include "grouped_body.h"
#include "grouped_gradient_body.h"
#include "dot_body.h"
#include "copy_body.h"
#include "transposed_body.h"
#include "stream_body.h"
#include "curve_body.h"
#include "finish_body.h"
#include "rows_body.h"
#include "winograd_body.h"

#if defined(__AMX_BF16__)
#include "matrix_tile_body.h"
#endif
#if defined(__AVX512BF16__)
#include "pairs.h"
#else
template <class S, class A> void enter(Kernels<S, A>& kernels) {
  enter_families<S>(kernels);
  enter_transposed(kernels);
  enter_lanewise_families<S>(kernels);
  enter_grouped<A, 2>(kernels, 0);
  enter_dot_families(kernels);
  kernels.winograd2 = winograd_transforms<A, 2>();
  kernels.winograd4 = winograd_transforms<A, 4>();
  kernels.rearrange = copy<A, A>;
  kernels.repeat = repeat<A>;
  kernels.copy = kernels.pack = copy<S, A>;
  kernels.copy_taps = copy_taps<S, A>;
  kernels.field = field<S, A>;
  kernels.finish = finish<S, A>;
  kernels.sum_rows = sum_rows<S, A>;
  kernels.scale_rows = scale_rows<S, A>;
  kernels.max_rows = max_rows<S, A>;
  kernels.add = add<A>;
  kernels.stream = stream<A>;
  kernels.peak = peak<A>;
  kernels.product_cost = kernels.reduction_step = 1;
  kernels.weight_cost = NHWC_ISA_VECTOR_BYTES > 32 ? 2 : 1;
  kernels.pairs = nullptr;
}
#endif

}  // namespace

#define NHWC_TEXT_(x) #x
#define NHWC_TEXT(x) NHWC_TEXT_(x)

void fill(KernelTable& table) {
#if defined(__AVX512BF16__)
  avx512::fill(table);
  enter_pairs(table.bfloat16_pairs);
  table.bfloat16_kernels.pairs = &table.bfloat16_pairs;
#else
#define NHWC_STORAGE(S, A, dtype) enter(table.dtype##_kernels);
#include "storage_types.def"
#endif
  table.name = NHWC_TEXT(NHWC_ISA_NAME);
}

}  // namespace NHWC_ISA_NAME
}  // namespace nhwc_conv
