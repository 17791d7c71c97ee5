// Numbers in the types of storage, one by one and by their definition: what the vectors of kernels/half.h must agree
// with.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "../../csrc/kernels/kernels.h"

namespace verify {

// Bits of the significand, the first one included.
template <class S> constexpr int kDigits = std::numeric_limits<S>::digits;
template <> inline constexpr int kDigits<nhwc_conv::BFloat16> = 8;
template <> inline constexpr int kDigits<nhwc_conv::Float16> = 11;

// The nearest number of type S, to even, of those that are neither denormal nor beyond the largest.
template <class S> double nearest(double value) {
  if (value == 0) return value;
  int exponent;
  std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, kDigits<S> - exponent)), exponent - kDigits<S>);
}

template <class S> S stored(double value) { return S(value); }
template <> inline nhwc_conv::BFloat16 stored(double value) {
  const float rounded = static_cast<float>(nearest<nhwc_conv::BFloat16>(value));
  uint32_t bits;
  std::memcpy(&bits, &rounded, sizeof(bits));
  return {static_cast<uint16_t>(bits >> 16)};
}
template <> inline nhwc_conv::Float16 stored(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return {0x7e00};
  const double size = std::fabs(nearest<nhwc_conv::Float16>(value));
  if (size < 0x1p-14) return {static_cast<uint16_t>(sign | int(std::nearbyint(size * 0x1p24)))};
  int exponent;
  const double fraction = std::frexp(size, &exponent);
  return {static_cast<uint16_t>(sign | ((exponent + 14) << 10) | (int(fraction * 2048) - 1024))};
}

template <class S> double value_of(S stored) { return static_cast<double>(stored); }
inline double value_of(nhwc_conv::BFloat16 stored) {
  const uint32_t bits = uint32_t(stored.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline double value_of(nhwc_conv::Float16 stored) {
  const int exponent = stored.bits >> 10 & 31, fraction = stored.bits & 1023;
  const double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return stored.bits & 0x8000 ? -size : size;
}

}  // namespace verify
