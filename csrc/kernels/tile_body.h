// The body of the broadcast tile kernel; its contract is TileArgs in kernels.h.

// Steps that the loop over k makes in a turn: two count and jump half as often, where both are few enough instructions
// for the processor to keep them decoded. Not on Arm, where clang loads for both before it multiplies.
#if defined(__x86_64__)
const int kStepsOfTurn = NHWC_ISA_REGISTERS < 32 ? 2 : 1;
#else
const int kStepsOfTurn = 1;
#endif

// To row m of C. Were the addresses of all rows known at once, the compiler would keep every one of them from the
// prefetches to the stores, on the stack: a tenth of a tile over 64 channels. So each STEP rows have a pointer of their
// own.
template <int STEP, class T> inline T* next_row(T* row, int m, int64_t c_m) {
  if (m % STEP != 0) return row;
  row += STEP * c_m;
  NHWC_POINTER(row);
  return row;
}

// The column that vector v begins with: the last one ends with the last column.
template <int LANES, int VECTORS> inline int64_t first_of(int v, int64_t columns) {
  return v == VECTORS - 1 ? columns - LANES : v * LANES;
}

// Products of vectors of B and a value of A. The types of elements that are multiplied in another way have a Product of
// their own.
template <class T, int LANES> struct Product {
  typedef typename Lanes<T, LANES>::vector vector;
  static vector load_b(const T* from) { return load<T, LANES>(from); }
  static void store_b(T* to, vector value) { store<T, LANES>(to, value); }
  static void add(vector& sum, vector right, T left) { sum += right * left; }
};

// Of C, which is not read where sums are rounded to it.
template <class A, int LANES, class R> inline typename Lanes<A, LANES>::vector load_sums(const R* from) {
  if constexpr (sizeof(R) == sizeof(A)) {
    return load<A, LANES>(from);
  } else {
    return typename Lanes<A, LANES>::vector{};
  }
}

// Elements of C that one step of the reduction asks for, or 0: then all lines of a tile are asked for at its beginning.
// Lines of C come while the sums are made: else the stores at the end wait for memory (measured: 2 to 20 %). All of
// them at once hold up the loads of A and B (1x1 layers: 2 to 7 %). So one comes at each step, if these meet every
// second line, whose neighbour processors bring along, of rows that the tile has much of, and that leave room in the
// first-level cache.
template <class T, class R, int ROWS> inline int64_t lines_step(const TileArgs<T>& t) {
  const int64_t line = 64 / sizeof(R), steps = t.I * t.J * t.K, rows_of_c = ROWS * t.c_m;
  if (rows_of_c > steps * 2 * line || t.c_m > 8 * t.columns || rows_of_c > 256 * line) return 0;
  return (rows_of_c + steps - 1) / (steps > 0 ? steps : 1);
}

