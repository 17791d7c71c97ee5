// Vectors by the compilers' vector extensions, so that one body serves every instruction set.
// Included inside the namespace of one instruction set: see isa.cpp.

// One spelling for GCC and clang; the bodies depend on full unrolling to keep their accumulators in registers.
#define NHWC_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define NHWC_UNROLL(count) NHWC_PRAGMA(clang loop unroll_count(count))
#else
#define NHWC_UNROLL(count) NHWC_PRAGMA(GCC unroll count)
#endif

// Keeps a vector in a register: compilers otherwise prefer to load it again for each of its uses.
#if defined(__x86_64__)
#define NHWC_IN_REGISTER(value) asm volatile("" : "+v"(value))
#else
#define NHWC_IN_REGISTER(value) asm volatile("" : "+w"(value))
#endif

// `LANES` values of type A, and the same in memory: aligned only as A is, and free to alias.
template <class A, int LANES>
struct Lanes {
  typedef A vector __attribute__((vector_size(LANES * sizeof(A))));
  typedef A unaligned __attribute__((vector_size(LANES * sizeof(A)), aligned(alignof(A)), may_alias));
};

// One lane is a scalar: GCC has vectors of one element, but computes with them worse than with the element.
template <class A>
struct Lanes<A, 1> {
  typedef A vector;
  typedef A unaligned __attribute__((may_alias));
};

template <class A, int LANES>
inline typename Lanes<A, LANES>::vector load(const A* from) {
  return *reinterpret_cast<const typename Lanes<A, LANES>::unaligned*>(from);
}

template <class A, int LANES>
inline void store(A* to, typename Lanes<A, LANES>::vector value) {
  *reinterpret_cast<typename Lanes<A, LANES>::unaligned*>(to) = value;
}

// to[n] = from[n] for n < count
template <class T>
inline void copy_run(T* to, const T* from, int64_t count) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  int64_t n = 0;
  for (; n + L <= count; n += L) store<T, L>(to + n, load<T, L>(from + n));
  for (; n < count; ++n) to[n] = from[n];
}
