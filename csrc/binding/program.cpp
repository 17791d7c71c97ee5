// Convolutions that follow each other as one op: between two of them there is neither Python nor PyTorch's dispatcher,
// which take as long as a small layer.
#include "short_call.h"

namespace nhwc_conv {

namespace {

// Where a step finds its tensors: inputs of the program first, then results of the steps before. -1: none.
struct Step {
  int64_t source, residual, bias, kind, steps, sides, groups;
  int64_t releases_source, releases_residual;  // nobody reads them any more
};
constexpr int64_t kStepNumbers = sizeof(Step) / sizeof(int64_t), kFinishNumbers = 2;

}  // namespace

// `code`: one Step each; `numbers`: alpha and beta of each; `outputs`: the steps whose results are returned.
std::vector<Tensor> convolve_program(std::vector<Tensor> inputs, std::vector<Tensor> packed, std::vector<Tensor> biases,
                                     Tensor code, Tensor numbers, Sizes outputs) {
  const TensorInfo info = info_of(code);
  const int64_t count = info.dim == 1 ? info.sizes[0] / kStepNumbers : 0, first = inputs.size();
  if (count < 1 || static_cast<int64_t>(packed.size()) != count ||
      info_of(numbers).sizes[0] != count * kFinishNumbers) {
    fail("expected code and numbers of as many steps as packed has tensors, but got packed of length " +
         std::to_string(packed.size()) + " and code of size " + std::to_string(info.sizes[0]));
  }
  const Step* steps = reinterpret_cast<const Step*>(read<int64_t>(code));
  const double* finish = read<double>(numbers);
  std::vector<Tensor>& slots = inputs;
  slots.reserve(first + count);
  const auto at = [&](const std::vector<Tensor>& tensors, int64_t place) -> const Tensor& {
    if (place < 0 || place >= static_cast<int64_t>(tensors.size()) || !tensors[place].defined()) {
      fail("a step of the program reads tensor " + std::to_string(place) + ", which it does not have");
    }
    return tensors[place];
  };
  for (int64_t i = 0; i < count; ++i) {
    const Step& step = steps[i];
    const ShortCall call = read_short_call(step.kind, step.steps, step.sides, step.groups);
    std::optional<Tensor> bias;
    if (step.bias >= 0) bias = at(biases, step.bias);
    FinishOptions finishing = {std::nullopt, call.activation, finish[2 * i], finish[2 * i + 1], call.activation_first};
    if (step.residual >= 0) finishing.residual = at(slots, step.residual);
    slots.push_back(forward_packed(call.nchw, at(slots, step.source), packed[i], bias, call.options(), finishing));
    if (step.releases_source) slots[step.source] = Tensor();
    if (step.releases_residual) slots[step.residual] = Tensor();
  }
  std::vector<Tensor> results;
  for (const int64_t output : outputs) results.push_back(at(slots, first + output));
  return results;
}

}  // namespace nhwc_conv
