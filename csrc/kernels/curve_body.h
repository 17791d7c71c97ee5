// The formulas of `Activation` in storage_kernels.h that rest on the exponential function, on vectors. Errors are at
// most 2.4 units in the last place, those of the two gelus 3.2. Where results are nearly zero that takes care: e^y is
// kept as a fraction and a power of two, which comes last, so that no step in between is denormal, and where y is
// itself rounded, what was lost of it goes into the fraction. sigmoid and silu, the most used, do without: of them,
// results that would be less than 2^-121 in size (2^-1014 in double) are zero, as in PyTorch. NaN stays NaN.

// Of the type's binary format, and in it: numbers as sums of a value with few bits and the rest.
template <class A> struct Curves;

template <> struct Curves<float> {
  typedef uint32_t Bits;
  static constexpr int kFractionBits = 23, kBias = 127, kMostExponent = 160;
  static constexpr Bits kSign = 0x80000000, kUpperHalf = 0xfffff000;
  static constexpr float kLowest = -110;  // e to this power, times this, is zero, rounded
  static constexpr float kLowestMinusOne = -20;
  static constexpr float kLowestNormal = -88, kHighest = 89;  // to whose power e is taken for zero and infinity
  static constexpr float kToInteger = 0x1.8p23f;  // added to a small number, it leaves no bits for a fraction
  static constexpr float kLog2E = 1.44269502f, kLn2[] = {0.693145752f, 1.42860682e-06f};
  // (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, by its values at Chebyshev's points.
  static constexpr float kExponential[] = {0.5f, 0.166665733f, 0.0416665487f, 0.00836377405f, 0.00139269268f};
  // 2 (1 + t) e^(t^2/2) Phi(-t) - 1, Phi the normal distribution, by powers of (t - 5) / (t + 5), likewise.
  // The idea of such a variable is Shepherd and Laframboise's ("Chebyshev approximation of (1 + 2x) exp(x^2) erfc x",
  // 1981).
  static constexpr float kNormalLimit = 14.5f, kNormalOne = 6;
  static constexpr float kNormal[] = {-0.0769683421f,  -0.183104575f,   0.0620608144f,  0.0200049896f,
                                      -0.0528038852f,  0.0490707718f,   -0.0303261895f, 0.0130637223f,
                                      -0.00340136909f, -5.4676537e-05f, 0.000419208081f};
  // 2 sqrt(2/pi), and that times 0.044715.
  static constexpr float kTanhLinear[] = {1.59576917f, -4.53406805e-08f},
                         kTanhCubic[] = {0.0713548139f, 2.39883247e-09f};
};

template <> struct Curves<double> {
  typedef uint64_t Bits;
  static constexpr int kFractionBits = 52, kBias = 1023, kMostExponent = 1100;
  static constexpr Bits kSign = 0x8000000000000000, kUpperHalf = 0xfffffffff8000000;
  static constexpr double kLowest = -753, kLowestMinusOne = -40, kLowestNormal = -709, kHighest = 710;
  static constexpr double kToInteger = 0x1.8p52;
  static constexpr double kLog2E = 1.4426950408889634, kLn2[] = {0.69314718055920821, 7.3710025651677989e-13};
  static constexpr double kExponential[] = {0.50000000000000011,    0.16666666666666669,    0.041666666666620639,
                                            0.0083333333333297926,  0.0013888888918939168,  0.00019841269864380513,
                                            2.4801518641395993e-05, 2.7557266418612302e-06, 2.7621338669142925e-07,
                                            2.5101346928350339e-08};
  static constexpr double kNormalLimit = 39.5, kNormalOne = 9;
  static constexpr double kNormal[] = {
      -0.07696834029992446,   -0.1831045636680176,    0.06206073685192676,     0.020004704770408544,
      -0.052802085932606754,  0.04907392648896181,    -0.030340830804601777,   0.013044001312043437,
      -0.0033521447018308712, 1.5583384262318955e-05, 0.0003646684313512114,   -0.00010721607502925127,
      -1.979303876085422e-05, 1.8122369870776195e-05, -1.3767944351477005e-07, -2.619850275960084e-06,
      2.491168882665919e-07,  3.9760373665799104e-07, -4.372194637502564e-08,  -6.386284175016074e-08,
      7.036043044950715e-10,  7.955439816544843e-09,  1.503902848538869e-09};
  static constexpr double kTanhLinear[] = {1.5957691216057308, -9.9693088091109202e-17};
  static constexpr double kTanhCubic[] = {0.071354816272600249, -6.175149918155315e-19};
};

