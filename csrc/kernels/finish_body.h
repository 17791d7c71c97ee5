// The body of the last step; its contract is FinishArgs in kernels.h.

// As expressions of one lane and of vectors: a comparison that is false for NaN and for -0 keeps them.
template <class A, Activation ACTIVATION, class V> inline V activate(V sum) {
  if (ACTIVATION == Activation::relu) return sum < V{} ? V{} : sum;
  return sum;
}

// Narrower vectors for the rest of a row: where sums are finished in their place, none may be finished twice.
template <class S, class A, Activation ACTIVATION, int LANES>
inline void finish_row(const A* from, S* to, int64_t n, int64_t N) {
  for (; n + 2 * LANES <= N; n += 2 * LANES) {
    store_two<A, LANES>(to + n, activate<A, ACTIVATION>(load<A, LANES>(from + n)),
                        activate<A, ACTIVATION>(load<A, LANES>(from + n + LANES)));
  }
  for (; n + LANES <= N; n += LANES) {
    store<A, LANES>(to + n, activate<A, ACTIVATION>(load<A, LANES>(from + n)));
  }
  if (LANES > 1 && n < N) finish_row<S, A, ACTIVATION, (LANES > 1 ? LANES / 2 : 1)>(from, to, n, N);
}

#ifdef NHWC_SHUFFLES
// Rows of the result become columns by square blocks, the last of which stand back from the ends; so it must not
// overlap the sums. False where there are too few of either.
template <class S, class A, Activation ACTIVATION, int LANES> bool finish_transposed(const FinishArgs<S, A>& t) {
  if constexpr (LANES * sizeof(A) < 16) {
    return false;
  } else {
    if (t.M < LANES || t.N < LANES) return finish_transposed<S, A, ACTIVATION, LANES / 2>(t);
    for (int64_t n = 0; n < t.N; n += LANES) {
      const int64_t at_n = n + LANES <= t.N ? n : t.N - LANES;
      for (int64_t m = 0; m < t.M; m += LANES) {
        const int64_t at_m = m + LANES <= t.M ? m : t.M - LANES;
        typename Lanes<A, LANES>::vector v[LANES];
        NHWC_UNROLL(16)
        for (int l = 0; l < LANES; ++l)
          v[l] = activate<A, ACTIVATION>(load<A, LANES>(t.from + (at_m + l) * t.from_m + at_n));
        Exchange<A, LANES, LANES / 2>::run(v);
        NHWC_UNROLL(16)
        for (int l = 0; l < LANES; ++l) store<A, LANES>(t.to + (at_n + l) * t.to_n + at_m, v[l]);
      }
    }
    return true;
  }
}
#endif

template <class S, class A, Activation ACTIVATION> void finish_by(const FinishArgs<S, A>& t) {
#ifdef NHWC_SHUFFLES
  if (t.to_m == 1 && t.to_n != 1 && finish_transposed<S, A, ACTIVATION, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(t)) return;
#endif
  for (int64_t m = 0; m < t.M; ++m) {
    const A* from = t.from + m * t.from_m;
    S* to = t.to + m * t.to_m;
    if (t.to_n == 1) {
      finish_row<S, A, ACTIVATION, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(from, to, 0, t.N);
    } else {
      for (int64_t n = 0; n < t.N; ++n) {
        store<A, 1>(to + n * t.to_n, activate<A, ACTIVATION>(load<A, 1>(from + n)));
      }
    }
  }
}

template <class S, class A> void finish(const FinishArgs<S, A>& t) {
  if (t.activation == Activation::relu) {
    finish_by<S, A, Activation::relu>(t);
  } else {
    finish_by<S, A, Activation::none>(t);
  }
}
