// Buffers with nothing beside them: whoever reads or writes one element too far is stopped or seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "storage.h"

namespace verify {

// Where a buffer stands between two pages that may not be touched. `heap`: an allocation of its own, for
// AddressSanitizer, which guards both ends by itself.
enum class Place { heap, at_start, at_end };

// Memory of one role (x, w, result, ...), used again for every call. Between it and the guard page on the far side lie
// bytes of a known pattern; `intact` tells whether they still do.
class Arena {
 public:
  ~Arena();
  void* place(Place place, size_t bytes);
  void read_only(bool on);
  bool intact() const;

 private:
  void release();
  Place place_ = Place::heap;
  unsigned char* mapping_ = nullptr;  // with its guard pages
  size_t mapped_ = 0;
  unsigned char* data_ = nullptr;
  size_t bytes_ = 0;
};

// NaN: what is read without having been written shows in the result.
template <class T> T* poisoned(Arena& arena, Place place, int64_t elements) {
  T* data = static_cast<T*>(arena.place(place, elements * sizeof(T)));
  for (int64_t e = 0; e < elements; ++e) data[e] = stored<T>(std::numeric_limits<double>::quiet_NaN());
  return data;
}

}  // namespace verify
