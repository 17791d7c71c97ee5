// Lanewise tiles of three rows and columns of a kernel that keep what they share in registers, for lanewise_body.h.

// Three tiles of three rows that stand as far apart as steps of k: three rows of A slide by B, each vector of which
// meets nine of theirs. One vector of columns from n, of which those before `from` stay.
template <class T, class A, int LANES> inline void sliding_tiles(const TileArgs<T>& t, int64_t n, int64_t from) {
  typedef typename Lanes<A, LANES>::vector V;
  V sum[3][3][1], left[3][3];
  NHWC_UNROLL(3)
  for (int i = 0; i < 3; ++i) {
    NHWC_UNROLL(3)
    for (int m = 0; m < 3; ++m) sum[i][m][0] = t.bias ? load<A, LANES>(t.bias + n) : V{};
  }
  const int64_t a_k = t.a_k, a_t = t.a_t, b_k = t.b_k;
  for (int64_t j = 0; j < t.J; ++j) {
    const T* a = t.a + j * t.a_j + n;
    const T* b = t.b + j * t.b_j + n;
    NHWC_UNROLL(2)
    for (int m = 0; m < 2; ++m, a += a_k) {
      NHWC_UNROLL(3)
      for (int i = 0; i < 3; ++i) left[i][m] = load<A, LANES>(a + i * a_t);
    }
    for (int64_t k = t.K; k > 0; --k, a += a_k, b += b_k) {
      const V right = load<A, LANES>(b);
      // The new lines of the next vector of columns: processors do not foresee lines of pixels far apart.
      __builtin_prefetch(a + 2 * a_t + LANES, 0, 2);
      __builtin_prefetch(b + LANES, 0, 2);
      NHWC_UNROLL(3)
      for (int i = 0; i < 3; ++i) {
        left[i][2] = load<A, LANES>(a + i * a_t);
        NHWC_UNROLL(3)
        for (int m = 0; m < 3; ++m) sum[i][m][0] += left[i][m] * right;
        left[i][0] = left[i][1];
        left[i][1] = left[i][2];
      }
    }
  }
  NHWC_UNROLL(3)
  for (int i = 0; i < 3; ++i) {
    lanewise_store<T, T, A, LANES, 3, 1>(sum[i], t, t.c + n + i * t.c_t, t.c_m, from);
  }
}

template <class T, class A, int LANES> void sliding_columns(const TileArgs<T>& t) {
  const int64_t last = t.columns - LANES;
  for (int64_t n = 0; n < t.columns; n += LANES) {
    const int64_t at = n < last ? n : last;
    sliding_tiles<T, A, LANES>(t, at, n - at);
  }
}

// Tiles of three kernel rows and columns, each a kernel row further than the one before: a row of A is read once for
// the three tiles that it is part of. sum[i] is the tile whose kernel row i it is; those from FIRST to LAST exist. What
// is asked for ahead is so between the products: many lines at once hold up the loads behind them.
template <class T, class A, int LANES, int ROWS, bool ASKS, int FIRST, int LAST>
NHWC_INLINE void add_row_of_a(typename Lanes<A, LANES>::vector (*sum)[ROWS],
                              const typename Lanes<A, LANES>::vector (*b)[3], const T* a, int64_t a_m) {
  NHWC_UNROLL(16)
  for (int p = 0; p < ROWS + 2; ++p, a += a_m) {
    NHWC_POINTER(a);
    typename Lanes<A, LANES>::vector left = load<A, LANES>(a);
    NHWC_IN_REGISTER(left);
    if (ASKS && p >= 2) __builtin_prefetch(a + ROWS * a_m, 0, 3);
    NHWC_UNROLL(3)
    for (int k = 0; k < 3; ++k) {
      NHWC_UNROLL(3)
      for (int i = FIRST; i <= LAST; ++i) {
        if (p - k >= 0 && p - k < ROWS) sum[i][p - k] += left * b[i][k];
      }
    }
  }
}

template <class V, int ROWS> NHWC_INLINE void next_tile(V (*sum)[ROWS], V start) {
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) {
    sum[2][m] = sum[1][m];
    sum[1][m] = sum[0][m];
    sum[0][m] = start;
  }
}

template <class T, class R, class A, int LANES, int ROWS, bool ASKS>
NHWC_INLINE void store_oldest(typename Lanes<A, LANES>::vector (*sum)[ROWS], const TileArgs<T>& t, R* c) {
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m, c += t.c_m) {
    NHWC_POINTER(c);
    store<A, LANES>(c, clamped(t, sum[2][m]));
    if (ASKS) __builtin_prefetch(c + ROWS * t.c_m, 1, 3);
  }
}

// One vector of columns from n of all tiles, of which there are two or more.
template <class T, class A, class R, int LANES, int ROWS, bool ASKS>
inline void rolling_tiles(const TileArgs<T>& t, int64_t n) {
  typedef typename Lanes<A, LANES>::vector V;
  V b[3][3], sum[3][ROWS];
  NHWC_UNROLL(3)
  for (int i = 0; i < 3; ++i) {
    NHWC_UNROLL(3)
    for (int k = 0; k < 3; ++k) b[i][k] = load<A, LANES>(t.b + i * t.b_j + k * t.b_k + n);
  }
  const V start = t.bias ? load<A, LANES>(t.bias + n) : V{};
  const T* a = t.a + n;
  R* c = reinterpret_cast<R*>(t.c) + n;
  const int64_t a_m = t.a_m;
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) sum[0][m] = start;
  add_row_of_a<T, A, LANES, ROWS, ASKS, 0, 0>(sum, b, a, a_m);
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  add_row_of_a<T, A, LANES, ROWS, ASKS, 0, 1>(sum, b, a, a_m);
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  for (int64_t tile = t.tiles - 2; tile > 0; --tile) {
    add_row_of_a<T, A, LANES, ROWS, ASKS, 0, 2>(sum, b, a, a_m);
    store_oldest<T, R, A, LANES, ROWS, ASKS>(sum, t, c);
    c += t.c_t;
    a += t.a_t;
    next_tile<V, ROWS>(sum, start);
  }
  add_row_of_a<T, A, LANES, ROWS, ASKS, 1, 2>(sum, b, a, a_m);
  store_oldest<T, R, A, LANES, ROWS, ASKS>(sum, t, c);
  c += t.c_t;
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  add_row_of_a<T, A, LANES, ROWS, ASKS, 2, 2>(sum, b, a, a_m);
  store_oldest<T, R, A, LANES, ROWS, ASKS>(sum, t, c);
}

template <class T, class A, class R, int LANES, int ROWS> void rolling_columns(const TileArgs<T>& t) {
  const bool asks = t.asks_ahead > 0;
  const int64_t last = t.columns - LANES;
  const auto tiles = asks ? rolling_tiles<T, A, R, LANES, ROWS, true> : rolling_tiles<T, A, R, LANES, ROWS, false>;
  for (int64_t n = 0; n < t.columns; n += LANES) tiles(t, n < last ? n : last);
}
