// The body of the lanewise tile kernel; its contract is TileArgs in kernels.h.

// TAPS steps of k where a_m = STEP*a_k: neighbouring rows read the same vectors of A, each of which is loaded once for
// all rows. Each row's order of k is that of lanewise_steps.
template <class T, class A, int LANES, int ROWS, int VECTORS, int TAPS, int STEP>
inline void lanewise_window(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* a, const T* b,
                            const TileArgs<T>& t) {
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) {
    typename Lanes<A, LANES>::vector right[TAPS];
    const T* from = b + v * LANES;
    NHWC_UNROLL(8)
    for (int k = 0; k < TAPS; ++k, from += t.b_k) {
      NHWC_POINTER(from);
      right[k] = load<A, LANES>(from);
    }
    from = a + v * LANES;
    NHWC_UNROLL(32)
    for (int p = 0; p < (ROWS - 1) * STEP + TAPS; ++p, from += t.a_k) {
      NHWC_POINTER(from);
      typename Lanes<A, LANES>::vector left = load<A, LANES>(from);
      // Sums, B and one vector of A; with fewer registers than that, B comes first.
      if (ROWS * VECTORS + TAPS < NHWC_ISA_REGISTERS - 2) NHWC_IN_REGISTER(left);
      NHWC_UNROLL(8)
      for (int k = 0; k < TAPS; ++k) {
        if (p >= k && (p - k) % STEP == 0 && (p - k) / STEP < ROWS) sum[(p - k) / STEP][v] += left * right[k];
      }
    }
  }
}

template <class T, class A, int LANES, int ROWS, int VECTORS>
inline void lanewise_steps(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* a, const T* b, int64_t steps,
                           const TileArgs<T>& t) {
  for (; steps > 0; --steps) {
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) {
      const typename Lanes<A, LANES>::vector right = load<A, LANES>(b + v * LANES);
      const T* from = a + v * LANES;
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m, from += t.a_m) {
        NHWC_POINTER(from);
        sum[m][v] += load<A, LANES>(from) * right;
      }
    }
    a += t.a_k;
    b += t.b_k;
  }
}

// The sums of the tile at a and b. FIXED > 0: K = FIXED and a_m = STEP*a_k.
template <class T, class A, int LANES, int ROWS, int VECTORS, int FIXED, int STEP>
inline void lanewise_sums(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* at, const T* bt, const T* bias,
                          const TileArgs<T>& t) {
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) {
    const typename Lanes<A, LANES>::vector start =
        bias ? load<A, LANES>(bias + v * LANES) : typename Lanes<A, LANES>::vector{};
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) sum[m][v] = start;
  }
  const bool shared = t.a_k == t.a_m && ROWS > 1;
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const T* a = at + i * t.a_i + j * t.a_j;
      const T* b = bt + i * t.b_i + j * t.b_j;
      if (FIXED > 0) {
        lanewise_window<T, A, LANES, ROWS, VECTORS, FIXED, STEP>(sum, a, b, t);
        continue;
      }
      int64_t k = 0;
      if (shared) {
        for (; k + 7 <= t.K; k += 7) {
          lanewise_window<T, A, LANES, ROWS, VECTORS, 7, 1>(sum, a + k * t.a_k, b + k * t.b_k, t);
        }
        for (; k + 3 <= t.K; k += 3) {
          lanewise_window<T, A, LANES, ROWS, VECTORS, 3, 1>(sum, a + k * t.a_k, b + k * t.b_k, t);
        }
      }
      lanewise_steps<T, A, LANES, ROWS, VECTORS>(sum, a + k * t.a_k, b + k * t.b_k, t.K - k, t);
    }
  }
}

// Writes a tile's sums, or adds them to what is there. The columns before `from` stay as they are.
template <class T, class A, int LANES, int ROWS, int VECTORS>
inline void lanewise_store(typename Lanes<A, LANES>::vector (*sum)[VECTORS], T* c, int64_t c_m, Mode mode,
                           int64_t from) {
  if (from == 0) {
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m, c += c_m) {
      NHWC_POINTER(c);
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) {
        if (mode == Mode::add) sum[m][v] += load<A, LANES>(c + v * LANES);
        store<A, LANES>(c + v * LANES, sum[m][v]);
      }
    }
    return;
  }
  for (int m = 0; m < ROWS; ++m, c += c_m) {
    T value[VECTORS * LANES];
    for (int v = 0; v < VECTORS; ++v) store<A, LANES>(value + v * LANES, sum[m][v]);
    for (int64_t lane = from; lane < VECTORS * LANES; ++lane) {
      c[lane] = mode == Mode::add ? value[lane] + c[lane] : value[lane];
    }
  }
}