template <class A, int LANES> struct Curve {
  typedef Curves<A> C;
  typedef typename Lanes<A, LANES>::vector V;
  typedef typename Lanes<typename C::Bits, LANES>::vector U;

  // A number as the sum of two.
  struct Sum {
    V high, low;
  };

  static V magnitude(V x) { return same_bits<V>(same_bits<U>(x) & ~C::kSign); }
  static V signed_as(V size, V x) { return same_bits<V>(same_bits<U>(size) | (same_bits<U>(x) & C::kSign)); }
  // Whatever is less than the bound becomes it. NaN stays.
  // One instruction, which the compiler does not choose for a bound that it knows.
  static V at_least(A bound, V x) {
    V low = V{} + bound;
    NHWC_IN_REGISTER(low);
    return x < low ? low : x;
  }
  static V at_most(A bound, V x) {
    V high = V{} + bound;
    NHWC_IN_REGISTER(high);
    return x > high ? high : x;
  }

  // By even and odd powers, which need not wait for each other.
  template <int COUNT> static V polynomial(const A (&coefficients)[COUNT], V x) {
    const int EVEN = COUNT - 1 - (COUNT - 1) % 2, ODD = COUNT - 1 - COUNT % 2;
    const V square = x * x;
    V even = V{} + coefficients[EVEN], odd = V{} + coefficients[ODD];
    NHWC_UNROLL(16)
    for (int i = EVEN - 2; i >= 0; i -= 2) even = even * square + coefficients[i];
    NHWC_UNROLL(16)
    for (int i = ODD - 2; i >= 0; i -= 2) odd = odd * square + coefficients[i];
    return odd * x + even;
  }

  // The upper half of a number's bits, whose square is exact, and the rest.
  static Sum halves(V x) {
    const V high = same_bits<V>(same_bits<U>(x) & C::kUpperHalf);
    return {high, x - high};
  }

  // A product and what was rounded off it (Dekker, "A floating-point technique for extending the available
  // precision", 1971): without fused operations, for not every instruction set has them.
  static Sum product(V x, V y) {
    const Sum a = halves(x), b = halves(y);
    V high = x * y;
    NHWC_IN_REGISTER(high);
    return {high, a.high * b.high - high + a.high * b.low + a.low * b.high + a.low * b.low};
  }

  // e^y = (1 + less_one) * 2^exponent, y at least kLowest. The power of two is kept as two factors, which are no
  // denormal numbers where it is one.
  struct Power {
    V less_one, scale1, scale2;

    V fraction() const { return less_one + A(1); }
    V fraction_of(V x) const { return x * less_one + x; }
    V scale() const { return scale1 * scale2; }
    V value() const { return fraction() * scale(); }
    // The power of two and 1 first, a sum that is mostly exact.
    V value_plus_one() const { return less_one * scale() + (scale() + A(1)); }
  };

  static V half_scale(U half) { return same_bits<V>((half + (C::kBias - C::kMostExponent / 2)) << C::kFractionBits); }

  // e^r - 1 for what remains of y behind an integer times log(2).
  static V fraction_less_one(V r) { return r * r * polynomial(C::kExponential, r) + r; }

  // From y * log2(e) + kToInteger, and the rest of y after the integer.
  static Power power_of(V shifted, V r) {
    const U above = same_bits<U>(shifted) - (same_bits<typename C::Bits>(C::kToInteger) - C::kMostExponent);
    const U half = above >> 1;
    return {fraction_less_one(r), half_scale(half), half_scale(above - half)};
  }

  static Power power(V y) {
    const V shifted = y * C::kLog2E + C::kToInteger, n = shifted - C::kToInteger;
    return power_of(shifted, y - n * C::kLn2[0] - n * C::kLn2[1]);
  }

  // e^(y + rest), with a rest that is less than the rounding of y, or little more.
  static Power power(V y, V rest) {
    const V shifted = y * C::kLog2E + C::kToInteger, n = shifted - C::kToInteger;
    return power_of(shifted, y - n * C::kLn2[0] + (rest - n * C::kLn2[1]));
  }

  // e^(-square / 2 + rest), the same.
  static Power power_of_half(V square, V rest) {
    const V shifted = square * (A(-0.5) * C::kLog2E) + C::kToInteger, n = shifted - C::kToInteger;
    return power_of(shifted, square * A(-0.5) - n * C::kLn2[0] + (rest - n * C::kLn2[1]));
  }

  // e^y - 1 for y <= 0.
  static V power_less_one(V y) {
    const Power p = power(at_least(C::kLowestMinusOne, y));
    return p.less_one * p.scale() + (p.scale() - A(1));
  }

  static Power power_of_magnitude(V x) { return power(at_least(C::kLowest, -magnitude(x))); }

  // A quotient for x >= 0 and NaN; for others times 2^exponent.
  static V scaled_by_sign(V x, V quotient, const Power& p) {
    const V one = V{} + A(1);
    return quotient * (x < V{} ? p.scale1 : one) * (x < V{} ? p.scale2 : one);
  }

  // 1 + e^-x. By one power of two, which is infinity or zero where e^-x nearly is.
  static V logistic_divisor(V x) {
    x = at_least(-C::kHighest, at_most(-C::kLowestNormal, x));
    const V shifted = x * -C::kLog2E + C::kToInteger, n = shifted - C::kToInteger;
    const V r = -x - n * C::kLn2[0] - n * C::kLn2[1];
    const U biased = same_bits<U>(shifted) - (same_bits<typename C::Bits>(C::kToInteger) - C::kBias);
    const V scale = same_bits<V>(biased << C::kFractionBits);
    return (fraction_less_one(r) + A(1)) * scale + A(1);
  }

  static V sigmoid(V x) { return A(1) / logistic_divisor(x); }
  static V silu(V x) { return x / logistic_divisor(x); }

  // (1 - e^-2|x|) / (1 + e^-2|x|), where that is large as its distance from 1.
  static V tanh(V x) {
    const Power p = power(at_least(C::kLowestMinusOne, A(-2) * magnitude(x)));
    const V e = p.value(), less_one = p.less_one * p.scale() + (p.scale() - A(1));
    const V quotient = (e > A(0.33) ? -less_one : A(2) * e) / p.value_plus_one();
    return signed_as(e > A(0.33) ? quotient : A(1) - quotient, x);
  }

  static V elu(V x, A alpha) {
    const V below = alpha * power_less_one(x > V{} ? V{} : x);
    return x > V{} ? x : below;
  }

  // x tanh(log(1 + e^x)) = x ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1): with e = e^-|x|, x (1 - q) above zero, and
  // x e (1 - q) below.
  static V mish(V x) {
    const Power p = power_of_magnitude(x);
    const V e = p.value(), square = e * e;
    x = at_least(C::kLowest, x);
    const V q =
        (x < V{} ? square + e : A(2) * square) / (x < V{} ? e * (e + A(2)) + A(2) : A(2) * e * (e + A(1)) + A(1));
    const V less_one = x < V{} ? p.less_one - q * p.less_one - q : -q;
    return x > -C::kLowestMinusOne ? x : scaled_by_sign(x, x * less_one + x, p);  // infinity times 0 is NaN
  }

  // x Phi(x), with the normal distribution Phi, which is 0 below -kNormalLimit, and 1 from kNormalOne on.
  static V gelu(V x) {
    const V size = magnitude(x), limit = x < V{} ? V{} + C::kNormalLimit : V{} + C::kNormalOne;
    const V t = size > limit ? limit : size;
    const Sum of_t = halves(t);
    const Power p = power_of_half(of_t.high * of_t.high, A(-0.5) * of_t.low * (t + of_t.high));
    // Phi(-t) = (1 + less_one) (1 + s) / d, of which what is beyond 1 is small.
    const V s = polynomial(C::kNormal, (t - A(5)) / (t + A(5))), d = A(2) * t + A(2);
    const V tail = (t * (p.less_one * s + p.less_one + s) + t) / d * p.scale1 * p.scale2;
    return x < V{} ? -tail : x - tail;
  }

  // x / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3)
  static V gelu_tanh(V x) {
    const V t = at_most(C::kNormalLimit, magnitude(x));
    const Sum square = product(t, t), cube = product(square.high, V{} + C::kTanhCubic[0]);
    // 2 sqrt(2/pi) + 0.07 t^2 with what is rounded off the sum (Knuth's two-sum).
    const V sum = cube.high + C::kTanhLinear[0], of_cube = sum - C::kTanhLinear[0];
    const V lost = C::kTanhLinear[0] - (sum - of_cube) + (cube.high - of_cube);
    const V rest = cube.low + square.low * C::kTanhCubic[0] + square.high * C::kTanhCubic[1] + C::kTanhLinear[1];
    const Sum z = product(t, sum);
    const Power p = power(at_least(C::kLowest, -z.high), -(z.low + t * (lost + rest)));
    return scaled_by_sign(x, (x < V{} ? -p.fraction_of(t) : x) / p.value_plus_one(), p);
  }
};

