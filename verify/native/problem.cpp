#include "problem.h"

#include <cstdio>
#include <cstdlib>
#include <istream>
#include <random>

namespace verify {

namespace {

using nhwc_conv::ConvGeometry;

// The definition: seven loops, the two gradients in the same nest.
void solve(Problem* p) {
  const ConvGeometry& g = p->g;
  const int64_t Cg = g.C_per_group(), Og = g.O_per_group();
  const Values<int>& v = p->integers;
  p->y.assign(v.grad.size(), 0);
  p->y_sizes.assign(v.grad.size(), 0);
  p->dx.assign(v.x.size(), 0);
  p->dw.assign(v.w.size(), 0);
  for (int64_t n = 0; n < g.N; ++n) {
    for (int64_t y = 0; y < g.h.output; ++y) {
      for (int64_t x = 0; x < g.w.output; ++x) {
        const int64_t out = ((n * g.h.output + y) * g.w.output + x) * g.O;
        for (int64_t o = 0; o < g.O; ++o) {
          p->y[out + o] = p->has_bias ? v.bias[o] : 0;
          p->y_sizes[out + o] = std::abs(p->y[out + o]);
        }
        for (int64_t i = 0; i < g.h.kernel; ++i) {
          const int64_t row = y * g.h.stride + i * g.h.dilation - g.h.pad;
          if (row < 0 || row >= g.h.input) continue;
          for (int64_t j = 0; j < g.w.kernel; ++j) {
            const int64_t column = x * g.w.stride + j * g.w.dilation - g.w.pad;
            if (column < 0 || column >= g.w.input) continue;
            const int64_t in = ((n * g.h.input + row) * g.w.input + column) * g.C;
            for (int64_t c = 0; c < Cg; ++c) {
              const int64_t weight = ((i * g.w.kernel + j) * Cg + c) * g.O;
              for (int64_t o = 0; o < g.O; ++o) {
                const int64_t from = in + o / Og * Cg + c;
                p->y[out + o] += v.x[from] * v.w[weight + o];
                p->y_sizes[out + o] += std::abs(v.x[from] * v.w[weight + o]);
                p->dx[from] += v.grad[out + o] * v.w[weight + o];
                p->dw[weight + o] += v.grad[out + o] * v.x[from];
              }
            }
          }
        }
      }
    }
  }
}

void draw(std::mt19937_64& random, size_t count, std::vector<int>* integers, std::vector<double>* reals) {
  integers->resize(count);
  reals->resize(count);
  for (size_t e = 0; e < count; ++e) {
    const uint64_t bits = random();
    (*integers)[e] = static_cast<int>(bits % 7) - 3;
    (*reals)[e] = static_cast<double>(static_cast<int64_t>(bits >> 11)) * 0x1p-52 - 1;
  }
}

// Not the formula of csrc/conv/geometry.h, which is looked at too: the last output whose last tap is inside, and one.
int64_t outputs(int64_t padded, int64_t kernel, int64_t stride, int64_t dilation) {
  int64_t count = 0;
  while (count * stride + (kernel - 1) * dilation < padded) ++count;
  return count;
}

void require(bool right, const char* what) {
  if (right) return;
  std::printf("FAILED %s\n", what);
  std::exit(1);
}

}  // namespace

bool read_problem(std::istream& lines, uint64_t seed, Problem* p) {
  int64_t N, H, W, C, KH, KW, O, sh, sw, top, bottom, left, right, dh, dw, groups;
  lines >> p->name >> N >> H >> W >> C >> KH >> KW >> O >> sh >> sw >> top >> bottom >> left >> right >> dh >> dw;
  if (!(lines >> groups >> p->has_bias)) return false;
  p->g = {N, C, O, groups, {H, 0, KH, sh, dh, top}, {W, 0, KW, sw, dw, left}};
  p->g.h.output = outputs(H + top + bottom, KH, sh, dh);
  p->g.w.output = outputs(W + left + right, KW, sw, dw);
  require(p->g.h.output == nhwc_conv::output_size(H, KH, sh, dh, top + bottom) &&
              p->g.w.output == nhwc_conv::output_size(W, KW, sw, dw, left + right),
          "output_size");
  std::seed_seq sequence(p->name.begin(), p->name.end());
  std::mt19937_64 random(sequence);
  random.seed(random() ^ seed);
  draw(random, N * H * W * C, &p->integers.x, &p->reals.x);
  draw(random, KH * KW * (C / groups) * O, &p->integers.w, &p->reals.w);
  draw(random, O, &p->integers.bias, &p->reals.bias);
  draw(random, N * p->g.h.output * p->g.w.output * O, &p->integers.grad, &p->reals.grad);
  solve(p);
  return true;
}

}  // namespace verify
