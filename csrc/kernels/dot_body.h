// The body of the dot tile kernel; its contract is TileArgs in kernels.h. Lanes run over the reduction, so that a few
// columns (last layers, the input gradient of a first layer) use all of them.

// Of vectors of pairs of pieces, the first piece of each, or the second.
template <int PIECE, int SECOND> struct Halves {
  static constexpr int lane(int l) { return l / PIECE * 2 * PIECE + l % PIECE + SECOND * PIECE; }
};

// Sums of the lanes of COUNT <= WIDTH vectors: each is halved, its lower half plus its upper one, until one lane is
// left. WIDTH of them share a vector on the way, each in LANES / WIDTH lanes of it; with all lanes, each in one.
// Inlined by force: tiles that ask for memory ahead, and others, would hand the vectors over in memory.
template <class A, int LANES, int COUNT, int WIDTH = LANES> struct LaneSums {
  typedef typename Lanes<A, LANES>::vector V;
  static NHWC_ALWAYS_INLINE V of(const V* values) {
    const int HALF = WIDTH / 2, FIRST = COUNT < HALF ? COUNT : HALF;
    const V low = LaneSums<A, LANES, FIRST, HALF>::of(values);
    const V high = COUNT > HALF ? LaneSums<A, LANES, COUNT - (COUNT > HALF ? HALF : 0), HALF>::of(values + HALF) : low;
    const int PIECE = LANES / WIDTH;
    return shuffle<A, LANES, Halves<PIECE, 0>>(low, high) + shuffle<A, LANES, Halves<PIECE, 1>>(low, high);
  }
};
template <class A, int LANES, int COUNT> struct LaneSums<A, LANES, COUNT, 1> {
  typedef typename Lanes<A, LANES>::vector V;
  static NHWC_ALWAYS_INLINE V of(const V* values) { return *values; }
};

// totals[n] = the sum of the lanes of values[n] for n < COUNT; there is room for whole vectors.
template <class A, int LANES, int COUNT> struct Totals {
  static NHWC_ALWAYS_INLINE void enter(const typename Lanes<A, LANES>::vector* values, A* totals) {
    const int FIRST = COUNT < LANES ? COUNT : LANES;
    store<A, LANES>(totals, LaneSums<A, LANES, FIRST>::of(values));
    Totals<A, LANES, COUNT - FIRST>::enter(values + FIRST, totals + FIRST);
  }
};
template <class A, int LANES> struct Totals<A, LANES, 0> {
  static void enter(const typename Lanes<A, LANES>::vector*, A*) {}
};

// Tiles so far ahead are asked for: the next ones are too near where images come from memory.
const int kDotTilesAhead = 4;

// Whole vectors of the reduction.
template <class T, class A, int LANES, int COLUMNS, int ROWS, bool ASKS>
NHWC_INLINE void dot_steps(typename Lanes<A, LANES>::vector* sum, const T* a, const T* b, int64_t whole,
                           const TileArgs<T>& t) {
  typedef typename Lanes<A, LANES>::vector V;
  const int64_t a_m = t.a_m, ahead = kDotTilesAhead * t.a_t;
  for (int64_t k = 0; k < whole; k += LANES) {
    V right[COLUMNS];
    NHWC_UNROLL(4)
    for (int n = 0; n < COLUMNS; ++n) right[n] = load<A, LANES>(b + n * t.b_n + k);
    const T* row = a + k;
    NHWC_POINTER(row);
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; ++m) {
      V left = load<A, LANES>(row);
      // Else each product loads it, and loads are what the loop waits for.
      if (COLUMNS > 1) NHWC_IN_REGISTER(left);
      if (ASKS) __builtin_prefetch(row + ahead, 0, 2);
      row += a_m;
      NHWC_POINTER(row);
      NHWC_UNROLL(4)
      for (int n = 0; n < COLUMNS; ++n) sum[m * COLUMNS + n] += left * right[n];
    }
  }
}

