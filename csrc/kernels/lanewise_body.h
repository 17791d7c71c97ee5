// The body of the lanewise tile kernel; its contract is TileArgs in kernels.h.

// Three tiles' sums, nine vectors of B and one of A in registers; none where there are too few. Narrow vectors do
// without.
template <class T, int LANES> constexpr int rolling_rows() {
  return NHWC_ISA_REGISTERS >= 32 && LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES ? 6 : 0;
}

// Few rows are few chains of additions; vectors side by side hide their latency. With 32 registers twice as many: two
// units of latency four want eight chains and some to spare.
constexpr int vectors_of_rows(int rows) {
  const int few = rows == 1 ? 4 : rows <= 4 ? 2 : 1;
  return NHWC_ISA_REGISTERS >= 32 && few < 4 ? 2 * few : few;
}

// Whether tiles follow each other along a row, and not down a column.
template <int ROWS, class T> bool stand_in_row(const TileArgs<T>& t) { return t.tiles == 1 || t.a_t == ROWS * t.a_m; }

// Of tiles down a column all go over the same few columns before any goes on; else one after the other.
// R: type of C, as in tile_body.h.
template <class T, class A, class R, int LANES, int ROWS, int FIXED, int STEP>
void lanewise_columns(const TileArgs<T>& args) {
  // No store can change a copy: it stays in registers.
  TileArgs<T> t = args;
  const int VECTORS = vectors_of_rows(ROWS);
  const int64_t last = t.columns - LANES, last_of_many = t.columns - VECTORS * LANES;
  int64_t turns = 1;
  if (stand_in_row<ROWS>(t)) {
    turns = t.tiles;
    t.tiles = 1;
  }
  for (; turns > 0; --turns) {
    int64_t n = 0;
    // The last vectors overlap those before, which have been stored.
    for (; VECTORS > 1 && n < last && last_of_many >= 0; n += VECTORS * LANES) {
      const int64_t at = n < last_of_many ? n : last_of_many;
      lanewise_tiles<T, A, R, LANES, ROWS, VECTORS, FIXED, STEP>(t, at, n - at);
    }
    for (; n < t.columns; n += LANES) {
      const int64_t at = n < last ? n : last;
      lanewise_tiles<T, A, R, LANES, ROWS, 1, FIXED, STEP>(t, at, n - at);
    }
    t.a += t.a_t;
    t.c = reinterpret_cast<Sum<T>*>(reinterpret_cast<R*>(t.c) + t.c_t);
  }
}

// K = FIXED and a_m = STEP*a_k.
template <class T, class A, class R, int LANES, int ROWS, int FIXED, int STEP>
void lanewise_windows(const TileArgs<T>& t) {
  const int VECTORS = vectors_of_rows(ROWS);
  const bool fresh = t.I == 1 && t.mode == Mode::fresh, widest = LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES;
  const bool rolls = FIXED == 3 && STEP == 1 && ROWS <= rolling_rows<T, LANES>();
  if (rolls && fresh && t.tiles > 1 && t.J == 3 && t.a_t == t.a_j) return rolling_columns<T, A, R, LANES, ROWS>(t);
  if (widest && fresh && stand_in_row<ROWS>(t) && t.columns >= VECTORS * LANES) {
    return lanewise_row<T, A, R, LANES, ROWS, VECTORS, FIXED, STEP>(t);
  }
  lanewise_columns<T, A, R, LANES, ROWS, FIXED, STEP>(t);
}

template <class T, class A, class R, int LANES, int ROWS> void lanewise(const TileArgs<T>& t) {
  const bool next = t.a_m == t.a_k, widest = LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES;
  const bool slides = ROWS == 3 && NHWC_ISA_REGISTERS >= 32 && sizeof(R) == sizeof(A);
  if (slides && t.tiles == 3 && next && t.I == 1 && t.K > 0) {
    return sliding_columns<T, A, LANES>(t);
  }
  if (widest && next && t.K == 1) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 1 : 0, 1>(t);
  if (next && t.K == 3) return lanewise_windows<T, A, R, LANES, ROWS, 3, 1>(t);
  if (next && t.K == 7) return lanewise_windows<T, A, R, LANES, ROWS, 7, 1>(t);
  if (widest && next && t.K == 2) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 2 : 0, 1>(t);
  if (widest && next && t.K == 5) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 5 : 0, 1>(t);
  if (widest && t.a_m == 2 * t.a_k && t.K == 2) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 2 : 0, 2>(t);
  if (widest && t.a_m == 2 * t.a_k && t.K == 3) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 3 : 0, 2>(t);
  if (widest && t.a_m == 2 * t.a_k && t.K == 5) return lanewise_windows<T, A, R, LANES, ROWS, widest ? 5 : 0, 2>(t);
  lanewise_columns<T, A, R, LANES, ROWS, 0, 1>(t);
}

template <class T, int LANES, int STEP> void half_steps(const TileArgs<T>& t) {
  lanewise_columns<T, T, T, LANES, kHalfStepRows, kHalfSteps, STEP>(t);
}

template <class T, class R, int LANES, int ROWS> struct LanewiseRows {
  static void enter(LanewiseFamily<T>& family) {
    family.rows[ROWS - 1] = lanewise<T, T, T, LANES, ROWS>;
    if constexpr (sizeof(R) != sizeof(T)) family.rounding_rows[ROWS - 1] = lanewise<T, T, R, LANES, ROWS>;
    LanewiseRows<T, R, LANES, ROWS - 1>::enter(family);
  }
};
template <class T, class R, int LANES> struct LanewiseRows<T, R, LANES, 0> {
  static void enter(LanewiseFamily<T>&) {}
};

// Families from the widest vector down to one lane.
template <class T, class R, int LANES> struct LanewiseFamilies {
  static void enter(Arithmetic<T>& kernels) {
    LanewiseFamily<T>& family = kernels.lanewise[kernels.lanewise_families++];
    family.lanes = LANES;
    // With 16 registers eight rows leave room for one vector of each, half a cache line; the other half may be gone
    // before it is read (depthwise 3x3 with AVX2: 1.7 times as fast with four rows).
    family.rows_of_many = NHWC_ISA_REGISTERS >= 32 ? kMaxLanewiseRows : 4;
    family.rows_of_rolling = rolling_rows<T, LANES>() > 0 ? rolling_rows<T, LANES>() : family.rows_of_many;
    if constexpr (LANES * sizeof(T) == NHWC_ISA_VECTOR_BYTES) {
      family.half_steps[0] = half_steps<T, LANES, kHalfStepsFromFirst>;
      family.half_steps[1] = half_steps<T, LANES, kHalfStepsFromSecond>;
    }
    LanewiseRows<T, R, LANES, kMaxLanewiseRows>::enter(family);
    LanewiseFamilies<T, R, narrower<T>(LANES)>::enter(kernels);
  }
};
template <class T, class R> struct LanewiseFamilies<T, R, 0> {
  static void enter(Arithmetic<T>&) {}
};

// R: the type of storage, to which they round.
template <class R, class T> void enter_lanewise_families(Arithmetic<T>& kernels) {
  kernels.lanewise_families = 0;
  LanewiseFamilies<T, R, NHWC_ISA_VECTOR_BYTES / sizeof(T)>::enter(kernels);
}
