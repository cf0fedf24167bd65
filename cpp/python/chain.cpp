#include "chain.h"

#include <structmember.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "call.h"
#include "introspection.h"
#include "layer.h"
#include "prepared.h"
#include "selection.h"

namespace conv1x1 {

namespace {

// A layer, or another step over the channels of a pixel, with its numbers.
struct Element {
  StepKind kind = StepKind::layer;
  const LayerState* layer = nullptr;
  size_t in_channels = 0, out_channels = 0;
  double eps = 0;
  std::string weight[float_count], bias[float_count];  // of a norm, in either type of the sums
  bool weighs = false, biased = false;
  DType index = DType::uint8;  // of the largest channel: what its index or label is
  std::string labels;          // none: the index itself
};

// The types of all layers, for such pixels and the type that is asked for, if any.
struct Settled {
  DType pixels;
  std::optional<DType> asked;
  std::vector<Types> types;
};

struct ChainState {
  size_t number;                                   // no other chain's, of all there have been
  Settings settings;                               // of the chain as one layer: x's place, and the type of the result
  bool skip;                                       // x is the last layer's residual
  py::tuple given;                                 // keeps the layers
  std::vector<Element> elements;                   // none where the chain is not for the core
  mutable std::shared_ptr<const Settled> settled;  // for the last call, mostly for the next as well; the GIL guards it
};

struct ChainObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  ChainState* state;
};

// The type that numbers of x are summed in, and stay in between layers.
DType sums_of(DType x) {
  return x == DType::float64 || (is_integer(x) && size_of(x) >= 4) ? DType::float64 : DType::float32;
}

// A call, as its arrays lie there.
struct Request {
  Array x, out;
  Geometry g;
  int threads;
  std::shared_ptr<const Settled> settled;

