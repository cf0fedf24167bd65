#include "functions.h"

#include <algorithm>
#include <optional>

#include "call.h"
#include "layer.h"
#include "run/moments.h"
#include "selection.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

// conv1x1(x, w, bias, channel_axis, stride, groups, activation, residual, dtype, out, threads): the plain case,
// two arrays of one type with w of shape (K, C); NotImplemented for every other.
std::optional<PyObject*> one_shot_attempt(PyObject* const* args, Attempt& attempt) {
  Array x, w, bias;
  if (!view(args[0], x) || !view(args[1], w) || w.rank != 2 || w.dtype != x.dtype ||
      (x.dtype != DType::float32 && x.dtype != DType::float64) || w.swapped || w.is_complex)
    return not_canonical();
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(w.dtype));
  if (w.strides[1] != size || w.strides[0] != w.shape[1] * size) return not_canonical();
  const bool biased = args[2] != Py_None;
  if (biased && (!view(args[2], bias) || bias.dtype != x.dtype || bias.swapped || bias.is_complex || bias.rank != 1 ||
                 bias.shape[0] != w.shape[0] || bias.strides[0] != static_cast<ptrdiff_t>(size_of(bias.dtype))))
    return not_canonical();
  const auto is_one = [](PyObject* o) { return PyLong_CheckExact(o) && clamped(o) == 1; };
  if (!PyLong_CheckExact(args[3]) || !is_one(args[4]) || !is_one(args[5]) || args[6] != Py_None || args[8] != Py_None)
    return not_canonical();
  Settings s;
  s.channel_axis = static_cast<int>(std::clamp<long>(clamped(args[3]), -1000, 1000));
  s.out_channels = static_cast<size_t>(w.shape[0]);
  const Weights weights({w.data, w.dtype}, {bias.data, bias.dtype}, {}, 1, s.out_channels,
                        static_cast<size_t>(w.shape[1]));
  return call(s, weights, args[0], args[7], args[9], args[10], false, attempt);
}

PyObject* one_shot(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    if (count != 11) return not_canonical();
    return attempt_call({args[0], args[1], args[2], args[7], args[9]},
                        [&](Attempt& attempt) { return one_shot_attempt(args, attempt); });
  });
}

// The types of a call with these (canonical) arrays; or why it is refused, and the numbers to say so with.
py::dict types_of(const py::tuple& spec, const py::object& x, const py::object& residual, const py::object& out) {
  const auto state = make_state(spec);
  const Settings& s = state->settings;
  const Pins pins({x.ptr(), residual.ptr(), out.ptr()});
  Operands o;
  o.adds = !residual.is_none();
  Geometry g;
  if (!view(x.ptr(), o.x, true) || !locate(s, state->weights->channels(), o.x, g) ||
      (o.adds && !view(residual.ptr(), o.residual, true)) || (!out.is_none() && !view(out.ptr(), o.out, true)))
    throw py::value_error("the arrays do not fit the layer");
  const bool given = !out.is_none();
  const DType* asked = given ? &o.out.dtype : s.result ? &s.result->dtype : nullptr;
  Types types{};
  Refusal refusal;
  if (!*settle_types(s, g, asked, get_num_threads(), true, o, types, refusal)) throw py::error_already_set();
  const bool is_complex =
      o.x.is_complex || s.is_complex || (o.adds && o.residual.is_complex) || (given && o.out.is_complex);
  if (is_complex) may_be_complex(s, types);
  const Reach sums = [&] {
    const DefaultArithmetic arithmetic_mode;
    return reach(o.x_range, o.added(), s.factors, refusal);
  }();
  const auto whole = [](double number) { return py::reinterpret_steal<py::object>(PyLong_FromDouble(number)); };
  static constexpr const char* refusals[] = {"", "pixels", "beyond int32", "inexact"};
  py::dict d;
  d["refusal"] = refusals[static_cast<size_t>(refusal)];
  d["arithmetic"] = type_name(types.arithmetic);
  d["dtype"] = type_name(ElementType{types.result, is_complex});
  d["integers"] = sums_integers(o.x_range, o.added(), s.factors);
  d["weights"] = type_name(s.factors.weights);
  d["product"] = whole(sums.product);
  d["added"] = whole(sums.added);
  d["limit"] = whole(sums.limit);
  return d;
}

