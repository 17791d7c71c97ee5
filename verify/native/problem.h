// One convolution with its data and, on integers, its answers: what every pass of the driver is measured against.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "../../csrc/conv/geometry.h"

namespace verify {

// The tensors of a convolution in logical order: x [N, H, W, C], w [KH, KW, C/groups, O], bias [O], grad [N, OH, OW,
// O].
template <class V> struct Values {
  std::vector<V> x, w, bias, grad;
};

struct Problem {
  std::string name;
  nhwc_conv::ConvGeometry g;
  bool has_bias;
  Values<int> integers;      // small enough for every sum to be exact in float
  Values<double> reals;      // to see bits that depend on what they must not
  std::vector<int> y;        // the result of `integers`
  std::vector<int> dx, dw;   // its gradients of x and w
  std::vector<int> y_sizes;  // sum |x| |w| + |bias|: what errors are measured in
};

// Reads a line "name N H W C KH KW O stride_h stride_w top bottom left right dilation_h dilation_w groups bias", draws
// the data from `seed` and the name, and computes the answers. False at the end of the stream.
bool read_problem(std::istream& lines, uint64_t seed, Problem* problem);

}  // namespace verify
