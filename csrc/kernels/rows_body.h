// Sums, scalings and maxima of rows of storage; contracts: SumRowsArgs and what follows it in storage_kernels.h.

// Adds ROWS rows to sums, which are read and written once for them; the first are the sums.
template <class S, class A, int LANES, int ROWS>
inline void add_rows(const SumRowsArgs<S, A>& t, int64_t m, int64_t n) {
  const S* const from = t.from + m * t.from_m;
  for (; n + LANES <= t.N; n += LANES) {
    typename Lanes<A, LANES>::vector sum = load<A, LANES>(from + n);
    if (m > 0) sum = load<A, LANES>(t.to + n) + sum;
    NHWC_UNROLL(4)
    for (int r = 1; r < ROWS; ++r) sum += load<A, LANES>(from + r * t.from_m + n);
    store<A, LANES>(t.to + n, sum);
  }
  if (LANES > 1 && n < t.N) add_rows<S, A, (LANES > 1 ? LANES / 2 : 1), ROWS>(t, m, n);
}

template <class S, class A> void sum_rows(const SumRowsArgs<S, A>& t) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  int64_t m = 0;
  for (; m + 4 <= t.M; m += 4) add_rows<S, A, L, 4>(t, m, 0);
  for (; m < t.M; ++m) add_rows<S, A, L, 1>(t, m, 0);
}

template <class S, class A, int LANES> inline void scale_row(const ScaleRowsArgs<S>& t, int64_t m, int64_t n) {
  const S* const from = t.from + m * t.from_m;
  S* const to = t.to + m * t.to_m;
  for (; n + LANES <= t.N; n += LANES) {
    store<A, LANES>(to + n, load<A, LANES>(from + n) * load<A, LANES>(t.factors + n));
  }
  if (LANES > 1 && n < t.N) scale_row<S, A, (LANES > 1 ? LANES / 2 : 1)>(t, m, n);
}

template <class S, class A> void scale_rows(const ScaleRowsArgs<S>& t) {
  for (int64_t m = 0; m < t.M; ++m) scale_row<S, A, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(t, m, 0);
}

template <class S, class A, int LANES> inline void max_row(const MaxRowsArgs<S>& t, int64_t m, int64_t n) {
  S* const to = t.to + m * t.to_m;
  for (; n + LANES <= t.N; n += LANES) {
    const S* const first = t.from + m * t.from_m + n;
    typename Lanes<A, LANES>::vector most = load<A, LANES>(first);
    for (int64_t h = 0; h < t.H; ++h) {
      for (int64_t w = 0; w < t.W; ++w) {
        const typename Lanes<A, LANES>::vector x = load<A, LANES>(first + h * t.from_h + w * t.from_w);
        most = ((x > most) | (x != x)) ? x : most;
      }
    }
    store<A, LANES>(to + n, most);
  }
  if (LANES > 1 && n < t.N) max_row<S, A, (LANES > 1 ? LANES / 2 : 1)>(t, m, n);
}

template <class S, class A> void max_rows(const MaxRowsArgs<S>& t) {
  for (int64_t m = 0; m < t.M; ++m) max_row<S, A, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(t, m, 0);
}
