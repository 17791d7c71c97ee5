// The body of the broadcast tile kernel where registers hold matrices (AMX-BF16); its contract is TileArgs in
// kernels.h. An instruction makes a step of the reduction, up to 16 pairs, for up to 16 rows by 16 columns: the
// products of first values are one chain from zero, those of second values another, both are added up, and that to the
// sum; each is rounded to nearest even, and denormal numbers count as zero. It takes the same time however much of that
// is used.

const int kMatrixStep = 16;

// By number: sums of a vector of columns each, from 0 on; factors of a step; those of the last one, if it is shorter.
const int kMostSums = 4, kLeft = 4, kRight = 5, kLastLeft = 6, kLastRight = 7;

// The operand of the instruction that shapes the registers, as the processor lays it down.
struct alignas(64) MatrixShapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
  void set(int number, int64_t count, int64_t bytes) { rows[number] = count, row_bytes[number] = bytes; }
};

template <int LANES, int ROWS> inline void shape_matrices(int64_t last) {
  const int PAIR = sizeof(BFloat16Pair);
  MatrixShapes shapes = {1};
  for (int number = 0; number < kMostSums; ++number) shapes.set(number, ROWS, LANES * sizeof(float));
  shapes.set(kLeft, ROWS, kMatrixStep * PAIR);
  shapes.set(kRight, kMatrixStep, LANES * PAIR);
  if (last > 0) {
    shapes.set(kLastLeft, ROWS, last * PAIR);
    shapes.set(kLastRight, last, LANES * PAIR);
  }
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}

template <int NUMBER> inline void load_matrix(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(row_bytes), "i"(NUMBER) : "memory");
}
template <int NUMBER> inline void store_matrix(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(row_bytes), "i"(NUMBER) : "memory");
}
template <int SUMS, int LEFT, int RIGHT> inline void add_matrix_products() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUMS), "i"(LEFT), "i"(RIGHT));
}
template <int NUMBER> inline void clear_matrix() { asm volatile("tilezero %%tmm%c0" : : "i"(NUMBER)); }

// What follows is done for vector V and those after it. `last`: where the last vector begins.
template <int LANES, int VECTORS, int V = 0>
inline void load_sum_matrices(const float* from, int64_t row_bytes, int64_t last) {
  load_matrix<V>(from + (V == VECTORS - 1 ? last : V * LANES), row_bytes);
  if constexpr (V + 1 < VECTORS) load_sum_matrices<LANES, VECTORS, V + 1>(from, row_bytes, last);
}
template <int LANES, int VECTORS, int V = 0>
inline void store_sum_matrices(float* to, int64_t row_bytes, int64_t last) {
  store_matrix<V>(to + (V == VECTORS - 1 ? last : V * LANES), row_bytes);
  if constexpr (V + 1 < VECTORS) store_sum_matrices<LANES, VECTORS, V + 1>(to, row_bytes, last);
}
template <int VECTORS, int V = 0> inline void clear_sum_matrices() {
  clear_matrix<V>();
  if constexpr (V + 1 < VECTORS) clear_sum_matrices<VECTORS, V + 1>();
}
template <int LANES, int VECTORS, int LEFT, int RIGHT, int V = 0>
inline void multiply_matrices(const BFloat16Pair* b, int64_t row_bytes, int64_t last) {
  load_matrix<RIGHT>(b + (V == VECTORS - 1 ? last : V * LANES), row_bytes);
  add_matrix_products<V, LEFT, RIGHT>();
  if constexpr (V + 1 < VECTORS) multiply_matrices<LANES, VECTORS, LEFT, RIGHT, V + 1>(b, row_bytes, last);
}

// The products of one tile.
template <int LANES, int VECTORS> inline void sum_matrices(const TileArgs<BFloat16Pair>& t, const BFloat16Pair* at,
                                                           const BFloat16Pair* b_at) {
  const int64_t PAIR = sizeof(BFloat16Pair), last = t.columns - LANES, whole = t.K - t.K % kMatrixStep;
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const BFloat16Pair* a = at + i * t.a_i + j * t.a_j;
      const BFloat16Pair* b = b_at + i * t.b_i + j * t.b_j;
      for (int64_t k = 0; k < whole; k += kMatrixStep) {
        load_matrix<kLeft>(a + k, t.a_m * PAIR);
        multiply_matrices<LANES, VECTORS, kLeft, kRight>(b + k * t.b_k, t.b_k * PAIR, last);
      }
      if (whole < t.K) {
        load_matrix<kLastLeft>(a + whole, t.a_m * PAIR);
        multiply_matrices<LANES, VECTORS, kLastLeft, kLastRight>(b + whole * t.b_k, t.b_k * PAIR, last);
      }
    }
  }
}

