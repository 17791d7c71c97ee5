#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

namespace verify {

namespace {

constexpr unsigned char kPattern = 0xA5;
// Looked at beside a buffer; a vector that goes astray stays within.
constexpr size_t kSeen = 4096;

size_t page() {
  static const size_t size = sysconf(_SC_PAGESIZE);
  return size;
}

void protect(void* data, size_t bytes, int protection) {
  if (mprotect(data, bytes, protection) != 0) std::abort();
}

}  // namespace

Arena::~Arena() { release(); }

void Arena::release() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
  if (place_ == Place::heap) std::free(data_);
  mapping_ = data_ = nullptr;
  mapped_ = 0;
}

void* Arena::place(Place place, size_t bytes) {
  if (place == Place::heap || place_ == Place::heap || mapped_ < bytes + 2 * page()) {
    release();
    if (place == Place::heap) {
      data_ = static_cast<unsigned char*>(std::malloc(bytes));
      if (data_ == nullptr) throw std::bad_alloc();
    } else {
      mapped_ = (2 * bytes / page() + 4) * page();
      void* mapping = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (mapping == MAP_FAILED) throw std::bad_alloc();
      mapping_ = static_cast<unsigned char*>(mapping);
      protect(mapping_ + page(), mapped_ - 2 * page(), PROT_READ | PROT_WRITE);
    }
  }
  place_ = place;
  bytes_ = bytes;
  if (place == Place::heap) return data_;
  unsigned char *first = mapping_ + page(), *last = mapping_ + mapped_ - page();
  data_ = place == Place::at_start ? first : last - bytes;
  if (place == Place::at_start) {
    const size_t rest = last - (data_ + bytes);
    std::memset(data_ + bytes, kPattern, rest < kSeen ? rest : kSeen);
  } else {
    const size_t rest = data_ - first;
    std::memset(data_ - (rest < kSeen ? rest : kSeen), kPattern, rest < kSeen ? rest : kSeen);
  }
  return data_;
}

void Arena::read_only(bool on) {
  if (mapping_ != nullptr) protect(mapping_ + page(), mapped_ - 2 * page(), on ? PROT_READ : PROT_READ | PROT_WRITE);
}

bool Arena::intact() const {
  if (mapping_ == nullptr) return true;
  const unsigned char *first = mapping_ + page(), *last = mapping_ + mapped_ - page();
  const unsigned char* begin = place_ == Place::at_start ? data_ + bytes_ : data_ - kSeen;
  const unsigned char* end = place_ == Place::at_start ? data_ + bytes_ + kSeen : data_;
  for (const unsigned char* at = begin < first ? first : begin; at < (end > last ? last : end); ++at) {
    if (*at != kPattern) return false;
  }
  return true;
}

}  // namespace verify
