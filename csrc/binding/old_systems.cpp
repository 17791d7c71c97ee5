// What g++'s headers call and the systems of manylinux_2_28 lack, so that a library that is built on a newer one loads
// there: of glibc 2.32, of libstdc++ 3.4.29, and of 3.4.26.
#include <new>
#include <sstream>

#if defined(__GLIBCXX__) && defined(__linux__)

#define NHWC_OURS __attribute__((visibility("hidden")))

// False, as it may be: shared pointers count by atomic operations, of which a sole owner needs none.
extern "C" {
NHWC_OURS char __libc_single_threaded;
[[noreturn]] NHWC_OURS void nhwc_bad_array_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
}
void nhwc_bad_array_length() { throw std::bad_array_new_length(); }

// torch's headers make empty streams.
template NHWC_OURS std::basic_ostringstream<char>::basic_ostringstream();
template NHWC_OURS std::basic_stringstream<char>::basic_stringstream();

#endif
