// Vectors by the compilers' vector extensions, so that one body serves every instruction set.
// Included inside the namespace of one instruction set: see isa.cpp.

// One spelling for GCC and clang; the bodies depend on full unrolling to keep their accumulators in registers.
// UNROLL_BY: a loop of any length, so many steps a turn.
#define NHWC_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define NHWC_UNROLL(count) NHWC_PRAGMA(clang loop unroll(full))
#define NHWC_UNROLL_BY(steps) NHWC_PRAGMA(clang loop unroll_count(steps))
#else
#define NHWC_UNROLL(count) NHWC_PRAGMA(GCC unroll count)
#define NHWC_UNROLL_BY(steps) NHWC_PRAGMA(GCC unroll steps)
#endif

// For what takes sums by their address: where it is called instead, they live in memory. GCC sees that by itself, but
// where a function is long and called several times.
#define NHWC_ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define NHWC_INLINE NHWC_ALWAYS_INLINE
#else
#define NHWC_INLINE inline
#endif

// Keeps a vector in a register: compilers otherwise prefer to load it again for each of its uses. In clang's eyes
// whatever is volatile may write memory; on Arm it runs out of registers where it does not think so.
#if defined(__x86_64__)
#define NHWC_VECTOR "+v"
#else
#define NHWC_VECTOR "+w"
#endif
#if defined(__clang__) && defined(__x86_64__)
#define NHWC_IN_REGISTER(value) asm("" : NHWC_VECTOR(value))
#else
#define NHWC_IN_REGISTER(value) asm volatile("" : NHWC_VECTOR(value))
#endif

// Parts a product from an addition that follows: GCC makes one operation of two statements, clang of none but one.
#if defined(__clang__)
#define NHWC_ROUNDED(value)
#else
#define NHWC_ROUNDED(value) NHWC_IN_REGISTER(value)
#endif

// Makes a pointer the compiler's only way to what it points at. Where it knows that pointers are a few strides apart,
// it keeps one register for each distance instead, runs out of them and loads distances from the stack between
// products.
#define NHWC_POINTER(pointer) asm("" : "+r"(pointer))

// The same for pointers that move with a loop, where clang has one register for each row and one for all moves; on Arm
// it has enough of them.
#if defined(__clang__) && defined(__x86_64__)
#define NHWC_COUNTER(pointer) NHWC_POINTER(pointer)
#else
#define NHWC_COUNTER(pointer)
#endif

// What follows reads memory anew, instead of keeping in registers what was read before.
#define NHWC_FORGET_MEMORY() asm volatile("" : : : "memory")

// `LANES` values of type A, and the same in memory: aligned only as A is, and free to alias.
template <class A, int LANES> struct Lanes {
  typedef A vector __attribute__((vector_size(LANES * sizeof(A))));
  typedef A unaligned __attribute__((vector_size(LANES * sizeof(A)), aligned(alignof(A)), may_alias));
};

// One lane is a scalar: GCC has vectors of one element, but computes with them worse than with the element.
template <class A> struct Lanes<A, 1> {
  typedef A vector;
  typedef A unaligned __attribute__((may_alias));
};

#if defined(__clang__)
template <int... L> struct Numbers {};
template <int COUNT, int... L> struct NumbersTo : NumbersTo<COUNT - 1, COUNT - 1, L...> {};
template <int... L> struct NumbersTo<0, L...> {
  typedef Numbers<L...> list;
};
template <class Order, class V, int... L> inline V shuffle_in_order(V v, V w, Numbers<L...>) {
  return __builtin_shufflevector(v, w, Order::lane(L)...);
}
#else
template <int BYTES> struct IntegerOf;
template <> struct IntegerOf<4> {
  typedef int32_t type;
};
template <> struct IntegerOf<8> {
  typedef int64_t type;
};
#endif

// Lanes of v and, behind them, of w, of which lane l of the result is number Order::lane(l).
template <class A, int LANES, class Order>
inline typename Lanes<A, LANES>::vector shuffle(typename Lanes<A, LANES>::vector v,
                                                typename Lanes<A, LANES>::vector w) {
#if defined(__clang__)
  return shuffle_in_order<Order>(v, w, typename NumbersTo<LANES>::list());
#else
  typename Lanes<typename IntegerOf<sizeof(A)>::type, LANES>::vector order;
  NHWC_UNROLL(16)
  for (int l = 0; l < LANES; ++l) order[l] = Order::lane(l);
  return __builtin_shuffle(v, w, order);
#endif
}

// Types of storage whose arithmetic has another type have load<A, LANES>(const S*) and store<A, LANES>(S*, vector) of
// their own: half.h.
template <class A, int LANES> inline typename Lanes<A, LANES>::vector load(const A* from) {
  return *reinterpret_cast<const typename Lanes<A, LANES>::unaligned*>(from);
}

template <class A, int LANES> inline void store(A* to, typename Lanes<A, LANES>::vector value) {
  *reinterpret_cast<typename Lanes<A, LANES>::unaligned*>(to) = value;
}
