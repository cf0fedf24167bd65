#include "layer.h"

#include <structmember.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <utility>

#include "arguments.h"
#include "call.h"
#include "introspection.h"
#include "prepared.h"
#include "selection.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

struct LayerObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  LayerState* state;
};

// A stride; one beyond any array is as good as another.
size_t step_of(const py::object& stride) {
  return static_cast<size_t>(std::clamp(clamped(stride.ptr()), 1L, 1L << 62));
}

// What the types of every call depend on: the weights and the activation.
void settle_factors(Settings& s, const Weights& weights) {
  const auto whole = [](double v) { return std::isinf(v) || v == std::floor(v); };
  const Epilogue& e = s.epilogue;
  const bool among_int32 = e.a <= 2147483647.0 && e.b >= -2147483648.0;  // clamps beyond give numbers beyond
  s.factors = weights.factors();
  s.factors.keeps_integers = e.activation == Activation::none || e.activation == Activation::clamp;
  s.factors.clamps_beyond_int32 = e.activation == Activation::clamp && !among_int32;
  s.factors.clamps_to_integers = e.activation == Activation::none ||
                                 (e.activation == Activation::clamp && whole(e.a) && whole(e.b) && among_int32);
}

}  // namespace

std::unique_ptr<LayerState> make_state(py::tuple spec) {
  auto state = std::make_unique<LayerState>();
  Settings& s = state->settings;
  const py::object weight = spec[0], bias = spec[1], requantize = spec[8], center = spec[10];
  py::object multipliers = py::none();
  s.channel_axis = spec[2].cast<int>();
  s.keep_axis = spec[3].cast<bool>();
  if (py::isinstance<py::tuple>(spec[4])) {
    const auto strides = spec[4].cast<py::tuple>();
    s.stride_count = static_cast<int>(std::min<size_t>(strides.size(), max_rank));
    for (int i = 0; i < s.stride_count; ++i) s.strides[i] = step_of(strides[static_cast<size_t>(i)]);
  } else {
    s.strides[0] = step_of(spec[4]);
  }
  const auto groups = spec[5].cast<size_t>();
  const auto activation = spec[6].cast<py::tuple>();
  s.epilogue =
      epilogue_of(activation[0].cast<std::string>(), activation[1].cast<double>(), activation[2].cast<double>());
  if (const py::object asked = spec[7]; !asked.is_none()) {
    s.result = dtype_of(asked.ptr());
    s.result_number = number_of(asked.ptr());
  }
  if (!requantize.is_none()) {  // multipliers, lo, hi, zero point, x's type
    const auto parts = requantize.cast<py::tuple>();
    multipliers = parts[0];
    s.epilogue = {Activation::none, parts[1].cast<double>(), parts[2].cast<double>(), parts[3].cast<int>()};
    s.pixels = dtype_of(py::object(parts[4]).ptr()).value().dtype;
  }
  for (PyObject* array : {weight.ptr(), bias.ptr(), multipliers.ptr(), center.ptr()}) state->pins.add(array);

  Array filters;
  const auto given = [&](const py::object& numbers, Array& a, int rank, size_t length) {
    if (numbers.is_none()) return Given{};
    if (!view(numbers.ptr(), a) || a.rank != rank || a.swapped || !contiguous(numbers.ptr()) ||
        (rank == 1 && static_cast<size_t>(a.shape[0]) != length) || !Weights::reads(a.dtype))
      throw py::type_error(
          "weight must be (K, C/groups), bias and multipliers (K,), center (C,); all contiguous, in float32, float64, "
          "int32 or a smaller type of integers, in this machine's byte order");
    return Given{a.data, a.dtype, a.is_complex};
  };
  const Given of_weight = given(weight, filters, 2, 0);
  if (!of_weight.data) throw py::type_error("weight must be an array");
  if (groups == 0 || static_cast<size_t>(filters.shape[0]) % groups != 0)
    throw py::value_error("groups must divide the filters");
  Array b, m, c;
  s.out_channels = static_cast<size_t>(filters.shape[0]);
  const size_t in_channels = static_cast<size_t>(filters.shape[1]);
  const Given of_bias = given(bias, b, 1, s.out_channels), of_scale = given(multipliers, m, 1, s.out_channels);
  const Given of_channels = given(center, c, 1, groups * in_channels);
  if (of_scale.is_complex) throw py::type_error("multipliers are real numbers");
  if (of_channels.data && (of_channels.is_complex || of_weight.is_complex || of_bias.is_complex || of_scale.data))
    throw py::type_error("there is a center of real numbers alone");
  const DefaultArithmetic arithmetic_mode;
  state->weights = std::make_unique<Weights>(of_weight, of_bias, of_scale, groups, s.out_channels / groups, in_channels,
                                             of_channels);
  settle_factors(s, *state->weights);
  s.is_complex = of_weight.is_complex || of_bias.is_complex || (s.result && s.result->is_complex);
  state->spec = std::move(spec);
  return state;
}

