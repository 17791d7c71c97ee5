// Bodies of the copies; their contracts are CopyArgs and FieldArgs in kernels.h.

template <class T>
void copy(const CopyArgs<T>& t) {
  if (t.from_n == 1) {
    for (int64_t k = 0; k < t.K; ++k) {
      const T* from = t.from + k * t.from_k;
      T* to = t.to + k * t.to_k;
      for (int64_t n = 0; n < t.N; ++n) to[n] = from[n];
    }
    return;
  }
  // Transposition in blocks: a block's lines of `from` stay in the first-level cache until each was used whole.
  const int64_t BLOCK = 16;
  for (int64_t k0 = 0; k0 < t.K; k0 += BLOCK) {
    const int64_t k1 = k0 + BLOCK < t.K ? k0 + BLOCK : t.K;
    for (int64_t n = 0; n < t.N; ++n) {
      const T* from = t.from + n * t.from_n;
      for (int64_t k = k0; k < k1; ++k) t.to[k * t.to_k + n] = from[k * t.from_k];
    }
  }
}

template <class T>
void field(const FieldArgs<T>& t) {
  T* to = t.to;
  for (int64_t i = 0; i < t.KH; ++i) {
    const bool row_inside = i >= t.i_begin && i < t.i_end;
    const T* row = t.from + i * t.from_i;
    for (int64_t j = 0; j < t.KW; ++j, to += t.C) {
      if (!row_inside || j < t.j_begin || j >= t.j_end) {
        for (int64_t c = 0; c < t.C; ++c) to[c] = 0;
      } else if (t.from_c == 1) {
        const T* from = row + j * t.from_j;
        for (int64_t c = 0; c < t.C; ++c) to[c] = from[c];
      } else {
        const T* from = row + j * t.from_j;
        for (int64_t c = 0; c < t.C; ++c) to[c] = from[c * t.from_c];
      }
    }
  }
}

template <class T>
void add(T* to, const T* from, int64_t count) {
  for (int64_t n = 0; n < count; ++n) to[n] += from[n];
}

// Sixteen independent chains hide the latency of the multiply-add unit; the empty asm keeps each chain in a register.
template <class T>
double peak(int64_t rounds) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  typedef typename Lanes<T, LANES>::vector V;
  const V scale = V{} + T(0.5), shift = V{} + T(1);
  V x0 = V{}, x1 = V{}, x2 = V{}, x3 = V{}, x4 = V{}, x5 = V{}, x6 = V{}, x7 = V{}, x8 = V{}, x9 = V{};
#if defined(__x86_64__)
#define NHWC_KEEP(x) asm volatile("" : "+x"(x))
#else
#define NHWC_KEEP(x) asm volatile("" : "+w"(x))
#endif
#define NHWC_STEP(x) x = x * scale + shift; NHWC_KEEP(x);
  for (int64_t r = 0; r < rounds; ++r) {
    NHWC_STEP(x0) NHWC_STEP(x1) NHWC_STEP(x2) NHWC_STEP(x3) NHWC_STEP(x4)
    NHWC_STEP(x5) NHWC_STEP(x6) NHWC_STEP(x7) NHWC_STEP(x8) NHWC_STEP(x9)
  }
#undef NHWC_STEP
#undef NHWC_KEEP
  return 2.0 * LANES * 10 * rounds;
}
