// Which kernels plans choose among (the instruction set in use, what `restricted` asks for), and their names.
#pragma once

#include <string>

#include "plan/plan.h"
#include "system/cpu.h"

namespace conv1x1 {

// The instruction set in use, and what `restricted` asks for; the GIL guards it.
struct Selection {
  Isa isa;
  Restriction only;
};

// Found once, at import: what the environment holds later does not matter.
Isa default_isa();

Selection& selection();

// Whether plans are tried on real calls (prepared.h): unless the environment said CONV1X1_TUNE=off at import.
bool tunes();

Machine machine();

// The instruction set that a family is of, met in the table of that one or of one that adds to it.
Isa isa_of(const MultiplyFamily&, Isa);

std::string kernel_name(const MultiplyFamily&, Isa, size_t vectors);
std::string kernel_name(const char* special_method, DType arithmetic, Isa);

constexpr const char* special_methods[] = {"few_filters", "few_filters_lanes", "few_channels"};

std::string kernel_name(const Plan&, DType arithmetic);

const char* order_name(Order);
const char* orientation_name(Orientation);
const char* orientation_name(const Plan&);  // or the method, where that is for neither

}  // namespace conv1x1
