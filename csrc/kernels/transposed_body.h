// The body of the broadcast kernels for one row that read B transposed; the contract is TileFamily's.

// Squares of B are transposed in registers: weights that lie along the reduction are read once, where they are. A chain
// of one vector waits for its own sums, so VECTORS of them take turns.
template <class T, int LANES, int VECTORS> void row_by_transposed(const TileArgs<T>& t) {
  typedef typename Lanes<T, LANES>::vector V;
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
    for (int64_t i = 0; i < t.I; ++i) {
      for (int64_t j = 0; j < t.J; ++j) {
        const T* a = at + i * t.a_i + j * t.a_j;
        const T* b = t.b + i * t.b_i + j * t.b_j;
        int64_t k = 0;
        for (; k + LANES <= t.K; k += LANES) {
          NHWC_UNROLL(4)
          for (int v = 0; v < VECTORS; ++v) {
            V square[LANES];
            const T* from = b + column[v] * t.b_n + k;
            NHWC_UNROLL(16)
            for (int l = 0; l < LANES; ++l, from += t.b_n) {
              NHWC_POINTER(from);
              square[l] = load<T, LANES>(from);
            }
            Exchange<T, LANES, LANES / 2>::run(square);
            NHWC_UNROLL(16)
            for (int l = 0; l < LANES; ++l) sum[v] += square[l] * a[k + l];
          }
        }
        for (; k < t.K; ++k) {
          NHWC_UNROLL(4)
          for (int v = 0; v < VECTORS; ++v) {
            T values[LANES];
            for (int l = 0; l < LANES; ++l) values[l] = b[(column[v] + l) * t.b_n + k];
            sum[v] += load<T, LANES>(values) * a[k];
          }
        }
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
