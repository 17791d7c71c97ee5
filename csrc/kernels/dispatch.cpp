#include "dispatch.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace nhwc_conv {

#define NHWC_BUILT_any(...) __VA_ARGS__
#define NHWC_BUILT_x86_64(...)
#define NHWC_BUILT_aarch64(...)
#if defined(__x86_64__)
#undef NHWC_BUILT_x86_64
#define NHWC_BUILT_x86_64(...) __VA_ARGS__
#elif defined(__aarch64__)
#undef NHWC_BUILT_aarch64
#define NHWC_BUILT_aarch64(...) __VA_ARGS__
#endif

#define NHWC_ISA(name, architecture, bytes, registers, flags) \
  NHWC_BUILT_##architecture(namespace name { void fill(KernelTable & table); })
#include "isa_table.def"
#undef NHWC_ISA

namespace {

namespace supported {
bool baseline() { return true; }
#if defined(__x86_64__)
bool avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool avx512() {
  return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
bool avx512_bf16() { return avx512() && __builtin_cpu_supports("avx512bf16"); }
// Of AMX, the processor and the system: registers of 8 KB must be asked for, once for a process.
bool amx_bf16() {
#if defined(__linux__)
  const unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!avx512_bf16() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  const long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return (edx & kBf16) && (edx & kTile) && syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
  return false;
#endif
}
#elif defined(__aarch64__)
bool neon() { return true; }  // part of the architecture
#endif
}  // namespace supported

constexpr int kMaxTables = 8;
// Libraries may be initialized in any order, and these are filled before this file's turn: an initializer of a member
// would overwrite what is filled in.
static_assert(std::is_trivially_default_constructible_v<KernelTable>);
KernelTable tables[kMaxTables];
int table_count = 0;
const KernelTable* usable[kMaxTables];  // best first
// Plain pointer: written at loading and by tests between calls, read by every call. Null while NHWC_CONV_ISA is bad.
const KernelTable* active = nullptr;
const char* refused = nullptr;  // the bad NHWC_CONV_ISA

void fill_tables() {
#define NHWC_ISA(name, architecture, bytes, registers, flags) \
  NHWC_BUILT_##architecture(if (supported::name()) name::fill(tables[table_count++]);)
#include "isa_table.def"
#undef NHWC_ISA
  const Machine machine = describe_machine();
  for (int t = 0; t < table_count; ++t) {
#define NHWC_STORAGE(S, A, dtype) tables[t].dtype##_kernels.machine = machine;
#include "storage_types.def"
    tables[t].bfloat16_pairs.machine = machine;
    usable[t] = &tables[t];
  }
#if defined(__x86_64__)
  // Intel's make products of pairs at half the speed of float32 (Sapphire Rapids: 110 GFLOP/s and 212), AMD's at twice.
  if (__builtin_cpu_is("intel") && std::strcmp(tables[0].name, "avx512_bf16") == 0) std::swap(usable[0], usable[1]);
#endif
}

}  // namespace

const KernelTable& active_kernels() {
  if (active == nullptr) {
    throw std::runtime_error(std::string("NHWC_CONV_ISA is '") + refused +
                             "', which is not usable here; usable: " + usable_instruction_sets());
  }
  return *active;
}

bool initialize_kernels() {
  if (table_count == 0) fill_tables();
  const char* wanted = std::getenv("NHWC_CONV_ISA");
  if (select_kernels(wanted == nullptr || *wanted == 0 ? usable[0]->name : wanted)) return true;
  refused = strdup(wanted);  // kept for as long as the process lives: the environment may change
  return false;
}

bool select_kernels(const char* name) {
  for (int t = 0; t < table_count; ++t) {
    if (std::strcmp(usable[t]->name, name) == 0) {
      active = usable[t];
      return true;
    }
  }
  return false;
}

const char* usable_instruction_set(int index) {
  return index >= 0 && index < table_count ? usable[index]->name : nullptr;
}

std::string usable_instruction_sets() {
  std::string names;
  for (int t = 0; t < table_count; ++t) names += std::string(t ? ", " : "") + usable[t]->name;
  return names;
}

int64_t built_vector_bytes(int index) {
  static const int64_t bytes_of[] = {
#define NHWC_ISA(name, architecture, bytes, registers, flags) NHWC_BUILT_##architecture(bytes, )
#include "isa_table.def"
#undef NHWC_ISA
      0};
  const int count = sizeof(bytes_of) / sizeof(bytes_of[0]);
  return index >= 0 && index < count ? bytes_of[index] : 0;
}

}  // namespace nhwc_conv
