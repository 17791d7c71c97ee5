#include "machine.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <cstdio>
#endif

namespace nhwc_conv {

namespace {

// What is not told stays as it is.
[[maybe_unused]] void take(int64_t said, int64_t& bytes) {
  if (said > 0) bytes = said;
}

#if defined(__APPLE__)
int64_t ask(const char* name) {
  int64_t said = 0;
  size_t size = sizeof(said);
  return sysctlbyname(name, &said, &size, nullptr, 0) == 0 ? said : 0;
}

void describe_caches(Machine& machine) {
  take(ask("hw.cachelinesize"), machine.line);
  take(ask("hw.l2cachesize"), machine.second_level_cache);
  // Of the fast cores, some of which share one.
  const int64_t shared = ask("hw.perflevel0.cpusperl2");
  if (shared > 0) take(ask("hw.perflevel0.l2cachesize") / shared, machine.second_level_cache);
}
#elif defined(__linux__)
// A number of the first core's cache of that index; a size is told in kilobytes, "512K".
int64_t ask(int index, const char* name) {
  char path[80];
  std::snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
  std::FILE* const file = std::fopen(path, "r");
  if (file == nullptr) return 0;
  int64_t said = 0;
  int next = std::fgetc(file);
  for (; next >= '0' && next <= '9'; next = std::fgetc(file)) said = said * 10 + (next - '0');
  std::fclose(file);
  return next == 'K' ? said * 1024 : said;
}

// From the C library or, of what it does not know, as of the caches of Arm's processors, from the kernel.
void describe_caches(Machine& machine) {
  int64_t line = 0, cache = 0;
#if defined(_SC_LEVEL1_DCACHE_LINESIZE)
  line = sysconf(_SC_LEVEL1_DCACHE_LINESIZE);
  cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  if (line <= 0) line = ask(0, "coherency_line_size");
  for (int index = 0; cache <= 0; ++index) {
    const int64_t level = ask(index, "level");
    if (level <= 0) break;
    if (level == 2) cache = ask(index, "size");
  }
  take(line, machine.line);
  take(cache, machine.second_level_cache);
}
#else
void describe_caches(Machine&) {}
#endif

}  // namespace

Machine describe_machine() {
  Machine machine = {1024 * 1024, 64, 4096};  // as on most processors
  describe_caches(machine);
#if defined(_SC_PAGESIZE)
  take(sysconf(_SC_PAGESIZE), machine.page);
#endif
  return machine;
}

}  // namespace nhwc_conv
