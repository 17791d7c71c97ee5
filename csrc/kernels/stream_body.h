// Products of a few rows with a matrix that is read once; the contract is StreamArgs in kernels.h.

// STEPS rows of the matrix, for ROWS rows of the result, which are read, unless FRESH, and written once for them.
template <class T, int LANES, int ROWS, int STEPS, bool FRESH>
NHWC_INLINE void add_steps(const StreamArgs<T>& t, const T* left, const T* right, T* to, int64_t columns) {
  typedef typename Lanes<T, LANES>::vector V;
  const int64_t right_k = t.right_k, to_p = t.to_p;
  V factor[ROWS][STEPS];
  NHWC_UNROLL(2)
  for (int p = 0; p < ROWS; ++p) {
    NHWC_UNROLL(4)
    for (int k = 0; k < STEPS; ++k) factor[p][k] = left[p * t.left_p + k] - V{};  // of -0 too
  }
  int64_t n = 0;
  for (; n + LANES <= columns; n += LANES) {
    V sum[ROWS];
    NHWC_UNROLL(2)
    for (int p = 0; p < ROWS; ++p) sum[p] = FRESH ? V{} : load<T, LANES>(to + p * to_p + n);
    NHWC_UNROLL(4)
    for (int k = 0; k < STEPS; ++k) {
      const V row = load<T, LANES>(right + k * right_k + n);
      NHWC_UNROLL(2)
      for (int p = 0; p < ROWS; ++p) sum[p] += row * factor[p][k];
    }
    NHWC_UNROLL(2)
    for (int p = 0; p < ROWS; ++p) store<T, LANES>(to + p * to_p + n, sum[p]);
  }
  if constexpr (LANES > 1) {
    if (n < columns) add_steps<T, narrower<T>(LANES), ROWS, STEPS, FRESH>(t, left, right + n, to + n, columns - n);
  }
}

template <class T, int STEPS, bool FRESH = false> NHWC_INLINE void add_to_rows(const StreamArgs<T>& t, int64_t k) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  const T *left = t.left + k, *right = t.right + k * t.right_k;
  int64_t p = 0;
  for (; p + 2 <= t.P; p += 2) {
    add_steps<T, LANES, 2, STEPS, FRESH>(t, left + p * t.left_p, right, t.to + p * t.to_p, t.N);
  }
  if (p < t.P) add_steps<T, LANES, 1, STEPS, FRESH>(t, left + p * t.left_p, right, t.to + p * t.to_p, t.N);
}

// Four rows of the matrix at a time: as many runs of memory as prefetchers follow, and chains of additions short enough
// to hide behind those of other columns.
template <class T> void stream(const StreamArgs<T>& t) {
  int64_t k = 0;
  if (t.fresh) {
    k = t.K >= 4 ? 4 : 1;
    k == 4 ? add_to_rows<T, 4, true>(t, 0) : add_to_rows<T, 1, true>(t, 0);
  }
  for (; k + 4 <= t.K; k += 4) add_to_rows<T, 4>(t, k);
  for (; k < t.K; ++k) add_to_rows<T, 1>(t, k);
}