namespace {

void layer_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<LayerObject*>(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

constexpr Words of_floats{"a layer", "a layer", "layer(x, residual=a) or layer(x, out=a)",
                          "layer(x, *, residual=None, out=None, threads=None)", true},
    of_bytes{"a layer", "a quantised layer", "qlayer(x, out=a)", "qlayer(x, *, out=None, threads=None)", false};

PyObject* layer_call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  return guarded([&]() -> PyObject* {
    const LayerState& state = *reinterpret_cast<LayerObject*>(self)->state;
    const bool quantized = state.settings.factors.quantized;
    PyObject* values[] = {nullptr, Py_None, Py_None, Py_None};
    if (!parse(quantized ? of_bytes : of_floats, values, args, nargsf, kwnames)) return nullptr;
    const auto call_with = [&](PyObject* x, PyObject* residual, PyObject* out, PyObject* threads, bool checked) {
      return attempt_call({x, residual, out}, [&](Attempt& attempt) {
        return call(state.settings, *state.weights, x, residual, out, threads, checked, attempt);
      });
    };
    PyObject* result = call_with(values[0], values[1], values[2], values[3], false);
    if (result != Py_NotImplemented) return result;
    Py_DECREF(result);
    result = call_package("conv1x1.elsewhere", "call", self, values[0], values[1], values[2], values[3]);
    if (result != Py_NotImplemented) return result;
    Py_DECREF(result);
    const auto made = py::reinterpret_steal<py::tuple>(
        call_package(quantized ? "conv1x1.checks.quantized" : "conv1x1.checks.floats", "call", state.spec.ptr(),
                     values[0], values[1], values[2], values[3]));
    if (!made) return nullptr;
    result = call_with(py::object(made[0]).ptr(), py::object(made[1]).ptr(), py::object(made[2]).ptr(),
                       py::object(made[3]).ptr(), true);
    if (result == Py_NotImplemented) {
      Py_DECREF(result);
      throw std::logic_error("conv1x1.checks let an argument pass that the core does not take; please report this");
    }
    const py::object finish = made[4];
    if (!result || finish.is_none()) return result;
    const auto unfinished = py::reinterpret_steal<py::object>(result);
    return outlast_exit([&] { return PyObject_CallFunctionObjArgs(finish.ptr(), unfinished.ptr(), nullptr); });
  });
}

// layer._spec: the spec with arrays of its own, since whoever sets the shape or type of an array sets the layer's else.
PyObject* layer_spec(PyObject* self, void*) {
  return call_package("conv1x1.checks", "shown", reinterpret_cast<LayerObject*>(self)->state->spec.ptr());
}

// layer._plan(x, residual, out, threads): how a call with these (canonical) arguments would run.
PyObject* layer_plan(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    const LayerState& state = *reinterpret_cast<LayerObject*>(self)->state;
    const Settings& s = state.settings;
    if (count != 4) throw py::value_error("expected x, residual, out and threads");
    const int threads = args[3] == Py_None ? get_num_threads() : py::handle(args[3]).cast<int>();
    // From here on no Python runs until all is planned: the arrays stay as they are.
    Array x, residual, y;
    Geometry g;
    if (!view(args[0], x) || !locate(s, state.weights->channels(), x, g))
      throw py::value_error("x does not fit the layer");
    ptrdiff_t strides[max_rank];
    const bool adds = args[1] != Py_None, allocated = args[2] == Py_None;
    if (adds && (!view(args[1], residual) || residual.rank != g.rank))
      throw py::value_error("residual does not fit the result");
    if (!allocated && (!view(args[2], y) || y.rank != g.rank)) throw py::value_error("out does not fit the result");
    Types types;
    const DType* asked = !allocated ? &y.dtype : s.result ? &s.result->dtype : nullptr;
    const bool is_complex =
        x.is_complex || s.is_complex || (adds && residual.is_complex) || (!allocated && y.is_complex);
    const Range added{residual.dtype, 0};
    if (choose(s, {x.dtype, 0}, adds ? &added : nullptr, asked, types) != Refusal::none ||
        (is_complex && !may_be_complex(s, types)))
      throw py::type_error("x's type does not fit the layer");
    if (allocated) {
      y = {nullptr, types.result, false, g.rank, g.shape, strides, is_complex};
      lie_as(x, g, {types.result, is_complex}, strides);
    }
    const Form form = form_of(*state.weights, x);
    if (form == Form::plain && !x.is_complex) y.is_complex = residual.is_complex = false;  // the real part
    const auto prepared =
        prepare({s, *state.weights, form, types.arithmetic, x, y, adds ? &residual : nullptr, g, threads});
    const Plan& plan = prepared->settled_program().steps.front().plan;
    py::dict d = plan_of(plan, types.arithmetic, {types.result, is_complex});
    d["threads"] = plan.threads;
    d["tried"] = trials_of(*prepared);
    py::list strided;
    for (int i = 0; i < x.rank; ++i)
      if (g.steps[i] != 1) strided.append(i);
    d["strided_axes"] = py::tuple(strided);
    int axes[max_rank];
    memory_order(y, axes);
    py::list outermost_first;
    for (int i = 0; i < y.rank; ++i) outermost_first.append(axes[i]);
    d["memory_order"] = py::tuple(outermost_first);
    return d.release().ptr();
  });
}

