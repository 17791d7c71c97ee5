// Conversions between half precision in memory and float in registers, as torch's: to nearest even, beyond the largest
// number to infinity, denormal numbers kept whatever the processor does with those of float. Included inside the
// namespace of one instruction set, behind vector.h.

// Value by value, and the same bits as another type of their size.
template <class To, class From, int LANES> struct Convert {
  static typename Lanes<To, LANES>::vector values(typename Lanes<From, LANES>::vector from) {
    return __builtin_convertvector(from, typename Lanes<To, LANES>::vector);
  }
};
template <class To, class From> struct Convert<To, From, 1> {
  static To values(From from) { return static_cast<To>(from); }
};
template <class To, class From> inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// The bits of halves in lanes of 32 bits, and back.
template <int LANES> struct HalfBits {
  typedef typename Lanes<uint32_t, LANES>::vector U;
  typedef typename Lanes<float, LANES>::vector F;
  static U load(const uint16_t* from) {
    return Convert<uint32_t, uint16_t, LANES>::values(
        *reinterpret_cast<const typename Lanes<uint16_t, LANES>::unaligned*>(from));
  }
  static void store(uint16_t* to, U bits) {
    *reinterpret_cast<typename Lanes<uint16_t, LANES>::unaligned*>(to) =
        Convert<uint16_t, uint32_t, LANES>::values(bits);
  }
};

#if defined(__AVX2__)
// In one step each, of which the compiler makes several. The bits fit, so that nothing is saturated.
template <> struct HalfBits<8> {
  typedef Lanes<uint32_t, 8>::vector U;
  typedef Lanes<float, 8>::vector F;
  static U load(const uint16_t* from) {
    return same_bits<U>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static void store(uint16_t* to, U bits) {
    const __m256i all = same_bits<__m256i>(bits);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }
};
#endif
#if defined(__AVX512F__)
// Masked, by a mask of ones: what GCC has without one makes it warn of a value that is undefined on purpose.
template <> struct HalfBits<16> {
  typedef Lanes<uint32_t, 16>::vector U;
  typedef Lanes<float, 16>::vector F;
  static U load(const uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return same_bits<U>(_mm512_maskz_cvtepu16_epi32(-1, bits));
  }
  static void store(uint16_t* to, U bits) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_maskz_cvtepi32_epi16(-1, same_bits<__m512i>(bits)));
  }
};
#endif

#if defined(__aarch64__)
// GCC loads them one by one.
template <> struct HalfBits<4> {
  typedef Lanes<uint32_t, 4>::vector U;
  typedef Lanes<float, 4>::vector F;
  static U load(const uint16_t* from) { return same_bits<U>(vmovl_u16(vld1_u16(from))); }
  static void store(uint16_t* to, U bits) { vst1_u16(to, vmovn_u32(same_bits<uint32x4_t>(bits))); }
};
#endif

template <class A, int LANES> inline typename Lanes<A, LANES>::vector load(const BFloat16* from) {
  return same_bits<typename Lanes<A, LANES>::vector>(HalfBits<LANES>::load(&from->bits) << 16);
}

// A NaN stays one without a look: what is stored was computed from bfloat16, so that its payload ends in 16 zeros, from
// which nothing is carried.
template <int LANES>
inline typename HalfBits<LANES>::U rounded_to_bfloat16(typename HalfBits<LANES>::F value) {
  typedef typename HalfBits<LANES>::U U;
  const U bits = same_bits<U>(value);
  return (bits + (0x7fff + (bits >> 16 & 1))) >> 16;
}

template <class A, int LANES> inline void store(BFloat16* to, typename Lanes<A, LANES>::vector value) {
  HalfBits<LANES>::store(&to->bits, rounded_to_bfloat16<LANES>(value));
}

// float16 by integers, for processors, and vectors, without instructions for it.
template <int LANES> struct Float16Lanes {
  typedef typename HalfBits<LANES>::U U;
  typedef typename HalfBits<LANES>::F F;
  static F load(const uint16_t* from) {
    const U half = HalfBits<LANES>::load(from), sign = (half & 0x8000) << 16, size = half & 0x7fff;
    const U denormal = same_bits<U>(Convert<float, uint32_t, LANES>::values(size) * 0x1p-24f);
    const U number = (size << 13) + (112u << 23), special = (size << 13 | 0x7f800000);
    const U quiet = size > 0x7c00 ? special | 0x400000 : special;
    return same_bits<F>(sign | (size < 0x400 ? denormal : size < 0x7c00 ? number : quiet));
  }
  static void store(uint16_t* to, F value) {
    const U bits = same_bits<U>(value), size = bits & 0x7fffffff;
    // A denormal half counts steps of 2^-24, which is the last bit of a float from 0.5 on.
    const U denormal = same_bits<U>(same_bits<F>(size) + 0.5f) - 0x3f000000;
    const U number = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    const U finite = size < 0x38800000 ? denormal : number;
    const U infinite = size > 0x7f800000 ? (size >> 13 & 0x3ff) | 0x7e00 : (size & 0) + 0x7c00;
    // From 65520 on, which is half way from the largest number to the next.
    HalfBits<LANES>::store(to, (bits >> 16 & 0x8000) | (size < 0x477ff000 ? finite : infinite));
  }
};

#if defined(__F16C__)
template <> struct Float16Lanes<4> {
  static Lanes<float, 4>::vector load(const uint16_t* from) {
    return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(uint16_t* to, Lanes<float, 4>::vector value) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
};
template <> struct Float16Lanes<8> {
  static Lanes<float, 8>::vector load(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(uint16_t* to, Lanes<float, 8>::vector value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
};
#endif
#if defined(__AVX512F__)
template <> struct Float16Lanes<16> {
  static Lanes<float, 16>::vector load(const uint16_t* from) {
    return _mm512_maskz_cvtph_ps(-1, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static void store(uint16_t* to, Lanes<float, 16>::vector value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_maskz_cvtps_ph(-1, value, _MM_FROUND_TO_NEAREST_INT));
  }
};
#endif

#if defined(__aarch64__)
template <> struct Float16Lanes<1> {
  static float load(const uint16_t* from) { return same_bits<__fp16>(*from); }
  static void store(uint16_t* to, float value) { *to = same_bits<uint16_t>(static_cast<__fp16>(value)); }
};
template <> struct Float16Lanes<4> {
  static Lanes<float, 4>::vector load(const uint16_t* from) {
    return same_bits<Lanes<float, 4>::vector>(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))));
  }
  static void store(uint16_t* to, Lanes<float, 4>::vector value) {
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(same_bits<float32x4_t>(value))));
  }
};
#endif

template <class A, int LANES> inline typename Lanes<A, LANES>::vector load(const Float16* from) {
  return Float16Lanes<LANES>::load(&from->bits);
}

template <class A, int LANES> inline void store(Float16* to, typename Lanes<A, LANES>::vector value) {
  Float16Lanes<LANES>::store(&to->bits, value);
}

// Two vectors, which stand one behind the other.
template <class A, int LANES, class S>
inline void store_two(S* to, typename Lanes<A, LANES>::vector first, typename Lanes<A, LANES>::vector second) {
  store<A, LANES>(to, first);
  store<A, LANES>(to + LANES, second);
}

#if defined(__AVX2__)
// Packed together: each by itself takes a step more.
template <>
inline void store_two<float, 8>(BFloat16* to, Lanes<float, 8>::vector first, Lanes<float, 8>::vector second) {
  const __m256i low = same_bits<__m256i>(rounded_to_bfloat16<8>(first));
  const __m256i high = same_bits<__m256i>(rounded_to_bfloat16<8>(second));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed);
}
#endif
