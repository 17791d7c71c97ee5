// The body of the lanewise tile kernel; its contract is TileArgs in kernels.h.

// The products of one run of k. TAPS = 0: any K. TAPS > 0: K = TAPS and a_k = a_m, so that neighbouring rows read the
// same vectors of A, each of which is then loaded once for all rows. Each row's order of k is the same either way.
template <class T, class A, int LANES, int ROWS, int TAPS>
struct LanewiseRun {
  typedef typename Lanes<A, LANES>::vector V;
  static void add(V* sum, const T* a, const T* b, const TileArgs<T>& t) {
    V right[TAPS];
    NHWC_UNROLL(8)
    for (int k = 0; k < TAPS; ++k) right[k] = load<A, LANES>(b + k * t.b_k);
    NHWC_UNROLL(16)
    for (int p = 0; p < ROWS + TAPS - 1; ++p) {
      const V left = load<A, LANES>(a + p * t.a_m);
      NHWC_UNROLL(8)
      for (int k = 0; k < TAPS; ++k) {
        if (p - k >= 0 && p - k < ROWS) sum[p - k] += left * right[k];
      }
    }
  }
};
template <class T, class A, int LANES, int ROWS>
struct LanewiseRun<T, A, LANES, ROWS, 0> {
  typedef typename Lanes<A, LANES>::vector V;
  static void add(V* sum, const T* a, const T* b, const TileArgs<T>& t) {
    for (int64_t k = t.K; k > 0; --k) {
      const V right = load<A, LANES>(b);
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m) sum[m] += load<A, LANES>(a + m * t.a_m) * right;
      a += t.a_k;
      b += t.b_k;
    }
  }
};

template <class T, class A, int LANES, int ROWS, int TAPS>
void lanewise_columns(const TileArgs<T>& t) {
  typedef typename Lanes<A, LANES>::vector V;
  const int64_t last = t.columns - LANES;
  for (int64_t n = 0;; n = n + LANES < last ? n + LANES : last) {
    V sum[ROWS];
    const V start = t.bias ? load<A, LANES>(t.bias + n) : V{};
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) sum[m] = start;
    for (int64_t i = 0; i < t.I; ++i) {
      for (int64_t j = 0; j < t.J; ++j) {
        LanewiseRun<T, A, LANES, ROWS, TAPS>::add(sum, t.a + i * t.a_i + j * t.a_j + n, t.b + i * t.b_i + j * t.b_j + n,
                                                  t);
      }
    }
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      if (t.accumulate) sum[m] += load<A, LANES>(t.c + m * t.c_m + n);
    }
    // Where the last vector overlaps the one before it, that one has been stored: what it added must not be added
    // twice.
    const int64_t fresh = t.accumulate && n == last && last % LANES != 0 ? LANES - last % LANES : 0;
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      T* c = t.c + m * t.c_m + n;
      if (fresh == 0) {
        store<A, LANES>(c, sum[m]);
      } else {
        T value[LANES];
        store<A, LANES>(value, sum[m]);
        for (int64_t lane = fresh; lane < LANES; ++lane) c[lane] = value[lane];
      }
    }
    if (n == last) return;
  }
}

template <class T, class A, int LANES, int ROWS>
void lanewise(const TileArgs<T>& t) {
  const bool shared = t.a_k == t.a_m;
  if (shared && t.K == 3) {
    lanewise_columns<T, A, LANES, ROWS, 3>(t);
  } else if (shared && t.K == 5) {
    lanewise_columns<T, A, LANES, ROWS, 5>(t);
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
