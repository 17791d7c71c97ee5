// The body of the broadcast kernels for one row that read B transposed; the contract is TileFamily's.

// Rows of B so far apart use two sets of a first-level cache of 64.
const int64_t kCollidingRowBytes = 2048;

// Products with a square of B, whose rows lie along the reduction: it is transposed in registers, so that weights are
// read once, where they are.
template <class T, int LANES>
NHWC_ALWAYS_INLINE void add_square(typename Lanes<T, LANES>::vector& sum, const T* a, const T* b, int64_t b_n) {
  typename Lanes<T, LANES>::vector square[LANES];
  NHWC_UNROLL(16)
  for (int l = 0; l < LANES; ++l, b += b_n) {
    NHWC_POINTER(b);
    square[l] = load<T, LANES>(b);
  }
  transpose_square<T, LANES>(square);
  NHWC_UNROLL(16)
  for (int l = 0; l < LANES; ++l) sum += square[l] * a[l];
}

// Sums of TURNS vectors of columns, which take turns, SQUARES of each at a time.
template <class T, int LANES, int TURNS, int SQUARES>
inline void sum_squares(typename Lanes<T, LANES>::vector* sums, const TileArgs<T>& t, const T* at,
                        const int64_t* column) {
  typename Lanes<T, LANES>::vector sum[TURNS];
  NHWC_UNROLL(4)
  for (int v = 0; v < TURNS; ++v) sum[v] = sums[v];
  for (int64_t i = 0; i < t.I; ++i) {
    for (int64_t j = 0; j < t.J; ++j) {
      const T* a = at + i * t.a_i + j * t.a_j;
      const T* b = t.b + i * t.b_i + j * t.b_j;
      int64_t k = 0;
      for (; k + SQUARES * LANES <= t.K; k += SQUARES * LANES) {
        NHWC_UNROLL(4)
        for (int v = 0; v < TURNS; ++v) {
          NHWC_UNROLL(4)
          for (int64_t l = k; l < k + SQUARES * LANES; l += LANES) {
            add_square<T, LANES>(sum[v], a + l, b + column[v] * t.b_n + l, t.b_n);
          }
        }
      }
      for (; k < t.K; ++k) {
        NHWC_UNROLL(4)
        for (int v = 0; v < TURNS; ++v) {
          T values[LANES];
          for (int l = 0; l < LANES; ++l) values[l] = b[(column[v] + l) * t.b_n + k];
          sum[v] += load<T, LANES>(values) * a[k];
        }
      }
    }
  }
  NHWC_UNROLL(4)
  for (int v = 0; v < TURNS; ++v) sums[v] = sum[v];
}

// A chain of one vector waits for its own sums: with short vectors longer than for memory, so that several take turns.
// What they read of a row at a time is a part of a line, or all of it where the rows of several vectors would push each
// other out of the first-level cache before the next part is read.
template <class T, int LANES, int VECTORS> void row_by_transposed(const TileArgs<T>& t) {
  typedef typename Lanes<T, LANES>::vector V;
  const int TURNS = NHWC_ISA_VECTOR_BYTES >= 64 ? 1 : VECTORS, LINE = 64 / sizeof(T) / LANES;
  const bool collide = t.b_n * int64_t(sizeof(T)) % kCollidingRowBytes == 0;
  int64_t column[VECTORS];
  NHWC_UNROLL(4)
  for (int v = 0; v < VECTORS; ++v) column[v] = v == VECTORS - 1 ? t.columns - LANES : v * LANES;
  const T* at = t.a;
  T* c = t.c;
  int64_t tiles = t.tiles;
  do {
    V sum[VECTORS];
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) {
      const T* const start = t.mode == Mode::go_on ? c : t.bias;
      sum[v] = start ? load<T, LANES>(start + column[v]) : V{};
    }
    for (int v = 0; v < VECTORS; v += TURNS) {
      if (collide) {
        sum_squares<T, LANES, TURNS, LINE>(sum + v, t, at, column + v);
      } else {
        sum_squares<T, LANES, TURNS, 1>(sum + v, t, at, column + v);
      }
    }
    // As in tile_body.h, all old values are read before any is written.
    if (t.mode == Mode::add) {
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) sum[v] += load<T, LANES>(c + column[v]);
    }
    NHWC_UNROLL(4)
    for (int v = 0; v < VECTORS; ++v) store<T, LANES>(c + column[v], sum[v]);
    at += t.a_t;
    c += t.c_t;
  } while (--tiles > 0);
}

template <class T, int VECTORS> void enter_transposed_of(Arithmetic<T>& kernels) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  for (int f = 0; f < kernels.families; ++f) {
    TileFamily<T>& family = kernels.family[f];
    if (family.lanes == LANES && family.vectors == VECTORS) {
      family.transposed_row = row_by_transposed<T, LANES, VECTORS>;
    }
  }
  if constexpr (VECTORS > 1) enter_transposed_of<T, VECTORS - 1>(kernels);
}

template <class T> void enter_transposed(Arithmetic<T>& kernels) {
  enter_transposed_of<T, NHWC_ISA_REGISTERS >= 32 ? 4 : 3>(kernels);
}