  const std::vector<Types>& types() const { return settled->types; }
};

// The types of all layers, each as if it were called with those of its pixels and the result asked for; false where one
// of them would look at the numbers, refuse them, or take complex ones.
bool settle(const ChainState& chain, const DType* asked, Request& r) {
  const std::optional<DType> type = asked ? std::optional<DType>(*asked) : std::nullopt;
  r.settled = chain.settled;
  if (r.settled && r.settled->pixels == r.x.dtype && r.settled->asked == type) return true;
  auto settled = std::make_shared<Settled>(Settled{r.x.dtype, type, std::vector<Types>(chain.elements.size())});
  std::vector<Types>& types = settled->types;
  const DType sums = sums_of(r.x.dtype), whole = is_integer(r.x.dtype) ? sums : r.x.dtype;
  const Range added = range_of(r.x.dtype);
  DType pixels = r.x.dtype;
  for (size_t i = 0; i < chain.elements.size(); ++i) {
    const Element& e = chain.elements[i];
    const bool last = i + 1 == chain.elements.size();
    if (e.kind != StepKind::layer) {
      types[i] = {sums, e.kind == StepKind::arg_max ? e.index : !last ? sums : asked ? *asked : whole};
      if (last && asked && *asked != types[i].result) return false;
      pixels = types[i].result;
      continue;
    }
    const Settings& s = e.layer->settings;
    const DType* own = s.result ? &s.result->dtype : last ? (asked ? asked : &whole) : &sums;
    if (s.is_complex || (s.pixels && pixels != *s.pixels) ||
        choose(s, range_of(pixels), last && chain.skip ? &added : nullptr, own, types[i]) != Refusal::none)
      return false;
    pixels = types[i].result;
  }
  r.settled = chain.settled = std::move(settled);
  return true;
}

Program made(const ChainState& chain, const Request& r, const Array& y) {
  const Settings& s = chain.settings;
  const Problem problem = make_problem(r.types().front().arithmetic, r.x, y, chain.skip ? &r.x : nullptr, r.g.axis,
                                       s.keep_axis, r.g.steps, 1, s.out_channels);
  const Machine& only = machine();
  std::vector<Link> links;
  for (size_t i = 0; i < chain.elements.size(); ++i) {
    const Element& e = chain.elements[i];
    Link link;
    link.kind = e.kind;
    link.arithmetic = r.types()[i].arithmetic;
    link.result = r.types()[i].result;
    link.in_channels = e.in_channels;
    link.out_channels = e.out_channels;
    if (e.layer) {
      const Weights& weights = *e.layer->weights;
      link.quantized = e.layer->settings.factors.quantized;
      link.narrow_weights = weights.narrow();
      link.centered = e.layer->settings.factors.centered;
      link.groups = weights.groups;
      link.in_channels = weights.in_channels;
      link.out_channels = weights.out_channels;
      link.only = only.only;
    }
    links.push_back(link);
  }
  return make_program(problem, links, only, r.threads);
}

std::shared_ptr<Prepared> prepare(const ChainState& chain, const Request& r, const Array& y) {
  Key key;
  key.add(size_t{1} << 62 | chain.number);  // no layer's
  key.add(type_of(r.x) | type_of(y) << 8 | static_cast<size_t>(r.x.rank) << 16);
  key.add(static_cast<size_t>(r.threads));
  key.add(r.x.shape, r.x.rank);
  key.add_steps(r.x, r.g);
  key.add(y.strides, y.rank);
  key.add(y.shape, y.rank);
  bool there = false;
  std::shared_ptr<Prepared>& slot = slot_of(key, there);
  if (!there) {
    const auto prepared = std::make_shared<Prepared>();
    prepared->key.assign(key.numbers, key.numbers + key.length);
    prepared->program = made(chain, r, y);
    slot = prepared;
  }
  return slot;
}

// Fills in a request but for `out` and types; false where x or the number of threads is not canonical.
bool read(const ChainState& chain, PyObject* x, PyObject* threads, Request& r) {
  return !chain.elements.empty() && view(x, r.x) && !r.x.is_complex &&
         locate(chain.settings, chain.elements.front().in_channels, r.x, r.g) && number_of_threads(threads, r.threads);
}

std::vector<Layer> operands_of(const ChainState& chain, const Request& r, const Program& program) {
  std::vector<Layer> operands;
  operands.reserve(chain.elements.size());
  for (size_t i = 0; i < chain.elements.size(); ++i) {
    const Element& e = chain.elements[i];
    if (e.layer) {
      const MultiplyFamily& family = *program.steps[i].plan.family;
      operands.push_back({&e.layer->weights->packed(family.operand, family.width), e.layer->settings.epilogue});
      continue;
    }
    const size_t sums = static_cast<size_t>(r.types()[i].arithmetic);
    OverChannelsNumbers numbers{nullptr, nullptr, e.eps, e.labels.empty() ? nullptr : e.labels.data()};
    if (e.weighs) numbers.weight = e.weight[sums].data();
    if (e.biased) numbers.bias = e.bias[sums].data();
    operands.push_back({nullptr, {}, numbers});
  }
  return operands;
}

// As `compute` for a layer.
std::optional<bool> compute(const ChainState& chain, const Request& r, const Array& y, bool pinned) {
  const std::shared_ptr<Prepared> prepared = prepare(chain, r, y);
  const Program& program = prepared->program;
  if (program.tiles == 0) return true;
  const bool releases = program.microseconds >= microseconds_worth_releasing;
  if (releases && !pinned) return std::nullopt;
  std::vector<Layer>& operands = prepared->operands;
  if (operands.empty()) operands = operands_of(chain, r, program);
  const Data data{r.x.data, y.data, chain.skip ? r.x.data : nullptr};
  if (!releases) return convolve(program, data, operands.data(), nullptr, nullptr);
  WithoutGil without_gil;
  Interruption interruption(without_gil);
  return convolve(program, data, operands.data(), Interruption::asked, &interruption);
}

std::optional<PyObject*> call(const ChainState& chain, PyObject* x_object, PyObject* out_object,
                              PyObject* threads_object, Attempt& attempt) {
  Request r;
  if (!read(chain, x_object, threads_object, r)) return not_canonical();
  const Element& end = chain.elements.back();
  const Settings& last = chain.settings;
  bool in_place = false;
  const DType* asked = nullptr;
  if (out_object != Py_None) {
    if (!view(out_object, r.out) ||
        !std::equal(r.out.shape, r.out.shape + r.out.rank, r.g.shape, r.g.shape + r.g.rank) || !writeable(out_object) ||
        r.out.is_complex || !(is_result(r.out.dtype) || end.kind == StepKind::arg_max) ||
        (last.result && last.result->dtype != r.out.dtype))
      return not_canonical();
    asked = &r.out.dtype;
    in_place = !may_overlap(r.out, r.x) && !may_overlap_itself(r.out);
    if (!in_place && !attempt.pinned) return std::nullopt;  // a copy to it may give up the GIL
  }
  if (!settle(chain, asked, r)) return not_canonical();
  return deliver({x_object, out_object, r.x, r.out, in_place}, r.g, {r.types().back().result}, last.result_number,
                 attempt, [&](const Array& y) { return compute(chain, r, y, attempt.pinned); });
}

PyObject* attempted(const ChainState& chain, PyObject* x, PyObject* out, PyObject* threads) {
  return attempt_call({x, out}, [&](Attempt& attempt) { return call(chain, x, out, threads, attempt); });
}

constexpr const char* kind_names[] = {"layer", "softmax", "layer_norm", "arg_max"};

constexpr Words words{"a chain", "a chain", "net(x, out=a)", "net(x, *, out=None, threads=None)", false};

const ChainState& state_of_chain(PyObject* self) { return *reinterpret_cast<ChainObject*>(self)->state; }

PyObject* chain_call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  return guarded([&]() -> PyObject* {
    PyObject* values[] = {nullptr, Py_None, Py_None, Py_None};
    if (!parse(words, values, args, nargsf, kwnames)) return nullptr;
    PyObject* result = attempted(state_of_chain(self), values[0], values[2], values[3]);
    if (result != Py_NotImplemented) return result;
    Py_DECREF(result);
    return call_package("conv1x1.sequential", "call", self, values[0], values[2], values[3]);
  });
}