// in_default_arithmetic(function, *args, **kwargs)
PyObject* in_default_arithmetic(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  if (count < 1) {
    PyErr_SetString(PyExc_TypeError, "expected a function");
    return nullptr;
  }
  const DefaultArithmetic arithmetic_mode;
  return outlast_exit([&] { return PyObject_Vectorcall(args[0], args + 1, static_cast<size_t>(count - 1), names); });
}

// choose_types(spec, x, residual, out)
PyObject* choose_types_of(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 4 || !PyTuple_Check(args[0])) throw py::type_error("choose_types(spec, x, residual, out)");
    const auto argument = [&](int i) { return py::reinterpret_borrow<py::object>(args[i]); };
    return types_of(argument(0), argument(1), argument(2), argument(3)).release().ptr();
  });
}

// moments(x, axis, shift, weights, keep, products, exact, threads): see run/moments.h. x of real numbers; of the next
// three each None or contiguous, float64, float64 and bool, with a number a channel, a pixel and a pixel.
PyObject* moments_of(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 8) throw py::type_error("moments(x, axis, shift, weights, keep, products, exact, threads)");
    const Pins pins({args[0], args[2], args[3], args[4]});
    Array x;
    if (!view(args[0], x, true) || x.is_complex) throw py::type_error("x must be an array of real numbers");
    const int axis = py::handle(args[1]).cast<int>();
    if (axis < 0 || axis >= x.rank) throw py::value_error("axis is outside x");
    ptrdiff_t lies[2 * max_rank];  // others may set the array's own while the GIL is given up
    std::copy_n(x.shape, x.rank, lies);
    std::copy_n(x.strides, x.rank, lies + x.rank);
    x.shape = lies;
    x.strides = lies + x.rank;
    ptrdiff_t pixels = 1;
    for (int i = 0; i < x.rank; ++i) pixels *= i == axis ? 1 : x.shape[i];
    const auto numbers = [&](PyObject* given, DType dtype, ptrdiff_t n) -> const void* {
      Array a;
      if (given == Py_None) return nullptr;
      if (!view(given, a) || a.dtype != dtype || a.swapped || a.is_complex || !contiguous(given) || a.rank != 1 ||
          a.shape[0] != n)
        throw py::type_error("shift, weights and keep must be contiguous, one number a channel, a pixel and a pixel");
      return a.data;
    };
    const ptrdiff_t side = x.shape[axis] + 1, shape[2] = {side, side};
    const auto shift = static_cast<const double*>(numbers(args[2], DType::float64, side - 1));
    const auto weights = static_cast<const double*>(numbers(args[3], DType::float64, pixels));
    const auto keep = static_cast<const bool*>(numbers(args[4], DType::boolean, pixels));
    const auto sums = py::reinterpret_steal<py::object>(new_array(2, shape, nullptr, type_number(DType::float64)));
    if (!sums) return nullptr;
    auto* out = static_cast<double*>(static_cast<void*>(py::detail::array_proxy(sums.ptr())->data));
    const Moments asked{x, axis, shift, weights, keep, args[5] == Py_True, args[6] == Py_True, out};
    const int threads = std::max(1, py::handle(args[7]).cast<int>());
    const KernelTable& table = *kernels(selection().isa, cpu());
    WithoutGil without_gil;
    Interruption interruption(without_gil);
    if (!moments(table, asked, threads, Interruption::asked, &interruption)) return nullptr;
    return sums.inc_ref().ptr();
  });
}

}  // namespace

PyMethodDef functions[] = {
    {"moments", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(moments_of)), METH_FASTCALL, nullptr},
    {"conv1x1", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(one_shot)), METH_FASTCALL, nullptr},
    {"in_default_arithmetic", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(in_default_arithmetic)),
     METH_FASTCALL | METH_KEYWORDS, nullptr},
    {"choose_types", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(choose_types_of)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace conv1x1
