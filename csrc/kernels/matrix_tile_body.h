// The body of the broadcast tile kernel where registers hold matrices (AMX-BF16); its contract is TileArgs in
// kernels.h. An instruction makes a step of the reduction, up to 16 pairs, for up to 16 rows by 16 columns: the
// products of first values are one chain from zero, those of second values another, both are added up, and that to the
// sum; each is rounded to nearest even, and denormal numbers count as zero. It takes the same time however much of that
// is used.

// By number: sums, of a vector of columns each, from 0 on; factors of a step; those of the last one, if it is shorter.
// Tiles of more than 16 rows have two vectors, the sums of the rows below the 16th from kBelow on, and no such last
// step.
const int kBelow = 2, kLeft = 4, kRight = 5, kLastLeft = 6, kLastRight = 7, kLeftBelow = 6;

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
  const int UPPER = ROWS < kMatrixRows ? ROWS : kMatrixRows;
  for (int number = 0; number < kLeft; ++number)
    shapes.set(number, ROWS > UPPER && number >= kBelow ? ROWS - UPPER : UPPER, LANES * sizeof(float));
  shapes.set(kLeft, UPPER, kMatrixStep * PAIR);
  shapes.set(kRight, kMatrixStep, LANES * PAIR);
  if (ROWS > UPPER) {
    shapes.set(kLeftBelow, ROWS - UPPER, kMatrixStep * PAIR);
  } else if (last > 0) {
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

// Of vector V of a tile and those after it. `last`: where the last vector begins; TALL: there are rows below the 16th.
template <int LANES, int VECTORS, bool TALL, int V = 0>
inline void load_sum_matrices(const float* from, int64_t row, int64_t last) {
  const float* const at = from + (V == VECTORS - 1 ? last : V * LANES);
  load_matrix<V>(at, row * sizeof(float));
  if constexpr (TALL) load_matrix<kBelow + V>(at + kMatrixRows * row, row * sizeof(float));
  if constexpr (V + 1 < VECTORS) load_sum_matrices<LANES, VECTORS, TALL, V + 1>(from, row, last);
}
template <int LANES, int VECTORS, bool TALL, int V = 0>
inline void store_sum_matrices(float* to, int64_t row, int64_t last) {
  float* const at = to + (V == VECTORS - 1 ? last : V * LANES);
  store_matrix<V>(at, row * sizeof(float));
  if constexpr (TALL) store_matrix<kBelow + V>(at + kMatrixRows * row, row * sizeof(float));
  if constexpr (V + 1 < VECTORS) store_sum_matrices<LANES, VECTORS, TALL, V + 1>(to, row, last);
}
template <int VECTORS, bool TALL, int V = 0> inline void clear_sum_matrices() {
  clear_matrix<V>();
  if constexpr (TALL) clear_matrix<kBelow + V>();
  if constexpr (V + 1 < VECTORS) clear_sum_matrices<VECTORS, TALL, V + 1>();
}
template <int LANES, int VECTORS, int LEFT, int RIGHT, bool TALL, int V = 0>
inline void multiply_matrices(const BFloat16Pair* b, int64_t row_bytes, int64_t last) {
  load_matrix<RIGHT>(b + (V == VECTORS - 1 ? last : V * LANES), row_bytes);
  add_matrix_products<V, LEFT, RIGHT>();
  if constexpr (TALL) add_matrix_products<kBelow + V, kLeftBelow, RIGHT>();
  if constexpr (V + 1 < VECTORS) multiply_matrices<LANES, VECTORS, LEFT, RIGHT, TALL, V + 1>(b, row_bytes, last);
}

// The products of one tile.
template <int LANES, int VECTORS, bool TALL>
inline void sum_matrices(const TileArgs<BFloat16Pair>& t, const BFloat16Pair* at, const BFloat16Pair* b_at) {
  const int64_t PAIR = sizeof(BFloat16Pair), a_bytes = t.a_m * PAIR, b_bytes = t.b_k * PAIR;
  const int64_t last = t.columns - LANES, whole = t.K - t.K % kMatrixStep;
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const BFloat16Pair* a = at + i * t.a_i + j * t.a_j;
      const BFloat16Pair* b = b_at + i * t.b_i + j * t.b_j;
      for (int64_t k = 0; k < whole; k += kMatrixStep) {
        load_matrix<kLeft>(a + k, a_bytes);
        if constexpr (TALL) load_matrix<kLeftBelow>(a + k + kMatrixRows * t.a_m, a_bytes);
        multiply_matrices<LANES, VECTORS, kLeft, kRight, TALL>(b + k * t.b_k, b_bytes, last);
      }
      if constexpr (!TALL) {
        if (whole == t.K) continue;
        load_matrix<kLastLeft>(a + whole, a_bytes);
        multiply_matrices<LANES, VECTORS, kLastLeft, kLastRight, false>(b + whole * t.b_k, b_bytes, last);
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

// Of more than 16 rows, each matrix of B is read for 32: weights of many taps come from the second-level cache.
template <int LANES, int VECTORS, int ROWS, class R> void matrix_tile(const TileArgs<BFloat16Pair>& t) {
  const bool TALL = ROWS > kMatrixRows, ROUNDS = sizeof(R) != sizeof(float);
  if constexpr (TALL) {
    // With the shapes of a shorter last step there would be too few registers.
    if (t.K % kMatrixStep != 0) {
      TileArgs<BFloat16Pair> part = t;
      matrix_tile<LANES, VECTORS, kMatrixRows, R>(part);
      part.a += kMatrixRows * t.a_m;
      part.c = reinterpret_cast<float*>(reinterpret_cast<R*>(t.c) + kMatrixRows * t.c_m);
      matrix_tile<LANES, VECTORS, ROWS - kMatrixRows, R>(part);
      return;
    }
  }
  const bool goes_on = !ROUNDS && t.mode == Mode::go_on, as_they_stand = !ROUNDS && !t.clamps && t.mode != Mode::add;
  const int64_t last = t.columns - LANES, row = VECTORS * LANES;
  alignas(64) float sums[ROWS * VECTORS * LANES];
  shape_matrices<LANES, ROWS>(t.K % kMatrixStep);
  int64_t tile = 0;
  do {
    R* const c = reinterpret_cast<R*>(t.c) + tile * t.c_t;
    float* const as_sums = reinterpret_cast<float*>(c);  // where they are
    if (goes_on) {
      load_sum_matrices<LANES, VECTORS, TALL>(as_sums, t.c_m, last);
    } else if (t.bias != nullptr) {
      load_sum_matrices<LANES, VECTORS, TALL>(t.bias, 0, last);
    } else {
      clear_sum_matrices<VECTORS, TALL>();
    }
    sum_matrices<LANES, VECTORS, TALL>(t, t.a + tile * t.a_t, t.b + tile * t.b_t);
    if (as_they_stand) {
      store_sum_matrices<LANES, VECTORS, TALL>(as_sums, t.c_m, last);
    } else {
      store_sum_matrices<LANES, VECTORS, TALL>(sums, row, row - LANES);
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

template <int LANES, int VECTORS, int ROWS, class R> void enter_matrix_family(Arithmetic<BFloat16Pair>& kernels) {
  MatrixRows<LANES, VECTORS, ROWS, R>::enter(next_family<LANES, VECTORS, ROWS>(kernels));
}

template <class R> void enter_matrix_families(Arithmetic<BFloat16Pair>& kernels) {
  kernels.families = 0;
  enter_matrix_family<16, 1, 16, R>(kernels);
  enter_matrix_family<16, 2, 32, R>(kernels);
  enter_matrix_family<16, 3, 16, R>(kernels);
  enter_matrix_family<16, 4, 16, R>(kernels);
  enter_matrix_family<8, 1, 16, R>(kernels);
  enter_matrix_family<8, 2, 16, R>(kernels);
  enter_matrix_family<4, 1, 16, R>(kernels);
  enter_matrix_family<4, 2, 16, R>(kernels);
}
