#include "machine.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace nhwc_conv {

Machine describe_machine() {
  Machine machine;
  [[maybe_unused]] const auto ask = [](int name, int64_t& bytes) {
    const long said = sysconf(name);
    if (said > 0) bytes = said;
  };
#if defined(_SC_LEVEL1_DCACHE_LINESIZE)
  ask(_SC_LEVEL1_DCACHE_LINESIZE, machine.line);
  ask(_SC_LEVEL2_CACHE_SIZE, machine.second_level_cache);
#endif
#if defined(_SC_PAGESIZE)
  ask(_SC_PAGESIZE, machine.page);
#endif
  return machine;
}

}  // namespace nhwc_conv