// chain._run(x, out, threads): the result of a canonical call, NotImplemented for every other.
PyObject* chain_run(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 3) throw py::value_error("expected x, out and threads");
    return attempted(state_of_chain(self), args[0], args[1], args[2]);
  });
}

// chain._plan(x, threads): how such a call would run, or NotImplemented.
PyObject* chain_plan(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    const ChainState& chain = state_of_chain(self);
    if (count != 2) throw py::value_error("expected x and threads");
    Request r;
    if (!read(chain, args[0], args[1], r) || !settle(chain, nullptr, r)) return not_canonical();
    ptrdiff_t strides[max_rank];
    const DType result = r.types().back().result;
    lie_as(r.x, r.g, {result}, strides);
    const auto prepared = prepare(chain, r, {nullptr, result, false, r.g.rank, r.g.shape, strides});
    const Program& program = prepared->program;
    py::list elements;
    for (size_t i = 0; i < r.types().size(); ++i) {
      const StepKind kind = chain.elements[i].kind;
      py::dict d;
      if (kind == StepKind::layer)
        d = plan_of(program.steps[i].plan, r.types()[i].arithmetic, {r.types()[i].result});
      else
        d["kernel"] = kind_names[static_cast<size_t>(kind)];
      const Handed& to = program.steps[i].to;
      if (to.bytes)
        d["handed_on_as"] =
            orientation_name(to.pixel < to.channel ? Orientation::pixels_as_lanes : Orientation::pixels_as_rows);
      elements.append(d);
    }
    py::dict d;
    d["tile_pixels"] = program.tile_pixels;
    d["tiles"] = program.tiles;
    d["threads"] = program.threads;
    d["scratch_bytes"] = program.scratch_bytes;
    d["elements"] = elements;
    return d.release().ptr();
  });
}

// Numbers of a tuple, which are bytes or None.
bool bytes_of(const py::handle given, std::string& to) {
  if (!given.is_none()) to = given.cast<std::string>();
  return !given.is_none();
}

