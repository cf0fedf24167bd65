// The layer's type, `_conv1x1.Layer`. Its call parses the arguments by hand: with pybind11's argument loader it would
// cost more than a small convolution.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "gil.h"
#include "settings.h"
#include "weights/weights.h"

namespace conv1x1 {

struct LayerState {
  Settings settings;
  py::object spec;  // keeps the arrays that `weights` reads
  Pins pins;        // of them
  std::unique_ptr<Weights> weights;
};

// The layer's arrays are looked at last: to read its settings, and to pin the arrays, may run Python.
std::unique_ptr<LayerState> make_state(py::tuple spec);

extern PyType_Spec layer_type;
extern PyObject* layer_class;  // made of it with the module, and never gone

// Of an instance of that class; null for anything else.
const LayerState* state_of(PyObject* object);

// Says in words that `inspect` reads how objects of a type are called; a slot's own words are (*args, **kwargs). The
// slot stays as it is: a function of Python's in its place would take twice the time of a small call.
void document_call(const py::type& type, const std::string& arguments, const std::string& summary);

}  // namespace conv1x1