// Functions of values in their place. Of runs, lest constants be loaded anew for every vector; not inlined, for every
// type of storage calls them.
template <class A> using CurveFn = void (*)(A* values, int64_t count, A alpha);

template <class A, int LANES, Activation ACTIVATION>
inline typename Lanes<A, LANES>::vector curve_of_vector(typename Lanes<A, LANES>::vector x, A alpha) {
  typedef Curve<A, LANES> C;
  switch (ACTIVATION) {
    case Activation::sigmoid:
      return C::sigmoid(x);
    case Activation::silu:
      return C::silu(x);
    case Activation::tanh:
      return C::tanh(x);
    case Activation::elu:
      return C::elu(x, alpha);
    case Activation::mish:
      return C::mish(x);
    case Activation::gelu:
      return C::gelu(x);
    default:
      return C::gelu_tanh(x);
  }
}

template <class A, Activation ACTIVATION> __attribute__((noinline)) void curve(A* values, int64_t count, A alpha) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  int64_t n = 0;
  for (; n + L <= count; n += L) {
    store<A, L>(values + n, curve_of_vector<A, L, ACTIVATION>(load<A, L>(values + n), alpha));
  }
  if (n == count) return;
  A rest[L] = {};
  for (int64_t r = n; r < count; ++r) rest[r - n] = values[r];
  store<A, L>(rest, curve_of_vector<A, L, ACTIVATION>(load<A, L>(rest), alpha));
  for (int64_t r = n; r < count; ++r) values[r] = rest[r - n];
}

// Null for the activations of a few instructions.
template <class A> inline CurveFn<A> curve_of(Activation activation) {
  switch (activation) {
    case Activation::sigmoid:
      return curve<A, Activation::sigmoid>;
    case Activation::silu:
      return curve<A, Activation::silu>;
    case Activation::tanh:
      return curve<A, Activation::tanh>;
    case Activation::elu:
      return curve<A, Activation::elu>;
    case Activation::mish:
      return curve<A, Activation::mish>;
    case Activation::gelu:
      return curve<A, Activation::gelu>;
    case Activation::gelu_tanh:
      return curve<A, Activation::gelu_tanh>;
    default:
      return nullptr;
  }
}
