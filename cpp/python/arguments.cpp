#include "arguments.h"

namespace conv1x1 {

bool parse(const Words& words, PyObject** values, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  constexpr const char* names[] = {"x", "residual", "out", "threads"};
  const Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
  if (positional > 1) {
    PyErr_Format(PyExc_TypeError, "%s takes x alone by position, got %zd arguments: write %s, as in %s", words.who,
                 positional, words.by_name, words.usage);
    return false;
  }
  if (positional == 1) values[0] = args[0];
  const Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t k = 0; k < keywords; ++k) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, k);
    size_t i = 0;
    while (i < 4 && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) ++i;
    if (i == 4 || (!words.takes_residual && i == 1)) {
      PyErr_Format(PyExc_TypeError, "%s has no argument %R: %s", words.what, name, words.usage);
      return false;
    }
    if (i == 0 && positional == 1) {
      PyErr_Format(PyExc_TypeError, "%s got two values for argument %R", words.who, name);
      return false;
    }
    values[i] = args[positional + k];
  }
  if (values[0]) return true;
  PyErr_Format(PyExc_TypeError, "%s needs an array: %s", words.who, words.usage);
  return false;
}

}  // namespace conv1x1
