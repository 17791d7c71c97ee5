// Lanewise tiles of any shape, for lanewise_body.h.

// How far a step of m is, in steps of k: STEP > 0: a_m = STEP*a_k. Or both are one, and A has every second of them,
// from the first or from the one after it.
constexpr int kHalfStepsFromFirst = 0, kHalfStepsFromSecond = -1;

// TAPS steps of k: neighbouring rows read the same vectors of A, each of which is loaded once for all rows. Each row's
// order of k is that of lanewise_steps.
template <class T, class A, int LANES, int ROWS, int VECTORS, int TAPS, int STEP>
NHWC_ALWAYS_INLINE void lanewise_window(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* a, const T* b,
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
    const int SPACING = STEP > 0 ? STEP : 1, EVERY = STEP > 0 ? 1 : 2;
    NHWC_UNROLL(32)
    for (int p = STEP > 0 ? 0 : -STEP; p < (ROWS - 1) * SPACING + TAPS; p += EVERY, from += t.a_k) {
      NHWC_POINTER(from);
      typename Lanes<A, LANES>::vector left = load<A, LANES>(from);
      // Sums, B and one vector of A; with fewer registers than that, B comes first.
      if (ROWS * VECTORS + TAPS < NHWC_ISA_REGISTERS - 2) NHWC_IN_REGISTER(left);
      NHWC_UNROLL(8)
      for (int k = 0; k < TAPS; ++k) {
        const int m = (p - k) / SPACING;
        if (p >= k && (p - k) % SPACING == 0 && m < ROWS) sum[m][v] += left * right[k];
      }
    }
  }
}

// What the tiles after these ones read first of this row, which is new to them.
template <class T, int LANES, int ROWS, int VECTORS, int TAPS, int STEP>
NHWC_INLINE void ask_for_window(const T* a, const TileArgs<T>& t) {
  a += ((ROWS - 1) * STEP + TAPS) * t.a_k;
  NHWC_UNROLL(16)
  for (int p = 0; p < ROWS * STEP; ++p, a += t.a_k) {
    NHWC_POINTER(a);
    for (int line = 0; line < VECTORS * LANES; line += 64 / int(sizeof(T))) __builtin_prefetch(a + line, 0, 3);
  }
}

template <class T, class A, int LANES, int ROWS, int VECTORS>
NHWC_INLINE void lanewise_steps(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* a, const T* b, int64_t steps,
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
NHWC_ALWAYS_INLINE void lanewise_sums(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const T* at, const T* bt,
                                      const T* bias, const TileArgs<T>& t) {
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) {
    const typename Lanes<A, LANES>::vector start =
        bias ? load<A, LANES>(bias + v * LANES) : typename Lanes<A, LANES>::vector{};
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) sum[m][v] = start;
  }
  const bool shared = t.a_k == t.a_m && ROWS > 1;
  for (int64_t i = 0; i < t.I; ++i) {
    const T* a = at + i * t.a_i;
    const T* b = bt + i * t.b_i;
    for (int64_t j = 0; j < t.J; ++j, a += t.a_j, b += t.b_j) {
      if (FIXED > 0) {
        if (t.J - j <= t.asks_ahead) ask_for_window<T, LANES, ROWS, VECTORS, FIXED, STEP>(a, t);
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

// Of complete sums.
template <class T, class V> inline V clamped(const TileArgs<T>& t, V sum) {
  return t.clamps ? activate<Activation::clamp>(sum, t.low, t.high) : sum;
}

// Writes sums to rows c_m apart, or adds them to what is there, unless R rounds them. The columns before `from` have
// been stored: they are written once more, but not added to.
template <class T, class R, class A, int LANES, int ROWS, int VECTORS>
NHWC_INLINE void lanewise_store(typename Lanes<A, LANES>::vector (*sum)[VECTORS], const TileArgs<T>& t, R* c,
                                int64_t c_m, int64_t from) {
  const bool adds = sizeof(R) == sizeof(A) && t.mode == Mode::add;
  if (from == 0 || !adds) {
    if (adds || t.clamps) {
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m) {
        NHWC_UNROLL(4)
        for (int v = 0; v < VECTORS; ++v) {
          if (adds) sum[m][v] += load_sums<A, LANES>(c + m * c_m + v * LANES);
          sum[m][v] = clamped(t, sum[m][v]);
        }
      }
    }
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m, c += c_m) {
      NHWC_POINTER(c);
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) store<A, LANES>(c + v * LANES, sum[m][v]);
    }
    return;
  }
  A value[ROWS][VECTORS * LANES];
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) {
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) store<A, LANES>(value[m] + v * LANES, sum[m][v]);
  }
  for (int m = 0; m < ROWS; ++m, c += c_m) {
    for (int64_t lane = from; lane < VECTORS * LANES; ++lane) {
      store<A, 1>(c + lane, clamped(t, value[m][lane] + load_sums<A, 1>(c + lane)));
    }
  }
}

// Each line of a tile once, for what tile_body.h says of lines of C.
template <int ROWS, int COLUMNS, class R> NHWC_ALWAYS_INLINE void ask_for_results(R* c, int64_t c_m) {
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m, c += c_m) {
    NHWC_POINTER(c);
    for (int n = 0; n < COLUMNS; n += 64 / int(sizeof(R))) __builtin_prefetch(c + n, 1);
  }
}

// VECTORS vectors of columns from n of tiles, one below the other. The columns before `from`, counted from n, stay as
// they are.
template <class T, class A, class R, int LANES, int ROWS, int VECTORS, int FIXED, int STEP>
NHWC_ALWAYS_INLINE void lanewise_tiles(const TileArgs<T>& t, int64_t n, int64_t from) {
  const T* a = t.a + n;
  R* c = reinterpret_cast<R*>(t.c) + n;
  for (int64_t tile = t.tiles; tile > 0; --tile, a += t.a_t, c += t.c_t) {
    ask_for_results<ROWS, VECTORS * LANES>(c, t.c_m);
    typename Lanes<A, LANES>::vector sum[ROWS][VECTORS];
    lanewise_sums<T, A, LANES, ROWS, VECTORS, FIXED, STEP>(sum, a, t.b + n, t.bias ? t.bias + n : nullptr, t);
    lanewise_store<T, R, A, LANES, ROWS, VECTORS>(sum, t, c, t.c_m, from);
  }
}

// The same of all columns, VECTORS vectors at least, where I is one and sums are fresh: tile after tile, which along a
// row is the order of memory.
template <class T, class A, class R, int LANES, int ROWS, int VECTORS, int FIXED, int STEP>
inline void lanewise_row(const TileArgs<T>& args) {
  TileArgs<T> t = args;
  t.I = 1;  // the compiler knows now
  const int64_t last = t.columns - VECTORS * LANES;
  const T* a = t.a;
  R* c = reinterpret_cast<R*>(t.c);
  for (int64_t tile = t.tiles; tile > 0; --tile, a += t.a_t, c += t.c_t) {
    for (int64_t next = 0; next < t.columns; next += VECTORS * LANES) {
      const int64_t n = next < last ? next : last;
      typename Lanes<A, LANES>::vector sum[ROWS][VECTORS];
      lanewise_sums<T, A, LANES, ROWS, VECTORS, FIXED, STEP>(sum, a + n, t.b + n, t.bias ? t.bias + n : nullptr, t);
      lanewise_store<T, R, A, LANES, ROWS, VECTORS>(sum, t, c + n, t.c_m, 0);
    }
  }
}
