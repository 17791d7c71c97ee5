// The body of the grouped tile kernel; its contract is TileArgs in kernels.h.

// Lanes of a vector of groups of G channels, in each of which channel J of its group stands.
template <int G, int J> struct ChannelOfGroup {
  static constexpr int lane(int l) { return l / G * G + J; }
};

template <class T, int LANES, int G, int J> inline typename Lanes<T, LANES>::vector channel_of_groups(const T* from) {
  if constexpr (G == LANES) {
    return from[J] - typename Lanes<T, LANES>::vector{};  // which leaves -0 as it is
  } else {
    const typename Lanes<T, LANES>::vector channels = load<T, LANES>(from);
    return shuffle<T, LANES, ChannelOfGroup<G, J>>(channels, channels);
  }
}

// TAPS steps of k where a_m = STEP*a_k: rows that read the same pixel share its channels, once shuffled.
template <class T, int LANES, int ROWS, int VECTORS, int TAPS, int STEP, int G, int J>
NHWC_ALWAYS_INLINE void grouped_window(typename Lanes<T, LANES>::vector (*sum)[VECTORS], const T* a, const T* b,
                                       const TileArgs<T>& t) {
  typedef typename Lanes<T, LANES>::vector V;
  V right[TAPS][VECTORS];
  NHWC_UNROLL(8)
  for (int k = 0; k < TAPS; ++k, b += t.b_k) {
    NHWC_POINTER(b);
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) right[k][v] = load<T, LANES>(b + v * LANES);
  }
  NHWC_UNROLL(32)
  for (int p = 0; p < (ROWS - 1) * STEP + TAPS; ++p, a += t.a_k) {
    NHWC_POINTER(a);
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) {
      V left = channel_of_groups<T, LANES, G, J>(a + v * LANES);
      if ((ROWS + TAPS) * VECTORS < NHWC_ISA_REGISTERS - 2) NHWC_IN_REGISTER(left);
      NHWC_UNROLL(8)
      for (int k = 0; k < TAPS; ++k) {
        if (p >= k && (p - k) % STEP == 0 && (p - k) / STEP < ROWS) sum[(p - k) / STEP][v] += left * right[k][v];
      }
    }
  }
}

// The products of channel J of each group.
template <class T, int LANES, int ROWS, int VECTORS, int STEP, int G, int J>
NHWC_ALWAYS_INLINE void grouped_channel(typename Lanes<T, LANES>::vector (*sum)[VECTORS], const T* a, const T* b,
                                        const TileArgs<T>& t) {
  int64_t k = t.K;
  if constexpr (STEP > 0) {
    for (; k >= 3; k -= 3, a += 3 * t.a_k, b += 3 * t.b_k) {
      grouped_window<T, LANES, ROWS, VECTORS, 3, STEP, G, J>(sum, a, b, t);
    }
  }
  for (; k > 0; --k, a += t.a_k, b += t.b_k) {
    const T* from = a;
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m, from += t.a_m) {
      NHWC_POINTER(from);
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) {
        sum[m][v] += channel_of_groups<T, LANES, G, J>(from + v * LANES) * load<T, LANES>(b + v * LANES);
      }
    }
  }
}

// Of channels J and up. Where a group fills the vector, they differ by an address alone.
template <class T, int LANES, int ROWS, int VECTORS, int STEP, int G, int J = 0>
NHWC_ALWAYS_INLINE void grouped_channels(typename Lanes<T, LANES>::vector (*sum)[VECTORS], const T* a, const T* b,
                                         const TileArgs<T>& t) {
  if constexpr (G == LANES) {
    for (int j = 0; j < G; ++j, ++a, b += t.b_j) {
      grouped_channel<T, LANES, ROWS, VECTORS, STEP, G, 0>(sum, a, b, t);
    }
  } else if constexpr (J < G) {
    grouped_channel<T, LANES, ROWS, VECTORS, STEP, G, J>(sum, a, b, t);
    grouped_channels<T, LANES, ROWS, VECTORS, STEP, G, J + 1>(sum, a, b + t.b_j, t);
  }
}

// VECTORS vectors of columns from n of all tiles. STEP > 0: a_m = STEP*a_k.
template <class T, int LANES, int ROWS, int VECTORS, int STEP, int G>
NHWC_ALWAYS_INLINE void grouped_tiles(const TileArgs<T>& t, int64_t n) {
  typedef typename Lanes<T, LANES>::vector V;
  const T* a = t.a + n;
  T* c = t.c + n;
  for (int64_t tile = t.tiles; tile > 0; --tile, a += t.a_t, c += t.c_t) {
    V sum[ROWS][VECTORS];
    ask_for_results<ROWS, VECTORS * LANES>(c, t.c_m);
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) {
        sum[m][v] = t.bias ? load<T, LANES>(t.bias + n + v * LANES) : V{};
      }
    }
    for (int64_t i = 0; i < t.I; ++i) {
      grouped_channels<T, LANES, ROWS, VECTORS, STEP, G>(sum, a + i * t.a_i, t.b + n + i * t.b_i, t);
    }
    lanewise_store<T, T, T, LANES, ROWS, VECTORS>(sum, t, c, t.c_m, 0);
  }
}

// Rows are chains of additions: vectors side by side hide their latency.
template <class T, int LANES, int ROWS, int STEP, int G> void grouped_columns(const TileArgs<T>& args) {
  // As in lanewise_columns.
  const TileArgs<T> t = args;
  const int VECTORS = NHWC_ISA_REGISTERS >= 32 || ROWS <= 4 ? 2 : 1;
  int64_t n = 0;
  const int64_t last = t.columns - LANES, last_of_many = t.columns - VECTORS * LANES;
  for (; VECTORS > 1 && n < last && last_of_many >= 0; n += VECTORS * LANES) {
    grouped_tiles<T, LANES, ROWS, VECTORS, STEP, G>(t, n < last_of_many ? n : last_of_many);
  }
  for (; n < t.columns; n += LANES) grouped_tiles<T, LANES, ROWS, 1, STEP, G>(t, n < last ? n : last);
}

template <class T, int LANES, int ROWS, int G> void grouped(const TileArgs<T>& t) {
  if (t.a_m == t.a_k) return grouped_columns<T, LANES, ROWS, 1, G>(t);
  if (t.a_m == 2 * t.a_k) return grouped_columns<T, LANES, ROWS, 2, G>(t);
  grouped_columns<T, LANES, ROWS, 0, G>(t);
}

template <class T, int LANES, int ROWS, int G> struct GroupedRows {
  static void enter(GroupedKernels<T>& kernels) {
    kernels.rows[ROWS - 1] = grouped<T, LANES, ROWS, G>;
    GroupedRows<T, LANES, ROWS - 1, G>::enter(kernels);
  }
};
template <class T, int LANES, int G> struct GroupedRows<T, LANES, 0, G> {
  static void enter(GroupedKernels<T>&) {}
};
