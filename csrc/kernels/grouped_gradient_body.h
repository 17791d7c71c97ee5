// The body of the kernel that sums weight gradients of groups; its contract is TileArgs in kernels.h.

// One step of k: for channel J of each group, and those after it, the product of each tap m, from <= m < to. What a tap
// reads is A at m*a_m and B at -m*b_m; one of both is shared by all taps.
template <class T, int LANES, int TAPS, int CHANNELS, int VECTORS, int G, int J = 0>
NHWC_ALWAYS_INLINE void gradient_channels(typename Lanes<T, LANES>::vector (*sum)[CHANNELS][VECTORS], const T* a,
                                          int64_t a_m, const typename Lanes<T, LANES>::vector (*right)[VECTORS],
                                          int from, int to) {
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) {
    NHWC_UNROLL(4)
    for (int m = 0; m < TAPS; ++m) {
      if (m >= from && m < to) {
        sum[m][J][v] += channel_of_groups<T, LANES, G, J>(a + m * a_m + v * LANES) * right[m][v];
      }
    }
  }
  if constexpr (J + 1 < CHANNELS) {
    gradient_channels<T, LANES, TAPS, CHANNELS, VECTORS, G, J + 1>(sum, a, a_m, right, from, to);
  }
}

template <class T, int LANES, int TAPS, int CHANNELS, int VECTORS, int G>
NHWC_ALWAYS_INLINE void gradient_step(typename Lanes<T, LANES>::vector (*sum)[CHANNELS][VECTORS], const T* a,
                                      int64_t a_m, const T* b, int64_t b_m, int from, int to) {
  typename Lanes<T, LANES>::vector right[TAPS][VECTORS];
  NHWC_UNROLL(4)
  for (int m = 0; m < TAPS; ++m) {
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) {
      if (m >= from && m < to) right[m][v] = load<T, LANES>(b - m * b_m + v * LANES);
    }
  }
  gradient_channels<T, LANES, TAPS, CHANNELS, VECTORS, G>(sum, a, a_m, right, from, to);
}

// What the next columns read in this step.
template <class T, int LANES, int TAPS, int VECTORS>
NHWC_ALWAYS_INLINE void ask_for_step(const T* a, int64_t a_m, const T* b, const TileArgs<T>& t) {
  if (t.asks_ahead == 0) return;
  __builtin_prefetch(b + VECTORS * LANES);
  NHWC_UNROLL(4)
  for (int m = 0; m < TAPS; ++m) __builtin_prefetch(a + m * a_m + VECTORS * LANES);
}

// SLIDES: a_m = a_k and K >= TAPS. Step by step along A then, whose channels are shuffled once for all taps: at its
// ends not every tap has a partner in B.
template <class T, int LANES, int TAPS, int CHANNELS, int VECTORS, int G, bool SLIDES>
NHWC_ALWAYS_INLINE void gradient_row(typename Lanes<T, LANES>::vector (*sum)[CHANNELS][VECTORS], const T* a, const T* b,
                                     const TileArgs<T>& t) {
  int64_t k = 0;
  if (!SLIDES) {
    for (; k < t.K; ++k, a += t.a_k, b += t.b_k) {
      ask_for_step<T, LANES, TAPS, VECTORS>(a, t.a_m, b, t);
      gradient_step<T, LANES, TAPS, CHANNELS, VECTORS, G>(sum, a, t.a_m, b, 0, 0, TAPS);
    }
    return;
  }
  NHWC_UNROLL(4)
  for (int first = 1; first < TAPS; ++first, a += t.a_k, b += t.b_k) {
    gradient_step<T, LANES, TAPS, CHANNELS, VECTORS, G>(sum, a, 0, b, t.b_k, 0, first);
  }
  for (k = TAPS - 1; k < t.K; ++k, a += t.a_k, b += t.b_k) {
    ask_for_step<T, LANES, 1, VECTORS>(a, 0, b, t);
    gradient_step<T, LANES, TAPS, CHANNELS, VECTORS, G>(sum, a, 0, b, t.b_k, 0, TAPS);
  }
  NHWC_UNROLL(4)
  for (int last = 1; last < TAPS; ++last, a += t.a_k, b += t.b_k) {
    gradient_step<T, LANES, TAPS, CHANNELS, VECTORS, G>(sum, a, 0, b, t.b_k, last, TAPS);
  }
}