// VECTORS vectors of columns from n of all tiles. The columns before `from`, counted from n, stay as they are.
template <class T, class A, int LANES, int ROWS, int VECTORS, int FIXED, int STEP>
inline void lanewise_tiles(const TileArgs<T>& t, int64_t n, int64_t from) {
  const T* a = t.a + n;
  T* c = t.c + n;
  for (int64_t tile = t.tiles; tile > 0; --tile, a += t.a_t, c += t.c_t) {
    // As in tile_body.h.
    T* row = c;
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m, row += t.c_m) {
      NHWC_POINTER(row);
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(row + v * LANES, 1);
    }
    typename Lanes<A, LANES>::vector sum[ROWS][VECTORS];
    lanewise_sums<T, A, LANES, ROWS, VECTORS, FIXED, STEP>(sum, a, t.b + n, t.bias ? t.bias + n : nullptr, t);
    lanewise_store<T, A, LANES, ROWS, VECTORS>(sum, c, t.c_m, t.mode, from);
  }
}

// Three tiles of three rows, whose rows and whose tiles stand as far apart as steps of k and of j: three rows of A
// slide by B, each vector of which meets nine of theirs. One vector of columns from n, of which those before `from`
// stay.
template <class T, class A, int LANES>
inline void sliding_tiles(const TileArgs<T>& t, int64_t n, int64_t from) {
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
      // What the next vector of columns will be new to: lines of pixels far apart are not foreseen.
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
    lanewise_store<T, A, LANES, 3, 1>(sum[i], t.c + n + i * t.c_t, t.c_m, t.mode, from);
  }
}

template <class T, class A, int LANES>
void sliding_columns(const TileArgs<T>& t) {
  const int64_t last = t.columns - LANES;
  for (int64_t n = 0; n < t.columns; n += LANES) {
    const int64_t at = n < last ? n : last;
    sliding_tiles<T, A, LANES>(t, at, n - at);
  }
}

// Tiles of three kernel rows and columns, each a kernel row further than the one before: a row of A is read once for
// the three tiles that it is part of. sum[i] is the tile whose kernel row i it is; those from FIRST to LAST exist.
template <class T, class A, int LANES, int ROWS, int FIRST, int LAST>
inline void add_row_of_a(typename Lanes<A, LANES>::vector (*sum)[ROWS], const typename Lanes<A, LANES>::vector (*b)[3],
                         const T* a, int64_t a_m) {
  NHWC_UNROLL(16)
  for (int p = 0; p < ROWS + 2; ++p, a += a_m) {
    NHWC_POINTER(a);
    typename Lanes<A, LANES>::vector left = load<A, LANES>(a);
    NHWC_IN_REGISTER(left);
    NHWC_UNROLL(3)
    for (int k = 0; k < 3; ++k) {
      NHWC_UNROLL(3)
      for (int i = FIRST; i <= LAST; ++i) {
        if (p - k >= 0 && p - k < ROWS) sum[i][p - k] += left * b[i][k];
      }
    }
  }
}

template <class V, int ROWS>
inline void next_tile(V (*sum)[ROWS], V start) {
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) {
    sum[2][m] = sum[1][m];
    sum[1][m] = sum[0][m];
    sum[0][m] = start;
  }
}

template <class T, class A, int LANES, int ROWS>
inline void store_oldest(typename Lanes<A, LANES>::vector (*sum)[ROWS], T* c, int64_t c_m) {
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m, c += c_m) {
    NHWC_POINTER(c);
    store<A, LANES>(c, sum[2][m]);
  }
}

// One vector of columns from n of all tiles, of which there are two or more.
template <class T, class A, int LANES, int ROWS>
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
  T* c = t.c + n;
  const int64_t a_m = t.a_m, c_m = t.c_m;
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) sum[0][m] = start;
  add_row_of_a<T, A, LANES, ROWS, 0, 0>(sum, b, a, a_m);
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  add_row_of_a<T, A, LANES, ROWS, 0, 1>(sum, b, a, a_m);
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  for (int64_t tile = t.tiles - 2; tile > 0; --tile) {
    add_row_of_a<T, A, LANES, ROWS, 0, 2>(sum, b, a, a_m);
    store_oldest<T, A, LANES, ROWS>(sum, c, c_m);
    c += t.c_t;
    a += t.a_t;
    next_tile<V, ROWS>(sum, start);
  }
  add_row_of_a<T, A, LANES, ROWS, 1, 2>(sum, b, a, a_m);
  store_oldest<T, A, LANES, ROWS>(sum, c, c_m);
  c += t.c_t;
  a += t.a_t;
  next_tile<V, ROWS>(sum, start);
  add_row_of_a<T, A, LANES, ROWS, 2, 2>(sum, b, a, a_m);
  store_oldest<T, A, LANES, ROWS>(sum, c, c_m);
}