// A: type of the accumulators. LANES, VECTORS, ROWS: the tile's shape. COLUMNS_OF_A: rows of C are neighbours in A
// (a_m = 1), else consecutive products are (a_k = 1): the constant stride becomes part of the instructions. PACKS: B is
// copied on the way, by stores that hide behind the products. R: type of C; if it is not A, sums are rounded to it.
template <class T, class A, int LANES, int VECTORS, int ROWS, bool COLUMNS_OF_A, bool PACKS, class R = A>
void tile(const TileArgs<T>& t) {
  typedef typename Lanes<A, LANES>::vector V;
  // Every fourth row of A has a pointer, which moves with k, and three distances serve all rows. Where a turn makes two
  // steps, each row has one that stays, and k is its index.
  const bool INDEXED = kStepsOfTurn > 1 && !COLUMNS_OF_A && ROWS <= 6;
  const int NEAR = INDEXED ? 1 : COLUMNS_OF_A ? ROWS : 4, POINTERS = (ROWS + NEAR - 1) / NEAR;
  // Where the accumulators, all vectors of B and one value of A are one too many for the registers, the last vector
  // stays in memory. A pointer of its own: products of a vector at two registers' sum are two instructions inside.
  const int TOGETHER = ROWS * VECTORS + VECTORS + 1 > NHWC_ISA_REGISTERS ? VECTORS - 1 : VECTORS;
  // Rows of C with few vectors share a pointer: else stores wait for a chain of additions.
  const int STEP = VECTORS <= 2 ? 4 : VECTORS == 3 ? 2 : 1;
  const bool ROUNDS = sizeof(R) != sizeof(A);
  // What the loops and the stores need is read anew where they begin, by way of this pointer: kept from here on, it
  // goes to the stack and back, in every tile (16 output channels, 72 products each: 6 % of the time).
  const TileArgs<T>* args = &t;
  const bool goes_on = !ROUNDS && t.mode == Mode::go_on;
  // Where rows of C are neighbours in A, as in weight gradients, lines of C one by one gain nothing.
  const int64_t c_step = COLUMNS_OF_A || goes_on ? 0 : lines_step<T, R, ROWS>(t);
  const T *at = t.a, *bt = t.b, *next = t.ahead == nullptr ? t.a : t.ahead;
  R* c = reinterpret_cast<R*>(t.c);
  int64_t tiles = t.tiles;
  do {
    NHWC_POINTER(args);
    int64_t columns = args->columns, c_m = args->c_m;
    R* row = c;
    const R* line = c;
    V sum[ROWS][VECTORS];
    if (goes_on) {
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; row = next_row<STEP>(row, ++m, c_m)) {
        NHWC_UNROLL(4)
        for (int v = 0; v < VECTORS; ++v)
          sum[m][v] = load_sums<A, LANES>(row + m % STEP * c_m + first_of<LANES, VECTORS>(v, columns));
      }
    } else {
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) {
        const V start = args->bias ? load<A, LANES>(args->bias + first_of<LANES, VECTORS>(v, columns)) : V{};
        NHWC_UNROLL(16)
        for (int m = 0; m < ROWS; ++m) sum[m][v] = start;
      }
      if (c_step == 0) {
        NHWC_UNROLL(16)
        for (int m = 0; m < ROWS; row = next_row<STEP>(row, ++m, c_m)) {
          NHWC_UNROLL(4)
          for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(row + m % STEP * c_m + v * LANES, 1);
        }
      }
    }
    T* packed = PACKS ? args->packed : nullptr;
    // Where the sums at (i, j) begin: by multiplications instead, a tile of 27 products each took a twelfth longer.
    const T *a_i = at, *b_i = bt, *ahead_i = next;
    for (int64_t i = args->J > 0 ? args->I : 0; i > 0; --i) {
      const T *a_j = a_i, *b_j = b_i, *ahead_j = ahead_i;
      for (int64_t j = args->J;;) {
        NHWC_POINTER(args);
        const int64_t a_m = COLUMNS_OF_A ? 1 : args->a_m;
        const int64_t a_k = COLUMNS_OF_A ? args->a_k : 1;
        const int64_t b_k = args->b_k;
        columns = args->columns;
        const T* a[POINTERS];
        a[0] = INDEXED ? a_j + args->K : a_j;
        NHWC_POINTER(a[0]);
        NHWC_UNROLL(8)
        for (int p = 1; p < POINTERS; ++p) {
          a[p] = a[p - 1] + NEAR * a_m;
          NHWC_POINTER(a[p]);
        }
        const T* b = b_j;
        const T* b_last = b + columns - LANES;
        if (TOGETHER < VECTORS) NHWC_POINTER(b_last);
        const T* ahead = ahead_j;
        const int64_t ahead_k = args->ahead_k;
        NHWC_UNROLL_BY(kStepsOfTurn)
        for (int64_t k = -args->K; k < 0; ++k) {
          typename Product<T, LANES>::vector right[VECTORS];
          NHWC_UNROLL(4)
          for (int v = 0; v < TOGETHER; ++v) {
            right[v] = Product<T, LANES>::load_b(b + first_of<LANES, VECTORS>(v, columns));
            if (PACKS) Product<T, LANES>::store_b(packed + first_of<LANES, VECTORS>(v, columns), right[v]);
          }
          NHWC_UNROLL(16)
          for (int m = 0; m < ROWS; ++m) {
            const T left = a[m / NEAR][INDEXED ? k : m % NEAR * a_m];
            NHWC_UNROLL(4)
            for (int v = 0; v < TOGETHER; ++v) Product<T, LANES>::add(sum[m][v], right[v], left);
            if (TOGETHER < VECTORS) {
              NHWC_FORGET_MEMORY();
              Product<T, LANES>::add(sum[m][VECTORS - 1], Product<T, LANES>::load_b(b_last), left);
            }
          }
          if (TOGETHER < VECTORS) {
            if (PACKS) Product<T, LANES>::store_b(packed + columns - LANES, Product<T, LANES>::load_b(b_last));
            b_last += b_k;
            NHWC_COUNTER(b_last);
          }
          NHWC_UNROLL(4)
          for (int p = 0; p < POINTERS && !INDEXED; ++p) {
            a[p] += a_k;
            NHWC_COUNTER(a[p]);
          }
          b += b_k;
          if (PACKS) packed += VECTORS * LANES;
          // Into the first-level cache: from the second, weights in pieces come too late (Zen 4: 4 to 15 %).
          __builtin_prefetch(ahead, 0, 3);
          ahead += ahead_k;
          if (!COLUMNS_OF_A) {
            __builtin_prefetch(line, 1);
            line += c_step;
            NHWC_POINTER(line);
          }
        }
        if (--j == 0) break;
        NHWC_POINTER(args);
        a_j += args->a_j;
        b_j += args->b_j;
        ahead_j += args->ahead_j;
      }
      a_i += args->a_i;
      b_i += args->b_i;
      ahead_i += args->ahead_i;
    }
    NHWC_POINTER(args);
    columns = args->columns;
    c_m = args->c_m;
    // All old values are read before any is written: the last vector may overlap the one before it.
    if (!ROUNDS && args->mode == Mode::add) {
      row = c;
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; row = next_row<STEP>(row, ++m, c_m)) {
        NHWC_UNROLL(4)
        for (int v = 0; v < VECTORS; ++v)
          sum[m][v] += load_sums<A, LANES>(row + m % STEP * c_m + first_of<LANES, VECTORS>(v, columns));
      }
    }
    if (!COLUMNS_OF_A && !PACKS && args->clamps) {
      const A low = args->low, high = args->high;
      NHWC_UNROLL(16)
      for (int m = 0; m < ROWS; ++m) {
        NHWC_UNROLL(4)
        for (int v = 0; v < VECTORS; ++v) sum[m][v] = activate<Activation::clamp>(sum[m][v], low, high);
      }
    }
    row = c;
    NHWC_UNROLL(16)
    for (int m = 0; m < ROWS; row = next_row<STEP>(row, ++m, c_m)) {
      NHWC_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v)
        store<A, LANES>(row + m % STEP * c_m + first_of<LANES, VECTORS>(v, columns), sum[m][v]);
    }
    at += args->a_t;
    c += args->c_t;
    bt += args->b_t;
    next += args->a_t;
  } while (--tiles > 0);
}

