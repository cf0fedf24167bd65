// The arguments of what is called: x by position or name, the others by name. They are parsed by hand: with pybind11's
// argument loader it would cost more than a small convolution.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>

namespace conv1x1 {

struct Words {
  const char *who, *what;  // "a layer", and which
  const char* by_name;     // a call or two with arguments by name
  const char* usage;
  bool takes_residual;
};

// Fills x, residual, out and threads, which are there as null and None; false with a TypeError set.
bool parse(const Words&, PyObject** values, PyObject* const* args, size_t nargsf, PyObject* kwnames);

}  // namespace conv1x1