// Channels of a group whose sums are in registers at once.
template <int G> constexpr int gradient_channels_at_once() {
  const int most = NHWC_ISA_REGISTERS >= 32 ? 8 : 4;
  return G < most ? G : most;
}

// VECTORS vectors of columns from n of all tiles. The columns before `from`, counted from n, stay as they are.
template <class T, int LANES, int TAPS, int VECTORS, int G, bool SLIDES>
NHWC_ALWAYS_INLINE void gradient_tiles(const TileArgs<T>& t, int64_t n, int64_t from) {
  const int CHANNELS = gradient_channels_at_once<G>();
  static_assert(CHANNELS == G || G == LANES, "channels of several groups are not an address apart");
  const T* a = t.a + n;
  T* c = t.c + n;
  for (int64_t tile = t.tiles; tile > 0; --tile, a += t.a_t, c += t.c_t) {
    for (int j = 0; j < G; j += CHANNELS) {
      typename Lanes<T, LANES>::vector sum[TAPS][CHANNELS][VECTORS] = {};
      for (int64_t i = 0; i < t.I; ++i) {
        gradient_row<T, LANES, TAPS, CHANNELS, VECTORS, G, SLIDES>(sum, a + j + i * t.a_i, t.b + n + i * t.b_i, t);
      }
      T* channels = c + j * t.c_j;
      NHWC_UNROLL(4)
      for (int m = 0; m < TAPS; ++m, channels += t.c_m) {
        lanewise_store<T, T, T, LANES, CHANNELS, VECTORS>(sum[m], t, channels, t.c_j, from);
      }
    }
  }
}

// Vectors side by side where sums are few: they are chains of additions, and share what is not shuffled.
template <class T, int LANES, int TAPS, int G, bool SLIDES> void gradient_columns(const TileArgs<T>& t) {
  const int CHAINS = NHWC_ISA_REGISTERS >= 32 ? 24 : 12, FIT = CHAINS / (TAPS * gradient_channels_at_once<G>());
  const int VECTORS = FIT >= 4 ? 4 : FIT >= 2 ? 2 : 1;
  const int64_t last = t.columns - LANES, last_of_many = t.columns - VECTORS * LANES;
  int64_t n = 0;
  // As in lanewise_columns.
  for (; VECTORS > 1 && n < last && last_of_many >= 0; n += VECTORS * LANES) {
    const int64_t at = n < last_of_many ? n : last_of_many;
    gradient_tiles<T, LANES, TAPS, VECTORS, G, SLIDES>(t, at, n - at);
  }
  for (; n < t.columns; n += LANES) {
    const int64_t at = n < last ? n : last;
    gradient_tiles<T, LANES, TAPS, 1, G, SLIDES>(t, at, n - at);
  }
}

template <class T, int LANES, int TAPS, int G> void gradient(const TileArgs<T>& t) {
  if (TAPS > 1 && t.a_m == t.a_k && t.K >= TAPS) return gradient_columns<T, LANES, TAPS, G, TAPS != 1>(t);
  gradient_columns<T, LANES, TAPS, G, false>(t);
}

template <class T, int LANES, int TAPS, int G> struct GradientTaps {
  static void enter(GroupedKernels<T>& kernels) {
    kernels.gradient[TAPS - 1] = gradient<T, LANES, TAPS, G>;
    GradientTaps<T, LANES, TAPS - 1, G>::enter(kernels);
  }
};
template <class T, int LANES, int G> struct GradientTaps<T, LANES, 0, G> {
  static void enter(GroupedKernels<T>&) {}
};

// Both kinds, for every width of a group that the widest vectors hold whole.
template <class T, int G> void enter_grouped(Arithmetic<T>& kernels, int width) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  GroupedRows<T, LANES, kMaxLanewiseRows, G>::enter(kernels.grouped[width]);
  GradientTaps<T, LANES, kMaxGradientTaps, G>::enter(kernels.grouped[width]);
  if constexpr (2 * G <= LANES) enter_grouped<T, 2 * G>(kernels, width + 1);
}
