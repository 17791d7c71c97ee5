// Which instruction set runs: the best one the processor has, unless NHWC_CONV_ISA or a test says otherwise.
#pragma once

#include <string>

#include "kernels.h"

namespace nhwc_conv {

// The kernels in use. Choosing happens once, in initialize_kernels() or select_kernels(), never per call. Throws where
// NHWC_CONV_ISA names no usable instruction set.
const KernelTable& active_kernels();

// Honours NHWC_CONV_ISA. Returns false, and leaves none active, if that names no usable instruction set.
bool initialize_kernels();

// Makes the named instruction set the active one; false if it is unknown, not built, or not supported by the processor.
bool select_kernels(const char* name);

// Names of the usable instruction sets, best first; null past the end.
const char* usable_instruction_set(int index);

// All of them, for messages.
std::string usable_instruction_sets();

// Bytes in the widest vector of each instruction set that is built in, usable or not; zero past the end.
int64_t built_vector_bytes(int index);

}  // namespace nhwc_conv
