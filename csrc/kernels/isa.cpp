// Compiled once per row of isa_table.def, with NHWC_ISA_NAME, NHWC_ISA_VECTOR_BYTES and NHWC_ISA_REGISTERS defined and
// the row's flags. The bodies stand in an unnamed namespace inside the instruction set's own: were they plain
// templates, the linker would merge the instances of all rows into one, and an old processor would run instructions it
// lacks.
#include "kernels.h"

namespace nhwc_conv {
namespace NHWC_ISA_NAME {
namespace {

#include "vector.h"
#include "tile_body.h"
#include "lanewise_tile_body.h"
#include "lanewise_3x3_body.h"
#include "lanewise_body.h"
#include "dot_body.h"
#include "pack_body.h"
#include "winograd_body.h"

template <class T>
void enter(Kernels<T>& kernels) {
  enter_families(kernels);
  enter_lanewise_families(kernels);
  enter_dot_families(kernels);
  kernels.winograd2 = winograd_transforms<T, 2>();
  kernels.winograd4 = winograd_transforms<T, 4>();
  kernels.copy = copy<T>;
  kernels.repeat = repeat<T>;
  kernels.field = field<T>;
  kernels.add = add<T>;
  kernels.peak = peak<T>;
}

}  // namespace

#define NHWC_TEXT_(x) #x
#define NHWC_TEXT(x) NHWC_TEXT_(x)

void fill(KernelTable& table) {
  table.name = NHWC_TEXT(NHWC_ISA_NAME);
  enter(table.f32);
  enter(table.f64);
}

}  // namespace NHWC_ISA_NAME
}  // namespace nhwc_conv
