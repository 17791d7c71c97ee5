// Bodies of the copies from storage; their contracts are CopyArgs and FieldArgs in storage_kernels.h, and RepeatArgs in
// kernels.h.

// to[k*to_k + n] = from[k*from_k + n] for k < K, n < N, by vectors of LANES or, where N is less, of half as many. The
// last vector of a row stands back from its end.
template <class A, int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(A), class S>
inline void copy_rows(A* to, int64_t to_k, const S* from, int64_t from_k, int64_t K, int64_t N) {
  if (N < LANES) {
    if (LANES > 1) copy_rows<A, (LANES > 1 ? LANES / 2 : 1)>(to, to_k, from, from_k, K, N);
    return;
  }
  for (int64_t k = 0; k < K; ++k, to += to_k, from += from_k) {
    for (int64_t n = 0; n + LANES < N; n += LANES) store<A, LANES>(to + n, load<A, LANES>(from + n));
    store<A, LANES>(to + N - LANES, load<A, LANES>(from + N - LANES));
  }
}

// Of two vectors of units of UNIT lanes: the even ones of each span of SPAN lanes, first those of one vector, then
// those of the other; or the odd ones.
template <int L, int UNIT, int SPAN, int ODD> struct EveryOther {
  static constexpr int lane(int l) {
    const int unit = l % (SPAN / 2) / UNIT * 2 + ODD;
    return (l % SPAN < SPAN / 2 ? 0 : L) + l / SPAN * SPAN + unit * UNIT + l % UNIT;
  }
};

// In each span, of as many vectors, APART from each other, as it has units: unit c of vector r becomes unit r of vector
// c, in the binary logarithm of so many STEPS.
template <class T, int L, int UNIT, int SPAN, int APART, int STEPS> struct Transposition {
  static NHWC_ALWAYS_INLINE void run(typename Lanes<T, L>::vector* v) {
    const int HALF = SPAN / UNIT / 2;
    typename Lanes<T, L>::vector before[2 * HALF];
    NHWC_UNROLL(16)
    for (int r = 0; r < 2 * HALF; ++r) before[r] = v[r * APART];
    NHWC_UNROLL(16)
    for (int r = 0; r < HALF; ++r) {
      v[r * APART] = shuffle<T, L, EveryOther<L, UNIT, SPAN, 0>>(before[2 * r], before[2 * r + 1]);
      v[(r + HALF) * APART] = shuffle<T, L, EveryOther<L, UNIT, SPAN, 1>>(before[2 * r], before[2 * r + 1]);
    }
    Transposition<T, L, UNIT, SPAN, APART, STEPS / 2>::run(v);
  }
};
template <class T, int L, int UNIT, int SPAN, int APART> struct Transposition<T, L, UNIT, SPAN, APART, 1> {
  static NHWC_ALWAYS_INLINE void run(typename Lanes<T, L>::vector*) {}
};

// A square of L vectors: first pieces of 16 bytes, then the lanes within them. So each step is one instruction, where
// processors shuffle such pieces more easily than what crosses from one into another.
template <class T, int L> NHWC_ALWAYS_INLINE void transpose_square(typename Lanes<T, L>::vector* v) {
  const int PIECE = L * sizeof(T) < 16 ? L : 16 / sizeof(T);
  NHWC_UNROLL(4)
  for (int r = 0; r < PIECE; ++r) Transposition<T, L, PIECE, L, PIECE, L / PIECE>::run(v + r);
  NHWC_UNROLL(16)
  for (int r = 0; r < L; r += PIECE) Transposition<T, L, 1, PIECE, 1, PIECE>::run(v + r);
}

template <class A, int L, class S> void transpose_block(const S* from, int64_t from_n, A* to, int64_t to_k) {
  typename Lanes<A, L>::vector v[L];
  NHWC_UNROLL(16)
  for (int n = 0; n < L; ++n) v[n] = load<A, L>(from + n * from_n);
  transpose_square<A, L>(v);
  NHWC_UNROLL(16)
  for (int k = 0; k < L; ++k) store<A, L>(to + k * to_k, v[k]);
}

