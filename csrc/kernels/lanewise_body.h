// The body of the lanewise tile kernel; its contract is TileArgs in kernels.h.

// TAPS steps of k where a_k = a_m: neighbouring rows read the same vectors of A, each of which is loaded once for all
// rows. Each row's order of k is that of lanewise_steps.
template <class T, class A, int LANES, int ROWS, int VECTORS, int TAPS>
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
    NHWC_UNROLL(16)
    for (int p = 0; p < ROWS + TAPS - 1; ++p, from += t.a_m) {
      NHWC_POINTER(from);
      typename Lanes<A, LANES>::vector left = load<A, LANES>(from);
      // Sums, B and one vector of A; with fewer registers than that, B comes first.
      if (ROWS * VECTORS + TAPS < NHWC_ISA_REGISTERS - 2) NHWC_IN_REGISTER(left);
      NHWC_UNROLL(8)
      for (int k = 0; k < TAPS; ++k) {
        if (p - k >= 0 && p - k < ROWS) sum[p - k][v] += left * right[k];
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

// The columns from n to n + VECTORS*LANES. FIXED > 0: K = FIXED and a_k = a_m.
template <class T, class A, int LANES, int ROWS, int VECTORS, int FIXED>
inline void lanewise_tile(const TileArgs<T>& t, int64_t n, typename Lanes<A, LANES>::vector (*sum)[VECTORS]) {
  // As in tile_body.h.
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) {
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(t.c + m * t.c_m + n + v * LANES, 1);
  }
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) {
    const typename Lanes<A, LANES>::vector start =
        t.bias ? load<A, LANES>(t.bias + n + v * LANES) : typename Lanes<A, LANES>::vector{};
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) sum[m][v] = start;
  }
  const bool shared = t.a_k == t.a_m && ROWS > 1;
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const T* a = t.a + i * t.a_i + j * t.a_j + n;
      const T* b = t.b + i * t.b_i + j * t.b_j + n;
      if (FIXED > 0) {
        lanewise_window<T, A, LANES, ROWS, VECTORS, FIXED>(sum, a, b, t);
        continue;
      }
      int64_t k = 0;
      if (shared) {
        for (; k + 7 <= t.K; k += 7) {
          lanewise_window<T, A, LANES, ROWS, VECTORS, 7>(sum, a + k * t.a_k, b + k * t.b_k, t);
        }
        for (; k + 3 <= t.K; k += 3) {
          lanewise_window<T, A, LANES, ROWS, VECTORS, 3>(sum, a + k * t.a_k, b + k * t.b_k, t);
        }
      }
      lanewise_steps<T, A, LANES, ROWS, VECTORS>(sum, a + k * t.a_k, b + k * t.b_k, t.K - k, t);
    }
  }
}

template <class T, class A, int LANES, int ROWS, int FIXED>
void lanewise_columns(const TileArgs<T>& t) {
  typedef typename Lanes<A, LANES>::vector V;
  int64_t n = 0;
  // Few rows are few chains of additions; vectors side by side hide their latency. With 32 registers twice as many: two
  // units of latency four want eight chains and some to spare.
  const int FEW = ROWS == 1 ? 4 : ROWS <= 4 ? 2 : 1;
  const int VECTORS = NHWC_ISA_REGISTERS >= 32 && FEW < 4 ? 2 * FEW : FEW;
  for (; VECTORS > 1 && n + VECTORS * LANES <= t.columns; n += VECTORS * LANES) {
    V sum[ROWS][VECTORS];
    lanewise_tile<T, A, LANES, ROWS, VECTORS, FIXED>(t, n, sum);
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      T* c = t.c + m * t.c_m + n;
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) {
        if (t.mode == Mode::add) sum[m][v] += load<A, LANES>(c + v * LANES);
        store<A, LANES>(c + v * LANES, sum[m][v]);
      }
    }
  }
  const int64_t last = t.columns - LANES;
  for (; n < t.columns; n += LANES) {
    // Where the last vector overlaps the one before it, that one has been stored: what it added must not be added
    // twice.
    const int64_t at = n < last ? n : last, stored = n - at;
    V sum[ROWS][1];
    lanewise_tile<T, A, LANES, ROWS, 1, FIXED>(t, at, sum);
    T* c = t.c + at;
    if (t.mode == Mode::add) {
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m) sum[m][0] += load<A, LANES>(c + m * t.c_m);
    }
    if (stored == 0) {
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m, c += t.c_m) store<A, LANES>(c, sum[m][0]);
      continue;
    }
    for (int m = 0; m < ROWS; ++m) {
      T value[LANES];
      store<A, LANES>(value, sum[m][0]);
      for (int64_t lane = stored; lane < LANES; ++lane) c[m * t.c_m + lane] = value[lane];
    }
  }
}

template <class T, class A, int LANES, int ROWS>
void lanewise(const TileArgs<T>& t) {
  const bool shared = t.a_k == t.a_m;
  if (shared && t.K == 3) {
    lanewise_columns<T, A, LANES, ROWS, 3>(t);
  } else if (shared && t.K == 7) {
    lanewise_columns<T, A, LANES, ROWS, 7>(t);
  } else {
    lanewise_columns<T, A, LANES, ROWS, 0>(t);
  }
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
