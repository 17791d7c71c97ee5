// Loads libnhwc_conv.so, which registers the ops nhwc_conv::*; nothing is linked against it.
#pragma once

#include <dlfcn.h>

#include <stdexcept>

inline void* load_nhwc_conv(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  return library;
}

// One of its C functions: csrc/binding/c_interface.h.
template <class Function> Function* function(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (found == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<Function*>(found);
}