// Of groups of K channels, and RATIO times as many outputs: the source of lane l of the outputs' vector PART.
template <int L, int K, int RATIO, int CHANNEL, int PART> struct OneOfGroup {
  static constexpr int lane(int l) { return (PART * L + l) / (RATIO * K) * K + CHANNEL; }
};

template <class A, int L, int K, int RATIO, int I = 0>
inline void repeat_each(typename Lanes<A, L>::vector channels, A* to, int64_t to_k) {
  if constexpr (I < K * RATIO) {
    const int CHANNEL = I / RATIO, PART = I % RATIO;
    store<A, L>(to + CHANNEL * to_k + PART * L,
                shuffle<A, L, OneOfGroup<L, K, RATIO, CHANNEL, PART>>(channels, channels));
    repeat_each<A, L, K, RATIO, I + 1>(channels, to, to_k);
  }
}

// Whole groups in a vector of channels, and of outputs. The last vectors stand back from the end. False where groups
// are others.
template <class A, int L, int RATIO, int K = L / RATIO> bool repeat_groups(const RepeatArgs<A>& t) {
  if (t.copies != RATIO * t.K || t.N < RATIO * L) return false;
  if constexpr (K == 0) {
    return false;
  } else {
    if (t.K != K) return repeat_groups<A, L, RATIO, K / 2>(t);
    for (int64_t p = 0; p < t.P; ++p) {
      for (int64_t n = 0; n < t.N; n += RATIO * L) {
        const int64_t at = n + RATIO * L <= t.N ? n : t.N - RATIO * L;
        repeat_each<A, L, K, RATIO>(load<A, L>(t.from + p * t.from_p + at / RATIO), t.to + p * t.to_p + at, t.N);
      }
    }
    return true;
  }
}

template <class A> void repeat(const RepeatArgs<A>& t) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  if (repeat_groups<A, L, 1>(t) || repeat_groups<A, L, 2>(t) || repeat_groups<A, L, 4>(t)) return;
  for (int64_t p = 0; p < t.P; ++p) {
    const A* from = t.from + p * t.from_p;
    A* to = t.to + p * t.to_p;
    for (int64_t n = 0; n < t.N; n += t.copies, from += t.K) {
      for (int64_t k = 0; k < t.K; ++k) {
        for (int64_t copy = 0; copy < t.copies; ++copy) to[k * t.N + n + copy] = from[k];
      }
    }
  }
}

template <class S, class A> void copy_strided(const CopyArgs<S, A>& t, int64_t k_begin, int64_t k_end) {
  for (int64_t n = 0; n < t.N; ++n) {
    const S* from = t.from + n * t.from_n;
    for (int64_t k = k_begin; k < k_end; ++k) t.to[k * t.to_k + n] = load<A, 1>(from + k * t.from_k);
  }
}

template <class S, class A> void copy(const CopyArgs<S, A>& t) {
  if (t.from_n == 1) {
    copy_rows(t.to, t.to_k, t.from, t.from_k, t.K, t.N);
    return;
  }
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  if (t.from_k == 1 && t.K >= L && t.N >= L) {
    // The last blocks stand back from the ends.
    for (int64_t k = 0; k < t.K; k += L) {
      const int64_t at_k = k + L <= t.K ? k : t.K - L;
      for (int64_t n = 0; n < t.N; n += L) {
        const int64_t at_n = n + L <= t.N ? n : t.N - L;
        transpose_block<A, L>(t.from + at_k + at_n * t.from_n, t.from_n, t.to + at_k * t.to_k + at_n, t.to_k);
      }
    }
    return;
  }
  // In blocks: a block's lines of `from` stay in the first-level cache until each was used whole.
  const int64_t BLOCK = 16;
  for (int64_t k = 0; k < t.K; k += BLOCK) copy_strided(t, k, k + BLOCK < t.K ? k + BLOCK : t.K);
}