PyObject* layer_new(PyTypeObject* type, PyObject* args, PyObject*) {
  return guarded([&]() -> PyObject* {
    PyObject* spec = nullptr;
    if (!PyArg_ParseTuple(args, "O!:Layer", &PyTuple_Type, &spec)) return nullptr;
    std::unique_ptr<LayerState> state = make_state(py::reinterpret_borrow<py::tuple>(spec));
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    reinterpret_cast<LayerObject*>(self)->vectorcall = layer_call;
    reinterpret_cast<LayerObject*>(self)->state = state.release();
    return self;
  });
}

PyGetSetDef layer_getset[] = {{"_spec", layer_spec, nullptr, nullptr, nullptr},
                              {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef layer_methods[] = {
    {"_plan", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(layer_plan)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef layer_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(LayerObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot layer_slots[] = {{Py_tp_new, reinterpret_cast<void*>(layer_new)},
                             {Py_tp_dealloc, reinterpret_cast<void*>(layer_dealloc)},
                             {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                             {Py_tp_getset, layer_getset},
                             {Py_tp_methods, layer_methods},
                             {Py_tp_members, layer_members},
                             {Py_tp_doc, const_cast<char*>("The core of conv1x1.Conv1x1, made from a canonical spec.")},
                             {0, nullptr}};

}  // namespace

PyObject* layer_class = nullptr;

const LayerState* state_of(PyObject* object) {
  return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(layer_class))
             ? reinterpret_cast<LayerObject*>(object)->state
             : nullptr;
}

PyType_Spec layer_type = {"conv1x1._conv1x1.Layer", sizeof(LayerObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL, layer_slots};

void document_call(const py::type& type, const std::string& arguments, const std::string& summary) {
  const py::object before = type.attr("__call__");
  const auto* slot = reinterpret_cast<PyWrapperDescrObject*>(before.ptr());
  static std::deque<wrapperbase>& all_documented =
      *new std::deque<wrapperbase>;  // as long as types live: never destroyed
  all_documented.push_back(*slot->d_base);
  wrapperbase* documented = &all_documented.back();
  documented->doc = strdup(("__call__($self, /, " + arguments + ")\n--\n\n" + summary).c_str());
  const auto call = py::reinterpret_steal<py::object>(
      PyDescr_NewWrapper(reinterpret_cast<PyTypeObject*>(type.ptr()), documented, slot->d_wrapped));
  if (!call) throw py::error_already_set();
  type.attr("__call__") = call;
}

}  // namespace conv1x1