template <class T, class A, int LANES, int COLUMNS, int ROWS, bool ASKS>
inline void dot_tile(const TileArgs<T>& t, const T* at, T* to) {
  typedef typename Lanes<A, LANES>::vector V;
  V sum[ROWS * COLUMNS];
  NHWC_UNROLL(32)
  for (int e = 0; e < ROWS * COLUMNS; ++e) sum[e] = V{};
  const int64_t whole = t.K - t.K % LANES, rest = t.K - whole;
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const T* a = at + i * t.a_i + j * t.a_j;
      const T* b = t.b + i * t.b_i + j * t.b_j;
      dot_steps<T, A, LANES, COLUMNS, ROWS, ASKS>(sum, a, b, whole, t);
      if (rest == 0) continue;
      // The end of a row, filled up with zeros: nothing behind it is read. All of it is copied, in the compiler's eyes
      // too, before any product is formed: a multiplication and an addition are fused only if no branch parts them.
      A left[ROWS][LANES] = {}, right[COLUMNS][LANES] = {};
      for (int n = 0; n < COLUMNS; ++n) {
        for (int64_t k = 0; k < rest; ++k) right[n][k] = b[n * t.b_n + whole + k];
      }
      for (int m = 0; m < ROWS; ++m) {
        for (int64_t k = 0; k < rest; ++k) left[m][k] = a[m * t.a_m + whole + k];
      }
      asm volatile("" : : "r"(left), "r"(right) : "memory");
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m) {
        NHWC_UNROLL(4)
        for (int n = 0; n < COLUMNS; ++n) sum[m * COLUMNS + n] += load<A, LANES>(left[m]) * load<A, LANES>(right[n]);
      }
    }
  }
  A totals[(ROWS * COLUMNS + LANES - 1) / LANES * LANES];
  Totals<A, LANES, ROWS * COLUMNS>::enter(sum, totals);
  NHWC_UNROLL(16)
  for (int m = 0; m < ROWS; ++m) {
    NHWC_UNROLL(4)
    for (int n = 0; n < COLUMNS; ++n) {
      T* c = to + m * t.c_m + n;
      const A total = (t.bias ? A(t.bias[n]) : A(0)) + totals[m * COLUMNS + n];
      *c = t.mode == Mode::add ? *c + total : total;
    }
  }
}

template <class T, class A, int LANES, int COLUMNS, int ROWS, bool ASKS> inline void dot_tiles(const TileArgs<T>& t) {
  const T* a = t.a;
  T* c = t.c;
  int64_t tiles = t.tiles;
  do {
    dot_tile<T, A, LANES, COLUMNS, ROWS, ASKS>(t, a, c);
    a += t.a_t;
    c += t.c_t;
  } while (--tiles > 0);
}

template <class T, class A, int LANES, int COLUMNS, int ROWS> void dot(const TileArgs<T>& t) {
  if (t.asks_ahead > 0) return dot_tiles<T, A, LANES, COLUMNS, ROWS, true>(t);
  dot_tiles<T, A, LANES, COLUMNS, ROWS, false>(t);
}

template <class T, int COLUMNS, int ROWS> struct DotRows {
  static void enter(DotFamily<T>& family) {
    family.rows[ROWS - 1] = dot<T, T, NHWC_ISA_VECTOR_BYTES / sizeof(T), COLUMNS, ROWS>;
    DotRows<T, COLUMNS, ROWS - 1>::enter(family);
  }
};
template <class T, int COLUMNS> struct DotRows<T, COLUMNS, 0> {
  static void enter(DotFamily<T>&) {}
};

template <class T, int COLUMNS, int ROWS> void enter_dot_family(Arithmetic<T>& kernels) {
  kernels.dot[COLUMNS - 1].columns = COLUMNS;
  kernels.dot[COLUMNS - 1].max_rows = ROWS;
  DotRows<T, COLUMNS, ROWS>::enter(kernels.dot[COLUMNS - 1]);
}

template <class T> void enter_dot_families(Arithmetic<T>& kernels) {
  kernels.dot_lanes = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  enter_dot_family<T, 1, 8>(kernels);
#if NHWC_ISA_REGISTERS >= 32
  enter_dot_family<T, 2, 8>(kernels);
  enter_dot_family<T, 3, 8>(kernels);
#else
  enter_dot_family<T, 2, 5>(kernels);
  enter_dot_family<T, 3, 4>(kernels);
#endif
}
