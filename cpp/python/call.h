// A call, from arrays to the result: types settled, plan looked up, result allocated, the GIL given up where that pays.
//
// A call that is canonical (ndarrays of supported types and fitting shapes) runs from here. One that is not, wrong or
// merely unusual, is handed to Python (`conv1x1.checks`), which says what is wrong or makes it canonical.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <utility>

#include "arrays.h"
#include "call/problem.h"
#include "call/result.h"
#include "gil.h"
#include "settings.h"
#include "weights/weights.h"

namespace conv1x1 {

// A call is attempted as its arrays lie there: nothing between a look at them and the end runs Python or gives up the
// GIL. Where it has to, it is attempted once more with its arrays pinned.
struct Attempt {
  bool pinned = false;
  py::object result;     // that the attempt before has made
  bool dropped = false;  // what it came to is no result: the call is not canonical
};

// Runs attempt(Attempt&), which gives a result (null with an error set), or nothing where `arrays` must be pinned
// first.
template <class Body>
PyObject* attempt_call(std::initializer_list<PyObject*> arrays, Body body) {
  Attempt attempt;
  if (const std::optional<PyObject*> done = body(attempt)) return *done;
  const Pins pins(arrays);
  attempt.pinned = true;
  return *body(attempt);
}

// The arrays of a call that its types depend on.
struct Operands {
  Array x, residual, out;
  bool adds = false;
  Range x_range{}, residual_range{};  // once the types are settled

  const Range* added() const { return adds ? &residual_range : nullptr; }

  // Takes shapes and strides out of the ndarrays, where others may set them while the GIL is given up.
  void keep_shapes() {
    ptrdiff_t* to = kept_;
    for (Array* a : {&x, &residual, &out})
      for (const ptrdiff_t** numbers : {&a->shape, &a->strides}) {
        std::copy_n(*numbers, a->rank, to);
        *numbers = to;
        to += a->rank;
      }
  }

 private:
  ptrdiff_t kept_[6 * max_rank];
};

// As choose_types; for integers it takes arithmetic.
Refusal choose(const Settings& s, Range x, const Range* residual, const DType* asked, Types& types);

// Chooses the types of a call. Of wide integers all that their types can hold is reckoned with; where that is too much
// for exact sums, what they hold, or of x's, with a `limit`, what it then says, which is to be seen to while x is read.
// False with an error set; nothing where the arrays must be pinned first.
std::optional<bool> settle_types(const Settings& s, const Geometry& g, const DType* asked, int threads, bool pinned,
                                 Operands& o, Types& types, Refusal& refusal, std::optional<Limit>* limit = nullptr);

// Whether a result of these types can be one of complex numbers, whose parts are float32 or float64; they are then.
bool may_be_complex(const Settings& s, Types& types);

Form form_of(const Weights&, const Array& x);

PyObject* not_canonical();

// How many threads a call may take, None for as many as are set; false where that is no number of threads.
bool number_of_threads(PyObject* object, int& threads);

// Where a call's result goes: to `out`, or, where that is None, to a new array that lies as x does. What `out` may
// share with what is read, or its elements with each other, comes between: then the result is copied to it (not
// `in_place`).
struct Destination {
  PyObject *x_object, *out_object;
  const Array &x, &out;
  bool in_place;
};

// Calls run(y), of which the result is as `compute`'s, for a result of that shape and type, and returns as `call` does.
// `asked_number`: NumPy's of the type that was asked for, or -1.
template <class Run>
std::optional<PyObject*> deliver(const Destination& to, const Geometry& g, ElementType type, int asked_number,
                                 Attempt& attempt, Run run) {
  if (to.in_place) {
    const std::optional<bool> done = run(to.out);
    if (!done) return std::nullopt;
    if (!*done) return nullptr;
    Py_INCREF(to.out_object);
    return to.out_object;
  }
  const bool copied = to.out_object != Py_None;
  int number = type_number(type);
  if (type.dtype == DType::bfloat16)  // the one that was asked for, or else x's
    number = copied              ? number_of(py::detail::array_proxy(to.out_object)->descr)
             : asked_number >= 0 ? asked_number
                                 : number_of(py::detail::array_proxy(to.x_object)->descr);
  // As x lies; what is copied to `out` afterwards, as `out` does.
  const bool c_order = contiguous(copied ? to.out_object : to.x_object);
  ptrdiff_t strides[max_rank];
  if (!c_order) lie_as(copied ? to.out : to.x, g, type, strides);
  py::object result = std::move(attempt.result);
  Array y;
  if (!result || !view(result.ptr(), y) || y.dtype != type.dtype || y.is_complex != type.is_complex ||
      !std::equal(y.shape, y.shape + y.rank, g.shape, g.shape + g.rank)) {
    result = py::reinterpret_steal<py::object>(
        new_array(g.rank, g.shape, c_order ? nullptr : strides, number));  // which runs no Python
    if (!result || !view(result.ptr(), y)) return nullptr;
  }
  const std::optional<bool> done = run(y);
  if (!done) {
    attempt.result = std::move(result);
    return std::nullopt;
  }
  if (attempt.dropped) return not_canonical();
  if (!*done) return nullptr;
  if (!copied) return result.release().ptr();
  if (py::detail::npy_api::get().PyArray_CopyInto_(to.out_object, result.ptr()) != 0) return nullptr;
  Py_INCREF(to.out_object);
  return to.out_object;
}

// The result as a new reference; NotImplemented for a call that is not canonical; null with an error set; nothing where
// the arrays must be pinned first.
std::optional<PyObject*> call(const Settings& s, const Weights& weights, PyObject* x_object, PyObject* residual_object,
                              PyObject* out_object, PyObject* threads_object, bool checked, Attempt& attempt);

}  // namespace conv1x1