// All taps of L columns by squares. The last taps stand back from the end, unless they are so few that one by one costs
// less.
template <class A, int L, class S> inline void transpose_taps_of(const CopyTapsArgs<S, A>& c, int64_t k, int64_t n) {
  const int64_t single = c.T % L <= 2 ? c.T % L : 0;
  const S* from = c.from + k * c.from_k + n * c.from_n;
  A* to = c.to + k * c.to_k + n;
  for (int64_t t = 0; t < c.T - single; t += L) {
    const int64_t at = t + L <= c.T ? t : c.T - L;
    transpose_block<A, L>(from + at, c.from_n, to + at * c.to_t, c.to_t);
  }
  for (int64_t t = c.T - single; t < c.T; ++t) {
    for (int l = 0; l < L; ++l) to[t * c.to_t + l] = load<A, 1>(from + t + l * c.from_n);
  }
}

// By vectors of at most L lanes, in the order of memory; the last columns stand back from the end. False where there
// are too few taps or columns.
template <class A, int L, class S> bool transpose_taps(const CopyTapsArgs<S, A>& c) {
  if (c.T < L || c.N < L) {
    if constexpr (narrower<A>(L) > 1) return transpose_taps<A, narrower<A>(L)>(c);
    return false;
  }
  if (c.from_n <= c.from_k) {
    for (int64_t k = 0; k < c.K; ++k) {
      for (int64_t n = 0; n < c.N; n += L) transpose_taps_of<A, L>(c, k, n + L <= c.N ? n : c.N - L);
    }
  } else {
    for (int64_t n = 0; n < c.N; n += L) {
      for (int64_t k = 0; k < c.K; ++k) transpose_taps_of<A, L>(c, k, n + L <= c.N ? n : c.N - L);
    }
  }
  return true;
}

template <class S, class A> void copy_taps(const CopyTapsArgs<S, A>& c) {
  if (transpose_taps<A, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(c)) return;
  for (int64_t k = 0; k < c.K; ++k) {
    for (int64_t n = 0; n < c.N; ++n) {
      const S* from = c.from + k * c.from_k + n * c.from_n;
      A* to = c.to + k * c.to_k + n;
      for (int64_t t = 0; t < c.T; ++t) to[t * c.to_t] = load<A, 1>(from + t);
    }
  }
}

template <class S, class A> void field(const FieldArgs<S, A>& t) {
  A* to = t.to;
  for (int64_t i = 0; i < t.KH; ++i) {
    const bool row_inside = i >= t.i_begin && i < t.i_end;
    const S* row = t.from + i * t.from_i;
    for (int64_t j = 0; j < t.KW; ++j, to += t.C) {
      if (!row_inside || j < t.j_begin || j >= t.j_end) {
        for (int64_t c = 0; c < t.C; ++c) to[c] = 0;
      } else if (t.from_c == 1) {
        copy_rows(to, 0, row + j * t.from_j, 0, 1, t.C);
      } else {
        const S* from = row + j * t.from_j;
        for (int64_t c = 0; c < t.C; ++c) to[c] = load<A, 1>(from + c * t.from_c);
      }
    }
  }
}

template <class T> void add(T* to, const T* from, int64_t count) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  int64_t n = 0;
  for (; n + L <= count; n += L) store<T, L>(to + n, load<T, L>(to + n) + load<T, L>(from + n));
  for (; n < count; ++n) to[n] += from[n];
}

// Ten independent chains hide the latency of the multiply-add unit; the empty asm keeps each chain in a register.
template <class T> double peak(int64_t rounds) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  typedef typename Lanes<T, LANES>::vector V;
  const V scale = V{} + T(0.5), shift = V{} + T(1);
  V x0 = V{}, x1 = V{}, x2 = V{}, x3 = V{}, x4 = V{}, x5 = V{}, x6 = V{}, x7 = V{}, x8 = V{}, x9 = V{};
#define NHWC_STEP(x)     \
  x = x * scale + shift; \
  asm volatile("" : NHWC_VECTOR(x));
  for (int64_t r = 0; r < rounds; ++r) {
    NHWC_STEP(x0)
    NHWC_STEP(x1)
    NHWC_STEP(x2) NHWC_STEP(x3) NHWC_STEP(x4) NHWC_STEP(x5) NHWC_STEP(x6) NHWC_STEP(x7) NHWC_STEP(x8) NHWC_STEP(x9)
  }
#undef NHWC_STEP
  return 2.0 * LANES * 10 * rounds;
}