// Sums that are not C as they stand: rows of VECTORS * LANES.
template <int LANES, int VECTORS, int ROWS, class R>
inline void finish_matrices(const TileArgs<BFloat16Pair>& t, const float* sums, R* row) {
  typedef typename Lanes<float, LANES>::vector Vector;
  const int64_t last = t.columns - LANES;
  for (int m = 0; m < ROWS; ++m, row += t.c_m) {
    Vector sum[VECTORS];
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) {
      sum[v] = load<float, LANES>(sums + (m * VECTORS + v) * LANES);
      // All old values are read before any is written: the last vector may overlap the one before it.
      if (sizeof(R) == sizeof(float) && t.mode == Mode::add)
        sum[v] += load_sums<float, LANES>(row + (v == VECTORS - 1 ? last : v * LANES));
      if (t.clamps) sum[v] = activate<Activation::clamp>(sum[v], t.low, t.high);
    }
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) store<float, LANES>(row + (v == VECTORS - 1 ? last : v * LANES), sum[v]);
  }
}

template <int LANES, int VECTORS, int ROWS, class R> void matrix_tile(const TileArgs<BFloat16Pair>& t) {
  const bool ROUNDS = sizeof(R) != sizeof(float);
  const bool goes_on = !ROUNDS && t.mode == Mode::go_on, as_they_stand = !ROUNDS && !t.clamps && t.mode != Mode::add;
  const int64_t last = t.columns - LANES, c_bytes = t.c_m * sizeof(float);
  alignas(64) float sums[ROWS * VECTORS * LANES];
  shape_matrices<LANES, ROWS>(t.K % kMatrixStep);
  int64_t tile = 0;
  do {
    R* const c = reinterpret_cast<R*>(t.c) + tile * t.c_t;
    if (goes_on) {
      load_sum_matrices<LANES, VECTORS>(reinterpret_cast<const float*>(c), c_bytes, last);
    } else if (t.bias != nullptr) {
      load_sum_matrices<LANES, VECTORS>(t.bias, 0, last);
    } else {
      clear_sum_matrices<VECTORS>();
    }
    sum_matrices<LANES, VECTORS>(t, t.a + tile * t.a_t, t.b + tile * t.b_t);
    if (as_they_stand) {
      store_sum_matrices<LANES, VECTORS>(reinterpret_cast<float*>(c), c_bytes, last);
    } else {
      store_sum_matrices<LANES, VECTORS>(sums, VECTORS * LANES * sizeof(float), (VECTORS - 1) * LANES);
      finish_matrices<LANES, VECTORS, ROWS>(t, sums, c);
    }
  } while (++tile < t.tiles);
  // Else every change of threads would keep the registers' 8 KB.
  asm volatile("tilerelease");
}

template <int LANES, int VECTORS, int ROWS, class R> struct MatrixRows {
  static void enter(TileFamily<BFloat16Pair>& family) {
    family.rows[ROWS - 1] = matrix_tile<LANES, VECTORS, ROWS, float>;
    family.rounding_rows[ROWS - 1] = matrix_tile<LANES, VECTORS, ROWS, R>;
    MatrixRows<LANES, VECTORS, ROWS - 1, R>::enter(family);
  }
};
template <int LANES, int VECTORS, class R> struct MatrixRows<LANES, VECTORS, 0, R> {
  static void enter(TileFamily<BFloat16Pair>&) {}
};

template <int LANES, int VECTORS, class R> void enter_matrix_family(Arithmetic<BFloat16Pair>& kernels) {
  const int ROWS = 16;
  TileFamily<BFloat16Pair>& family = kernels.family[kernels.families++];
  family.lanes = LANES;
  family.vectors = VECTORS;
  family.max_rows = ROWS;
  MatrixRows<LANES, VECTORS, ROWS, R>::enter(family);
}

template <class R> void enter_matrix_families(Arithmetic<BFloat16Pair>& kernels) {
  kernels.families = 0;
  enter_matrix_family<16, 1, R>(kernels);
  enter_matrix_family<16, 2, R>(kernels);
  enter_matrix_family<16, 3, R>(kernels);
  enter_matrix_family<16, 4, R>(kernels);
  enter_matrix_family<8, 1, R>(kernels);
  enter_matrix_family<8, 2, R>(kernels);
  enter_matrix_family<4, 1, R>(kernels);
  enter_matrix_family<4, 2, R>(kernels);
}