// One that takes so many channels; 0: as many as it likes.
Element element_of(const py::handle given, size_t channels) {
  Element e;
  if ((e.layer = state_of(given.ptr()))) {
    e.in_channels = e.layer->weights->groups * e.layer->weights->in_channels;
    e.out_channels = e.layer->settings.out_channels;
    return e;
  }
  if (!py::isinstance<py::tuple>(given)) throw py::type_error("a chain is made of layers, and tuples for other steps");
  const auto parts = given.cast<py::tuple>();
  const auto kind = std::find(std::begin(kind_names), std::end(kind_names), parts[0].cast<std::string>());
  if (kind == std::end(kind_names) || kind == std::begin(kind_names)) throw py::value_error("no such step");
  e.kind = static_cast<StepKind>(kind - std::begin(kind_names));
  e.in_channels = e.out_channels = channels;
  if (e.kind == StepKind::layer_norm) {  // its name, channels, eps, weight and bias in float32, and in float64
    e.in_channels = e.out_channels = parts[1].cast<size_t>();
    e.eps = parts[2].cast<double>();
    for (size_t i = 0; i < float_count; ++i) {
      e.weighs = bytes_of(parts[3 + 2 * i], e.weight[i]);
      e.biased = bytes_of(parts[4 + 2 * i], e.bias[i]);
      const size_t bytes = e.in_channels * size_of(static_cast<DType>(i));
      if ((e.weighs && e.weight[i].size() != bytes) || (e.biased && e.bias[i].size() != bytes))
        throw py::value_error("a norm has a number for each channel");
    }
  } else if (e.kind == StepKind::arg_max) {  // its name, the type of its result, labels
    e.index = dtype_of(py::object(parts[1]).ptr()).value().dtype;
    e.out_channels = 1;
    if (bytes_of(parts[2], e.labels) && e.labels.size() != channels * size_of(e.index))
      throw py::value_error("there is a label for each channel");
  }
  return e;
}

// What comes first, given that it and all behind it fit one another.
void settle_first(ChainState& state, int axis) {
  const Element &first = state.elements.front(), &last = state.elements.back();
  if (first.layer) {
    state.settings.stride_count = first.layer->settings.stride_count;
    std::copy_n(first.layer->settings.strides, max_rank, state.settings.strides);
  }
  state.settings.channel_axis = axis;
  state.settings.out_channels = last.out_channels;
  state.settings.keep_axis = last.kind != StepKind::arg_max && !(last.layer && !last.layer->settings.keep_axis);
  if (last.layer) {
    state.settings.result = last.layer->settings.result;
    state.settings.result_number = last.layer->settings.result_number;
  }
}

// Chain(steps, channel_axis, skip): layers and tuples that say what else there is; none where it is not for the core.
PyObject* chain_new(PyTypeObject* type, PyObject* args, PyObject*) {
  return guarded([&]() -> PyObject* {
    static size_t chains = 0;
    PyObject* steps = nullptr;
    int axis = -1, skip = 0;
    if (!PyArg_ParseTuple(args, "O!ip:Chain", &PyTuple_Type, &steps, &axis, &skip)) return nullptr;
    auto state = std::make_unique<ChainState>();
    state->number = chains++;
    state->skip = skip != 0;
    state->given = py::reinterpret_borrow<py::tuple>(steps);
    size_t channels = 0;
    for (const py::handle step : state->given) {
      if (!state_of(step.ptr())) continue;
      channels = element_of(step, 0).in_channels;  // which those before it, if any, leave as many
      break;
    }
    bool layers = false;
    for (const py::handle step : state->given) {
      const Element* before = state->elements.empty() ? nullptr : &state->elements.back();
      Element e = element_of(step, channels);
      if (e.in_channels != channels ||
          (before && (before->kind == StepKind::arg_max || (before->layer && !before->layer->settings.keep_axis))))
        throw py::value_error("steps do not fit one another");
      channels = e.out_channels;
      layers |= e.layer != nullptr;
      state->elements.push_back(std::move(e));
    }
    if (!layers || state->elements.size() < 2) state->elements.clear();
    if (!state->elements.empty()) {
      settle_first(*state, axis);
      const Element& last = state->elements.back();
      if (state->skip && (!last.layer || last.out_channels != state->elements.front().in_channels))
        throw py::value_error("the pixels do not fit the last layer's results");
    }
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) return nullptr;
    reinterpret_cast<ChainObject*>(self)->vectorcall = chain_call;
    reinterpret_cast<ChainObject*>(self)->state = state.release();
    return self;
  });
}

void chain_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<ChainObject*>(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

PyMethodDef chain_methods[] = {
    {"_run", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(chain_run)), METH_FASTCALL, nullptr},
    {"_plan", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(chain_plan)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef chain_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(ChainObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot chain_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(chain_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(chain_dealloc)},
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_methods, chain_methods},
    {Py_tp_members, chain_members},
    {Py_tp_doc, const_cast<char*>("The core of conv1x1.Sequential, made of steps that fit one another.")},
    {0, nullptr}};

}  // namespace

PyType_Spec chain_type = {"conv1x1._conv1x1.Chain", sizeof(ChainObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL, chain_slots};

}  // namespace conv1x1
