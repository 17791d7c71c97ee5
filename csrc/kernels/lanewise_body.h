// The body of the lanewise tile kernel; its contract is TileArgs in kernels.h.

template <class T, class A, int LANES, int ROWS>
void lanewise(const TileArgs<T>& t) {
  typedef typename Lanes<A, LANES>::vector V;
  const int64_t last = t.columns - LANES;
  for (int64_t n = 0;; n = n + LANES < last ? n + LANES : last) {
    V sum[ROWS];
    const V start = t.bias ? load<A, LANES>(t.bias + n) : V{};
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) sum[m] = start;
    for (int64_t i = 0; i < t.I; ++i) {
      for (int64_t j = 0; j < t.J; ++j) {
        const T* a = t.a + i * t.a_i + j * t.a_j + n;
        const T* b = t.b + i * t.b_i + j * t.b_j + n;
        for (int64_t k = t.K; k > 0; --k) {
          const V right = load<A, LANES>(b);
          NHWC_UNROLL(16)
          for (int m = 0; m < ROWS; ++m) sum[m] += load<A, LANES>(a + m * t.a_m) * right;
          a += t.a_k;
          b += t.b_k;
        }
      }
    }
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      if (t.accumulate) sum[m] += load<A, LANES>(t.c + m * t.c_m + n);
    }
    // Where the last vector overlaps the one before it, that one has been stored: what it added must not be added twice.
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
