// What a call has to do with the interpreter: giving up the GIL, signals meanwhile, pins on arrays, exceptions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <initializer_list>
#include <new>

#include "system/nervous.h"

namespace conv1x1 {

namespace py = pybind11;

// Below these, giving up the GIL costs more than another thread could gain: of a call's forecast, and of integers that
// are looked through.
constexpr double microseconds_worth_releasing = nervous ? 0 : 10;
constexpr size_t elements_worth_releasing = nervous ? 1 : size_t{1} << 17;

// Runs what may end this thread: while the interpreter is on its way out, Python before 3.14 ends a daemon thread where
// it wants the GIL, by unwinding its stack. That would tear a job away from the helpers at it, and abort in a function
// that is noexcept; the thread sleeps until the process is gone instead, as it does since 3.14. `body` is plain C.
template <class Body>
auto outlast_exit(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    for (;;) pause();
  }
}

// Calls a function of the package's; null with an error set.
template <class... Arguments>
PyObject* call_package(const char* module, const char* function, Arguments... arguments) noexcept {
  return outlast_exit([&]() -> PyObject* {
    PyObject* found = PyImport_ImportModule(module);
    if (!found) return nullptr;
    PyObject* called = PyObject_GetAttrString(found, function);
    Py_DECREF(found);
    if (!called) return nullptr;
    PyObject* result = PyObject_CallFunctionObjArgs(called, arguments..., nullptr);
    Py_DECREF(called);
    return result;
  });
}

// The GIL is given up as long as it lives.
class WithoutGil {
 public:
  WithoutGil() = default;
  ~WithoutGil() { take(); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Whether a handler of a signal that came meanwhile raised.
  bool interrupted() {
    take();
    const bool raised = PyErr_CheckSignals() != 0;
    state_ = PyEval_SaveThread();
    return raised;
  }

 private:
  void take() noexcept {
    outlast_exit([this] { PyEval_RestoreThread(state_); });
  }

  PyThreadState* state_ = PyEval_SaveThread();
};

// Weak references to arrays: as long as there are some, NumPy refuses to resize an array, whatever its refcheck. A view
// cannot be resized, but the array whose memory it shows can.
//
// To make one may run Python (a collection of garbage does), which may resize what is not pinned yet: addresses and
// shapes are to be read afterwards.
class Pins {
 public:
  Pins() = default;
  Pins(std::initializer_list<PyObject*> arrays) {
    for (PyObject* array : arrays) add(array);
  }

  // An array, or anything else, which is left alone.
  void add(PyObject* array) {
    PyTypeObject* ndarray = py::detail::npy_api::get().PyArray_Type_;
    PyObject* owner = nullptr;
    while (array && PyObject_TypeCheck(array, ndarray)) {
      owner = array;
      array = py::detail::array_proxy(owner)->base;
    }
    if (!owner) return;
    PyObject* pin = PyWeakref_NewRef(owner, nullptr);
    if (!pin) throw py::error_already_set();
    pins_[count_++] = py::reinterpret_steal<py::object>(pin);
  }

 private:
  py::object pins_[5];
  size_t count_ = 0;
};

// Python's signals, looked at every 50 ms while a call runs without the GIL.
class Interruption {
 public:
  explicit Interruption(WithoutGil& without_gil) : without_gil_(without_gil) {}

  static bool asked(void* self) {
    Interruption& i = *static_cast<Interruption*>(self);
    const auto now = std::chrono::steady_clock::now();
    if (now - i.last_ < std::chrono::milliseconds(50)) return false;
    const bool raised = i.without_gil_.interrupted();
    i.last_ = std::chrono::steady_clock::now();
    return raised;
  }

 private:
  WithoutGil& without_gil_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Runs a body that may throw, for the entries that CPython calls directly.
template <class Body>
PyObject* guarded(Body body) noexcept {
  try {
    return body();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace conv1x1