// Enters tile<..., ROWS> down to tile<..., 1> into a family.
template <class T, class R, int LANES, int VECTORS, int ROWS> struct TileRows {
  static void enter(TileFamily<T>& family) {
    family.rows[ROWS - 1] = tile<T, Sum<T>, LANES, VECTORS, ROWS, false, false>;
    family.columns_of_a[ROWS - 1] = tile<T, Sum<T>, LANES, VECTORS, ROWS, true, false>;
    if constexpr (!kIsPair<T>) family.packing_rows[ROWS - 1] = tile<T, T, LANES, VECTORS, ROWS, false, true>;
    if constexpr (sizeof(R) != sizeof(T)) {
      family.rounding_rows[ROWS - 1] = tile<T, Sum<T>, LANES, VECTORS, ROWS, false, false, R>;
    }
    TileRows<T, R, LANES, VECTORS, ROWS - 1>::enter(family);
  }
};
template <class T, class R, int LANES, int VECTORS> struct TileRows<T, R, LANES, VECTORS, 0> {
  static void enter(TileFamily<T>&) {}
};

// The next family of these kernels, still without functions.
template <int LANES, int VECTORS, int ROWS, class T> TileFamily<T>& next_family(Arithmetic<T>& kernels) {
  static_assert(ROWS <= kMaxTileRows && LANES * VECTORS <= kMaxTileColumns,
                "callers keep tiles in buffers of that size");
  TileFamily<T>& family = kernels.family[kernels.families++];
  family.lanes = LANES;
  family.vectors = VECTORS;
  family.max_rows = family.rows_of_many = ROWS;
  return family;
}

template <class T, class R, int LANES, int VECTORS, int ROWS, int ROWS_OF_MANY = ROWS>
void enter_family(Arithmetic<T>& kernels) {
  TileFamily<T>& family = next_family<LANES, VECTORS, ROWS>(kernels);
  family.rows_of_many = ROWS_OF_MANY;
  TileRows<T, R, LANES, VECTORS, ROWS>::enter(family);
}

// Vectors narrower than the widest serve fewer output channels than the widest has lanes.
template <class T, class R, int LANES> struct NarrowFamilies {
  static void enter(Arithmetic<T>& kernels) {
    enter_family<T, R, LANES, 1, NHWC_ISA_REGISTERS >= 32 ? 14 : 12>(kernels);
    enter_family<T, R, LANES, 2, 6>(kernels);
    NarrowFamilies<T, R, narrower<T>(LANES)>::enter(kernels);
  }
};
template <class T, class R> struct NarrowFamilies<T, R, 1> {
  static void enter(Arithmetic<T>& kernels) {
    if constexpr (!kIsPair<T>) {
      enter_family<T, R, 1, 1, 8>(kernels);
      enter_family<T, R, 1, 2, 6>(kernels);
      enter_family<T, R, 1, 3, 4>(kernels);
    }
  }
};

// Shapes that keep rows*vectors accumulators, the vectors of B and one value of A in the register file.
// R: the type of storage, to which they round.
template <class R, class T> void enter_families(Arithmetic<T>& kernels) {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  kernels.families = 0;
#if NHWC_ISA_REGISTERS >= 32
  enter_family<T, R, LANES, 1, 16>(kernels);
  enter_family<T, R, LANES, 2, 14>(kernels);
  enter_family<T, R, LANES, 3, 9>(kernels);
#if defined(__x86_64__)
  enter_family<T, R, LANES, 4, 7, 6>(kernels);  // seven rows keep the last vector of B in memory, and load it for each
#else
  enter_family<T, R, LANES, 4, 6>(kernels);
#endif
#else
  enter_family<T, R, LANES, 1, 12>(kernels);
  enter_family<T, R, LANES, 2, 6>(kernels);
  enter_family<T, R, LANES, 3, 4>(kernels);
#endif
  NarrowFamilies<T, R, narrower<T>(LANES)>::enter(kernels);
}