// Three tiles' sums, nine vectors of B and one of A in registers; none where there are too few. Narrow vectors do
// without.
template <class T, int LANES>
constexpr int rolling_rows() {
  return NHWC_ISA_REGISTERS >= 32 && LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES ? 6 : 0;
}

template <class T, class A, int LANES, int ROWS, int FIXED, int STEP>
void lanewise_columns(const TileArgs<T>& t) {
  const int64_t last = t.columns - LANES;
  int64_t n = 0;
  if (FIXED == 3 && STEP == 1 && ROWS <= rolling_rows<T, LANES>() && t.tiles > 1 && t.I == 1 && t.J == 3 &&
      t.a_t == t.a_j && t.mode == Mode::fresh) {
    for (; n < t.columns; n += LANES) rolling_tiles<T, A, LANES, ROWS>(t, n < last ? n : last);
    return;
  }
  // Few rows are few chains of additions; vectors side by side hide their latency. With 32 registers twice as many: two
  // units of latency four want eight chains and some to spare.
  const int FEW = ROWS == 1 ? 4 : ROWS <= 4 ? 2 : 1;
  const int VECTORS = NHWC_ISA_REGISTERS >= 32 && FEW < 4 ? 2 * FEW : FEW;
  for (; VECTORS > 1 && n + VECTORS * LANES <= t.columns; n += VECTORS * LANES) {
    lanewise_tiles<T, A, LANES, ROWS, VECTORS, FIXED, STEP>(t, n, 0);
  }
  // Where the last vector overlaps the one before it, that one has been stored: what it added must not be added twice.
  for (; n < t.columns; n += LANES) {
    const int64_t at = n < last ? n : last;
    lanewise_tiles<T, A, LANES, ROWS, 1, FIXED, STEP>(t, at, n - at);
  }
}

template <class T, class A, int LANES, int ROWS>
void lanewise(const TileArgs<T>& t) {
  const bool next = t.a_m == t.a_k, widest = LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES;
  if (ROWS == 3 && NHWC_ISA_REGISTERS >= 32 && t.tiles == 3 && next && t.a_t == t.a_j && t.I == 1 && t.K > 0) {
    return sliding_columns<T, A, LANES>(t);
  }
  if (next && t.K == 3) return lanewise_columns<T, A, LANES, ROWS, 3, 1>(t);
  if (next && t.K == 7) return lanewise_columns<T, A, LANES, ROWS, 7, 1>(t);
  if (widest && next && t.K == 5) return lanewise_columns<T, A, LANES, ROWS, widest ? 5 : 0, 1>(t);
  if (widest && t.a_m == 2 * t.a_k && t.K == 3) return lanewise_columns<T, A, LANES, ROWS, widest ? 3 : 0, 2>(t);
  if (widest && t.a_m == 2 * t.a_k && t.K == 5) return lanewise_columns<T, A, LANES, ROWS, widest ? 5 : 0, 2>(t);
  lanewise_columns<T, A, LANES, ROWS, 0, 1>(t);
}

template <class T, int LANES, int ROWS>
struct LanewiseRows {
  static void enter(LanewiseFamily<T>& family) {
    family.rows[ROWS - 1] = lanewise<T, T, LANES, ROWS>;
    LanewiseRows<T, LANES, ROWS - 1>::enter(family);
  }
};
template <class T, int LANES>
struct LanewiseRows<T, LANES, 0> {
  static void enter(LanewiseFamily<T>&) {}
};

// Families from the widest vector down to one lane.
template <class T, int LANES>
struct LanewiseFamilies {
  static void enter(Kernels<T>& kernels) {
    LanewiseFamily<T>& family = kernels.lanewise[kernels.lanewise_families++];
    family.lanes = LANES;
    // With 16 registers eight rows leave room for one vector of each, half a cache line; the other half is gone before
    // it is read (depthwise 3x3 with AVX2: 1.7 times as fast with four rows).
    family.rows_of_many = NHWC_ISA_REGISTERS >= 32 ? kMaxLanewiseRows : 4;
    family.rows_of_rolling = rolling_rows<T, LANES>() > 0 ? rolling_rows<T, LANES>() : family.rows_of_many;
    LanewiseRows<T, LANES, kMaxLanewiseRows>::enter(family);
    LanewiseFamilies<T, LANES == 1 ? 0 : (LANES * sizeof(T) == 16 ? 1 : LANES / 2)>::enter(kernels);
  }
};
template <class T>
struct LanewiseFamilies<T, 0> {
  static void enter(Kernels<T>&) {}
};

template <class T>
void enter_lanewise_families(Kernels<T>& kernels) {
  kernels.lanewise_families = 0;
  LanewiseFamilies<T, NHWC_ISA_VECTOR_BYTES / sizeof(T)>::enter(kernels);
}
