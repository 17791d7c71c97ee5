// run_package LIBRARY FOLDER: runs the package that export.py has written, and compares the result with the model's.
#include <ATen/ops/allclose.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "library.h"

// A file of torch.save.
at::Tensor read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  return torch::jit::pickle_load(bytes).toTensor();
}

int main(int, char** arguments) try {
  load_nhwc_conv(arguments[1]);  // before the package, which calls the ops by name
  const std::string folder = arguments[2];
  torch::inductor::AOTIModelPackageLoader model(folder + "/model.pt2");
  const at::Tensor y = model.run({read(folder + "/input.pt")}).at(0), expected = read(folder + "/output.pt");
  const bool same = at::allclose(y, expected, 1e-4, 1e-5);
  std::printf("package: %s\n", same ? "as in Python" : "wrong");
  return same ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
