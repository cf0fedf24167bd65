// The only file that knows pybind11 and NumPy: arrays to strided views, exceptions, the GIL.
//
// A call that is canonical (ndarrays of supported types and fitting shapes) runs from here. One that is not,
// wrong or merely unusual, is handed to Python (`_check`), which says what is wrong or makes it canonical.
// The two hot entries, a layer's call and the one-shot function, parse their arguments by hand: with
// pybind11's argument loader they would cost more than a small convolution.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <structmember.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "conv.h"
#include "cpu.h"
#include "fp_environment.h"
#include "largest.h"
#include "plan.h"
#include "problem.h"
#include "result.h"
#include "thread_pool.h"
#include "weights.h"

namespace py = pybind11;

namespace conv1x1 {
namespace {

// ---------------------------------------------------------------------------------------------- arrays

// The type of an array's elements; of complex ones, that of their parts.
struct ElementType {
  DType dtype;
  bool is_complex = false;
};

// NumPy's numbers for bfloat16, a type that other packages register, each its own; _check tells one when it meets it.
std::vector<int>& bfloat16_numbers = *new std::vector<int>;  // never destroyed: see cpu.cpp

// NumPy's number for a type; none for bfloat16, which has several.
constexpr int type_number(DType dtype) {
  using api = py::detail::npy_api;
  switch (dtype) {
    case DType::float32: return api::NPY_FLOAT_;
    case DType::float64: return api::NPY_DOUBLE_;
    case DType::int32: return api::NPY_INT_;
    case DType::float16: return 23;  // NPY_HALF, which pybind11 has no name for
    case DType::bfloat16: return -1;
    case DType::uint8: return api::NPY_UBYTE_;
    case DType::int8: return api::NPY_BYTE_;
    case DType::uint16: return api::NPY_USHORT_;
    case DType::int16: return api::NPY_SHORT_;
    case DType::boolean: return api::NPY_BOOL_;
    case DType::int64: return api::NPY_INT64_;
    case DType::uint32: return api::NPY_UINT_;
    case DType::uint64: return api::NPY_UINT64_;
  }
  return -1;
}

const char* type_name(DType dtype) {
  static constexpr const char* names[dtype_count] = {"float32", "float64", "int32",  "float16", "bfloat16",
                                                     "uint8",   "int8",    "uint16", "int16",   "bool",
                                                     "int64",   "uint32",  "uint64"};
  return names[static_cast<size_t>(dtype)];
}

constexpr int type_number(ElementType type) {
  using api = py::detail::npy_api;
  if (!type.is_complex) return type_number(type.dtype);
  return type.dtype == DType::float64 ? api::NPY_CDOUBLE_ : api::NPY_CFLOAT_;
}

const char* type_name(ElementType type) {
  return !type.is_complex ? type_name(type.dtype) : type.dtype == DType::float64 ? "complex128" : "complex64";
}

int number_of(PyObject* descr) { return py::detail::array_descriptor1_proxy(descr)->type_num; }

struct BuiltinType {
  bool known = false;
  ElementType type{DType::float32};
};

// NumPy's own types, by their numbers.
constexpr auto builtin_types = [] {
  using api = py::detail::npy_api;
  std::array<BuiltinType, 24> types{};
  // Where long and long long are both of 64 bits, or int and long both of 32.
  types[api::NPY_LONG_] = {true, {sizeof(long) == 8 ? DType::int64 : DType::int32}};
  types[api::NPY_ULONG_] = {true, {sizeof(long) == 8 ? DType::uint64 : DType::uint32}};
  types[api::NPY_LONGLONG_] = {true, {DType::int64}};
  types[api::NPY_ULONGLONG_] = {true, {DType::uint64}};
  for (size_t i = 0; i < dtype_count; ++i) {
    const int number = type_number(static_cast<DType>(i));
    if (number >= 0) types[static_cast<size_t>(number)] = {true, {static_cast<DType>(i)}};
  }
  for (DType half : {DType::float32, DType::float64})
    types[static_cast<size_t>(type_number(ElementType{half, true}))] = {true, {half, true}};
  return types;
}();

// The type that a NumPy descriptor means, if it is supported.
std::optional<ElementType> dtype_of(PyObject* descr) {
  const int number = number_of(descr);
  if (number >= 0 && static_cast<size_t>(number) < builtin_types.size()) {
    const BuiltinType& builtin = builtin_types[static_cast<size_t>(number)];
    return builtin.known ? std::optional(builtin.type) : std::nullopt;
  }
  if (std::find(bfloat16_numbers.begin(), bfloat16_numbers.end(), number) != bfloat16_numbers.end())
    return ElementType{DType::bfloat16};
  return std::nullopt;
}

// Whether numbers are in the other byte order. One's own has two names, '=' and that of the processor.
bool swapped(PyObject* descr) {
  constexpr char other = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '>' : '<';
  return py::detail::array_descriptor1_proxy(descr)->byteorder == other;
}

// An array of a supported type, as the core sees it: an ndarray, or an instance of a subclass that passed _check.
bool view(PyObject* object, Array& array, bool checked = false) {
  PyTypeObject* ndarray = py::detail::npy_api::get().PyArray_Type_;
  if (Py_TYPE(object) != ndarray && !(checked && PyType_IsSubtype(Py_TYPE(object), ndarray))) return false;
  const auto* proxy = py::detail::array_proxy(object);
  const std::optional<ElementType> type = dtype_of(proxy->descr);
  if (!type || proxy->nd > max_rank) return false;
  array = {proxy->data,       type->dtype,    swapped(proxy->descr), proxy->nd,
           proxy->dimensions, proxy->strides, type->is_complex};
  return true;
}

// An array of its own; with `strides` null in C order.
PyObject* new_array(int rank, const ptrdiff_t* shape, const ptrdiff_t* strides, int type_number) {
  const auto& api = py::detail::npy_api::get();
  return api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(type_number), rank,
                                   const_cast<ptrdiff_t*>(shape), const_cast<ptrdiff_t*>(strides), nullptr, 0, nullptr);
}

bool contiguous(PyObject* array) {
  return py::detail::check_flags(array, py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_);
}

bool writeable(PyObject* array) { return py::detail::check_flags(array, py::detail::npy_api::NPY_ARRAY_WRITEABLE_); }

// ------------------------------------------------------------------------------------ state of the module

// The instruction set in use, and what `restricted` asks for; the GIL guards it.
struct Selection {
  Isa isa;
  Restriction only;
};

// Found once, at import: what the environment holds later does not matter.
Isa default_isa() {
  try {
    static const Isa isa = best_isa(cpu(), std::getenv("CONV1X1_MAX_ISA"));
    return isa;
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("CONV1X1_MAX_ISA: ") + error.what());
  }
}

Selection& selection() {
  static_assert(std::is_trivially_destructible_v<Selection>);
  static Selection current{default_isa(), {}};
  return current;
}

Machine machine() { return {kernels(selection().isa, cpu()), selection().only, cpu().halves_pair_up, cpu().l2_bytes}; }

// The instruction set that an operand's kernels are of: those of quads come to the ones that are there without.
Isa isa_of(Operand operand, Isa isa) {
  if (is_quads(operand)) return isa;
  return isa == Isa::avx512vnni ? Isa::avx512 : isa == Isa::neondot ? Isa::neon : isa;
}

std::string kernel_name(const MultiplyFamily& family, Isa isa, size_t vectors) {
  static constexpr const char* names[operand_count] = {"_f32_", "_f64_", "_i16_", "_i8_", "_i8_"};
  return std::string(isa_name(isa_of(family.operand, isa))) + names[static_cast<size_t>(family.operand)] +
         std::to_string(family.max_rows[vectors - 1]) + "x" + std::to_string(vectors * family.width) +
         (family.turned ? "_lanes" : "");
}

constexpr const char* special_methods[] = {"few_filters", "few_filters_lanes", "few_channels"};

std::string kernel_name(const char* special_method, DType arithmetic, Isa isa) {
  return std::string(isa_name(isa_of(Operand::float32, isa))) + (arithmetic == DType::float64 ? "_f64_" : "_f32_") +
         special_method;
}

// ------------------------------------------------------------------------------------------ the settings

// A Python int, brought into the range of long.
long clamped(PyObject* object) {
  int overflow = 0;
  const long n = PyLong_AsLongAndOverflow(object, &overflow);
  return overflow == 0 ? n : overflow > 0 ? std::numeric_limits<long>::max() : std::numeric_limits<long>::min();
}

// A layer without its weights.
struct Settings {
  int channel_axis = -1;
  bool keep_axis = true;
  int stride_count = -1;  // -1: `strides[0]` for the last two axes besides the channels
  size_t strides[max_rank] = {1};
  size_t out_channels = 0;
  Epilogue epilogue;
  std::optional<ElementType> result;
  int result_number = -1;       // NumPy's, of that type
  bool is_complex = false;      // whatever x and the residual are, by weights, bias or the result asked for
  std::optional<DType> pixels;  // of a quantised layer: the one type of x
  Factors factors;
};

constexpr struct {
  const char* name;
  Activation activation;
  double a, b;  // where the name fixes them
} activations[] = {
    {"", Activation::none, 0, 0},
    {"relu", Activation::clamp, 0, std::numeric_limits<double>::infinity()},
    {"relu6", Activation::clamp, 0, 6},
    {"hardswish", Activation::hardswish, 0, 0},
    {"hardsigmoid", Activation::hardsigmoid, 0, 0},
    {"sigmoid", Activation::sigmoid, 0, 0},
    {"silu", Activation::silu, 0, 0},
    {"tanh", Activation::tanh, 0, 0},
    {"gelu", Activation::gelu, 0, 0},
};

Epilogue epilogue_of(const std::string& name, double a, double b) {
  if (name == "clip") return {Activation::clamp, a, b};
  if (name == "leaky_relu") return {Activation::leaky_relu, a, 0};
  for (const auto& known : activations)
    if (name == known.name) return {known.activation, known.a, known.b};
  throw py::value_error("unknown activation " + name);
}

// ------------------------------------------------------------------------------------------------ a call

// x's place in a call: its channel axis, the step along every axis, and the shape that comes out.
struct Geometry {
  int axis = 0;
  size_t steps[max_rank];
  int rank = 0;
  ptrdiff_t shape[max_rank];
};

// Steps for every axis of x; false where the stride does not fit it.
bool steps_for(const Settings& s, const Array& x, int axis, size_t* steps) {
  const int pixel_axes = x.rank - 1;
  const int count = s.stride_count < 0 ? std::min(2, pixel_axes) : s.stride_count;
  if (count > pixel_axes) return false;
  for (int i = 0, pixel = 0; i < x.rank; ++i) {
    steps[i] = 1;
    if (i == axis) continue;
    const int strided = pixel++ - (pixel_axes - count);
    if (strided >= 0) steps[i] = s.strides[s.stride_count < 0 ? 0 : strided];
  }
  return true;
}

// False where x does not fit the layer.
bool locate(const Settings& s, const Weights& weights, const Array& x, Geometry& g) {
  if (x.rank == 0) return false;
  g.axis = s.channel_axis < 0 ? s.channel_axis + x.rank : s.channel_axis;
  if (g.axis < 0 || g.axis >= x.rank || static_cast<size_t>(x.shape[g.axis]) != weights.in_channels * weights.groups ||
      !steps_for(s, x, g.axis, g.steps))
    return false;
  for (int i = 0; i < x.rank; ++i) {
    if (i != g.axis)
      g.shape[g.rank++] = x.shape[i] ? (x.shape[i] - 1) / static_cast<ptrdiff_t>(g.steps[i]) + 1 : 0;
    else if (s.keep_axis)
      g.shape[g.rank++] = static_cast<ptrdiff_t>(s.out_channels);
  }
  return true;
}

// Strides for a result that lies as `like` does, x or another of the result's shape: dense, in its memory order.
void lie_as(const Array& like, const Geometry& g, ElementType type, ptrdiff_t* strides) {
  int axes[max_rank];
  memory_order(like, axes);
  size_t stride = size_of(type.dtype) * (type.is_complex ? 2 : 1);  // which may be beyond any array: NumPy says so
  for (int i = like.rank; i-- > 0;) {
    int axis = axes[i];
    if (like.rank > g.rank && axis >= g.axis && axis-- == g.axis) continue;  // x's channels, which the result has not
    strides[axis] = static_cast<ptrdiff_t>(stride);
    stride *= static_cast<size_t>(std::max<ptrdiff_t>(g.shape[axis], 1));
  }
}

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

// Below this, giving up the GIL costs more than another thread could gain.
constexpr double worth_releasing_microseconds = 20;
constexpr size_t elements_worth_releasing = size_t{1} << 17;

// What a call needs besides its data, shared by all calls of the same shape.
struct Prepared {
  std::vector<ptrdiff_t> key;
  Problem problem;
  Plan plan;
};

// The most recent shapes. The GIL guards it; a call holds on to what it got.
class Preparations {
 public:
  std::shared_ptr<const Prepared> get(const Settings& s, const Weights& weights, Form form, DType arithmetic,
                                      const Array& x, const Array& y, const Array* residual, const Geometry& g,
                                      int threads) {
    ptrdiff_t key[8 + 5 * max_rank];
    size_t n = 0;
    const auto add = [&](size_t value) { key[n++] = static_cast<ptrdiff_t>(value); };
    const auto type_of = [](const Array& a) { return static_cast<size_t>(a.dtype) * 4 + a.swapped * 2 + a.is_complex; };
    add(type_of(x) | type_of(y) << 8 | (residual ? type_of(*residual) + 1 : 0) << 16 |
        static_cast<size_t>(arithmetic) << 24 | static_cast<size_t>(s.keep_axis) << 32 |
        static_cast<size_t>(weights.narrow()) << 33 | static_cast<size_t>(s.factors.quantized) << 34 |
        static_cast<size_t>(weights.has_bias()) << 35 | static_cast<size_t>(form) << 36);
    add(static_cast<size_t>(x.rank) << 32 | static_cast<size_t>(g.axis));
    add(weights.groups);
    add(s.out_channels);
    add(static_cast<size_t>(threads));
    const auto add_all = [&](const ptrdiff_t* values, int count) {
      for (int i = 0; i < count; ++i) key[n++] = values[i];
    };
    add_all(x.shape, x.rank);
    for (int i = 0; i < x.rank; ++i) add(static_cast<size_t>(x.strides[i]) * g.steps[i]);
    add_all(y.strides, y.rank);
    if (s.stride_count >= 0 || s.strides[0] != 1) add_all(y.shape, y.rank);
    if (residual) add_all(residual->strides, residual->rank);

    size_t hash = 0;
    for (size_t i = 0; i < n; ++i) hash = (hash ^ static_cast<size_t>(key[i])) * 0x9e3779b97f4a7c15u;
    std::shared_ptr<const Prepared>& slot = slots_[hash >> 56];
    if (!slot || slot->key.size() != n || std::memcmp(slot->key.data(), key, n * sizeof(ptrdiff_t)) != 0) {
      auto made = std::make_shared<Prepared>();
      made->key.assign(key, key + n);
      made->problem = make_problem(arithmetic, x, y, residual, g.axis, s.keep_axis, g.steps, weights.groups,
                                   s.out_channels, form, weights.has_bias());
      made->problem.quantized = s.factors.quantized;
      made->problem.narrow_weights = weights.narrow();
      made->plan = make_plan(made->problem, machine(), threads);
      slot = std::move(made);
    }
    return slot;
  }

  void clear() {
    for (auto& slot : slots_) slot.reset();
  }

 private:
  std::shared_ptr<const Prepared> slots_[256];
};

Preparations& preparations() {
  static Preparations& the_preparations = *new Preparations;  // never destroyed: see cpu.cpp
  return the_preparations;
}

// A call is attempted as its arrays lie there: nothing between a look at them and the end runs Python or gives up the
// GIL. Where it has to, it is attempted once more with its arrays pinned.
struct Attempt {
  bool pinned = false;
  py::object result;  // that the attempt before has made
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

// One convolution of real numbers, as its arrays lay there when it was planned.
struct Planned {
  Data data;
  Form form;
  std::shared_ptr<const Prepared> prepared;
};

// As `compute`.
std::optional<bool> run_planned(const Settings& s, const Weights& weights, const Planned& planned, bool pinned) {
  const Plan& plan = planned.prepared->plan;
  if (plan.tiles == 0) return true;  // and nothing is packed, which 2**40 filters of no channels would take long to
  const bool releases = plan.microseconds >= worth_releasing_microseconds;
  if (releases && !pinned) return std::nullopt;
  const Layer layer{planned.data, &planned.prepared->problem, &plan,
                    &weights.packed(plan.family->operand, plan.family->width, planned.form), s.epilogue};
  if (!releases) return convolve(&layer, 1, nullptr, nullptr);
  WithoutGil without_gil;
  Interruption interruption(without_gil);
  return convolve(&layer, 1, Interruption::asked, &interruption);
}

Form form_of(const Weights& weights, const Array& x) {
  return !weights.is_complex() ? Form::plain : x.is_complex ? Form::pairs : Form::doubled;
}

// What became of a call: false with a Python error set when a signal handler raised; nothing where pins are missing.
std::optional<bool> compute(const Settings& s, const Weights& weights, DType arithmetic, const Array& x, const Array& y,
                            const Array* residual, const Geometry& g, int threads, bool pinned) {
  const auto planned = [&](Form form, DType type, const Array& pixels, const Array& sums, const Array* added) {
    return Planned{{pixels.data, sums.data, added ? added->data : nullptr},
                   form,
                   preparations().get(s, weights, form, type, pixels, sums, added, g, threads)};
  };
  const Form form = form_of(weights, x);
  if (form != Form::plain || x.is_complex || !y.is_complex)
    return run_planned(s, weights, planned(form, arithmetic, x, y, residual), pinned);
  // What is imaginary in the result of real filters over real pixels comes from the bias and the residual alone.
  const Array real_y = part_of(y, false), imaginary_y = part_of(y, true);
  Array real_residual, imaginary_residual;
  if (residual) real_residual = part_of(*residual, false);
  const bool adds = residual && residual->is_complex;
  if (adds) imaginary_residual = part_of(*residual, true);
  Array no_pixels = x;
  no_pixels.dtype = real_y.dtype;
  // Both are planned before either runs: where that gives up the GIL, shapes and types may be set anew.
  const Planned real = planned(form, arithmetic, x, real_y, residual ? &real_residual : nullptr),
                imaginary = planned(Form::imaginary, real_y.dtype, no_pixels, imaginary_y,
                                    adds ? &imaginary_residual : nullptr);
  const std::optional<bool> done = run_planned(s, weights, real, pinned);
  if (!done || !*done) return done;
  return run_planned(s, weights, imaginary, pinned);
}

// As choose_types; for integers it takes arithmetic.
Refusal choose(const Settings& s, Range x, const Range* residual, const DType* asked, Types& types) {
  const DefaultArithmetic arithmetic_mode;
  return choose_types(x, residual, s.factors, asked, types);
}

// The range of the numbers that a call reads of an array. False with a Python error set when a signal handler raised;
// nothing where pins are missing.
std::optional<bool> look_up(const Array& a, int threads, bool pinned, Range& range) {
  size_t count = 1;
  for (int i = 0; i < a.rank; ++i) count *= static_cast<size_t>(a.shape[i]);
  uint64_t found = 0;
  const KernelTable& table = *machine().table;
  if (count < elements_worth_releasing) {
    largest(table, a, 1, nullptr, nullptr, found);
  } else {
    if (!pinned) return std::nullopt;
    WithoutGil without_gil;
    Interruption interruption(without_gil);
    if (!largest(table, a, threads, Interruption::asked, &interruption, found)) return false;
  }
  range.largest = bound(found);
  return true;
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

// Chooses the types of a call. Of wide integers all that their types can hold is reckoned with; where that is too much
// for exact sums, what they hold. Returns as `look_up`.
std::optional<bool> settle_types(const Settings& s, const Geometry& g, const DType* asked, int threads, bool pinned,
                                 Operands& o, Types& types, Refusal& refusal) {
  if (!is_integer(o.x.dtype)) {
    o.x_range.dtype = o.x.dtype;
    refusal = choose_types(o.x_range, nullptr, s.factors, asked, types);
    return true;
  }
  o.x_range = range_of(o.x.dtype);
  if (o.adds) o.residual_range = range_of(o.residual.dtype);
  refusal = choose(s, o.x_range, o.added(), asked, types);
  const bool wide_x = is_wide(o.x.dtype), wide_residual = o.adds && is_wide(o.residual.dtype);
  if (refusal != Refusal::inexact || !(wide_x || wide_residual)) return true;
  o.keep_shapes();
  std::optional<bool> done = true;
  if (wide_x) {
    ptrdiff_t shape[max_rank], strides[max_rank];  // of the pixels that the call's stride takes
    for (int i = 0; i < o.x.rank; ++i) {
      const ptrdiff_t step = static_cast<ptrdiff_t>(g.steps[i]);
      shape[i] = o.x.shape[i] ? (o.x.shape[i] - 1) / step + 1 : 0;
      strides[i] = shape[i] > 1 ? o.x.strides[i] * step : 0;
    }
    Array taken = o.x;
    taken.shape = shape;
    taken.strides = strides;
    done = look_up(taken, threads, pinned, o.x_range);
  }
  if (done && *done && wide_residual) done = look_up(o.residual, threads, pinned, o.residual_range);
  if (done && *done) refusal = choose(s, o.x_range, o.added(), asked, types);
  return done;
}

PyObject* not_canonical() {
  Py_INCREF(Py_NotImplemented);
  return Py_NotImplemented;
}

// Whether a result of these types can be one of complex numbers, whose parts are float32 or float64; they are then.
bool may_be_complex(const Settings& s, Types& types) {
  if (s.epilogue.activation != Activation::none || s.factors.quantized || (s.result && !s.result->is_complex))
    return false;
  if (types.result != DType::float64) types.result = DType::float32;
  return true;
}

// The result as a new reference; NotImplemented for a call that is not canonical; null with an error set; nothing where
// the arrays must be pinned first.
std::optional<PyObject*> call(const Settings& s, const Weights& weights, PyObject* x_object, PyObject* residual_object,
                              PyObject* out_object, PyObject* threads_object, bool checked, Attempt& attempt) {
  Operands operands;
  Array &x = operands.x, &residual = operands.residual, &out = operands.out;
  Geometry g;
  if (!view(x_object, x) || !locate(s, weights, x, g) || (s.pixels && x.dtype != *s.pixels)) return not_canonical();
  const auto fits = [&](const Array& a) { return std::equal(a.shape, a.shape + a.rank, g.shape, g.shape + g.rank); };
  const bool adds = operands.adds = residual_object != Py_None;
  if (adds && (!view(residual_object, residual, checked) || !fits(residual))) return not_canonical();
  int threads = get_num_threads();
  if (threads_object != Py_None) {
    if (!PyLong_CheckExact(threads_object)) return not_canonical();
    const long n = clamped(threads_object);
    if (n < 1) return not_canonical();
    threads = static_cast<int>(std::min<long>(n, std::numeric_limits<int>::max()));
  }

  bool in_place = false;
  const DType* asked = s.result ? &s.result->dtype : nullptr;
  bool is_complex = x.is_complex || s.is_complex || (adds && residual.is_complex);
  if (out_object != Py_None) {
    if (!view(out_object, out, checked) || !fits(out) || !writeable(out_object) || !is_result(out.dtype) ||
        (s.result && (s.result->dtype != out.dtype || s.result->is_complex != out.is_complex)))
      return not_canonical();
    if (is_complex && !out.is_complex) return not_canonical();
    is_complex = out.is_complex;
    asked = &out.dtype;
    in_place = !may_overlap(out, x) && !(adds && may_overlap(out, residual)) && !may_overlap_itself(out);
    if (!in_place && !attempt.pinned) return std::nullopt;  // a copy to it may give up the GIL
  }
  Types types;
  Refusal refusal;
  const std::optional<bool> settled = settle_types(s, g, asked, threads, attempt.pinned, operands, types, refusal);
  if (!settled) return std::nullopt;
  if (!*settled) return nullptr;
  if (refusal != Refusal::none) return not_canonical();
  if (is_complex && !may_be_complex(s, types)) return not_canonical();
  const auto run = [&](const Array& y) {
    return compute(s, weights, types.arithmetic, x, y, adds ? &residual : nullptr, g, threads, attempt.pinned);
  };
  if (in_place) {
    const std::optional<bool> done = run(out);
    if (!done) return std::nullopt;
    if (!*done) return nullptr;
    Py_INCREF(out_object);
    return out_object;
  }
  const bool copied = out_object != Py_None;
  const ElementType result_type{types.result, is_complex};
  int number = type_number(result_type);
  if (types.result == DType::bfloat16)  // the one that was asked for, or else x's
    number = copied     ? number_of(py::detail::array_proxy(out_object)->descr)
             : s.result ? s.result_number
                        : number_of(py::detail::array_proxy(x_object)->descr);
  // As x lies; what is copied to `out` afterwards, as `out` does.
  const bool c_order = contiguous(copied ? out_object : x_object);
  ptrdiff_t strides[max_rank];
  if (!c_order) lie_as(copied ? out : x, g, result_type, strides);
  py::object result = std::move(attempt.result);
  Array y;
  if (!result || !view(result.ptr(), y) || y.dtype != types.result || y.is_complex != is_complex || !fits(y)) {
    result = py::reinterpret_steal<py::object>(
        new_array(g.rank, g.shape, c_order ? nullptr : strides, number));  // which runs no Python
    if (!result || !view(result.ptr(), y)) return nullptr;
  }
  const std::optional<bool> done = run(y);
  if (!done) {
    attempt.result = std::move(result);
    return std::nullopt;
  }
  if (!*done) return nullptr;
  if (!copied) return result.release().ptr();
  if (py::detail::npy_api::get().PyArray_CopyInto_(out_object, result.ptr()) != 0) return nullptr;
  Py_INCREF(out_object);
  return out_object;
}

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

// ---------------------------------------------------------------------------------------------- the layer

struct LayerState {
  Settings settings;
  py::object spec;  // keeps the arrays that `weights` reads
  Pins pins;        // of them
  std::unique_ptr<Weights> weights;
};

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

// The layer's arrays are looked at last: to read its settings, and to pin the arrays, may run Python.
std::unique_ptr<LayerState> make_state(py::tuple spec) {
  auto state = std::make_unique<LayerState>();
  Settings& s = state->settings;
  const py::object weight = spec[0], bias = spec[1], requantize = spec[8];
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
  for (PyObject* array : {weight.ptr(), bias.ptr(), multipliers.ptr()}) state->pins.add(array);

  Array filters;
  const auto given = [&](const py::object& numbers, Array& a, int rank) {
    if (numbers.is_none()) return Given{};
    if (!view(numbers.ptr(), a) || a.rank != rank || a.swapped || !contiguous(numbers.ptr()) ||
        a.shape[0] != filters.shape[0] || !Weights::reads(a.dtype))
      throw py::type_error(
          "weight must be (K, C/groups), bias and multipliers (K,); all contiguous, in float32, float64, int32 or a "
          "smaller type of integers, in this machine's byte order");
    return Given{a.data, a.dtype, a.is_complex};
  };
  const Given of_weight = given(weight, filters, 2);
  if (!of_weight.data) throw py::type_error("weight must be an array");
  if (groups == 0 || static_cast<size_t>(filters.shape[0]) % groups != 0)
    throw py::value_error("groups must divide the filters");
  Array b, m;
  const Given of_bias = given(bias, b, 1), of_scale = given(multipliers, m, 1);
  if (of_scale.is_complex) throw py::type_error("multipliers are real numbers");
  s.out_channels = static_cast<size_t>(filters.shape[0]);
  const DefaultArithmetic arithmetic_mode;
  state->weights = std::make_unique<Weights>(of_weight, of_bias, of_scale, groups, s.out_channels / groups,
                                             static_cast<size_t>(filters.shape[1]));
  settle_factors(s, *state->weights);
  s.is_complex = of_weight.is_complex || of_bias.is_complex || (s.result && s.result->is_complex);
  state->spec = std::move(spec);
  return state;
}

void layer_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<LayerObject*>(self)->state;
  type->tp_free(self);
  Py_DECREF(type);
}

// A layer's arguments: x by position or name, the others by name. A quantised layer takes no residual.
constexpr const char* argument_names[] = {"x", "residual", "out", "threads"};

const char* usage(bool quantized) {
  return quantized ? "qlayer(x, *, out=None, threads=None)" : "layer(x, *, residual=None, out=None, threads=None)";
}

// Fills `values`; false with a TypeError set.
bool parse(bool quantized, PyObject** values, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  const Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
  if (positional > 1) {
    PyErr_Format(PyExc_TypeError, "a layer takes x alone by position, got %zd arguments: write %s, as in %s",
                 positional, quantized ? "qlayer(x, out=a)" : "layer(x, residual=a) or layer(x, out=a)",
                 usage(quantized));
    return false;
  }
  if (positional == 1) values[0] = args[0];
  const Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t k = 0; k < keywords; ++k) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, k);
    size_t i = 0;
    while (i < 4 && PyUnicode_CompareWithASCIIString(name, argument_names[i]) != 0) ++i;
    if (i == 4 || (quantized && i == 1)) {
      PyErr_Format(PyExc_TypeError, "a %slayer has no argument %R: %s", quantized ? "quantised " : "", name,
                   usage(quantized));
      return false;
    }
    if (i == 0 && positional == 1) {
      PyErr_Format(PyExc_TypeError, "a layer got two values for argument %R", name);
      return false;
    }
    values[i] = args[positional + k];
  }
  if (values[0]) return true;
  PyErr_Format(PyExc_TypeError, "a layer needs an array: %s", usage(quantized));
  return false;
}

PyObject* layer_call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  return guarded([&]() -> PyObject* {
    const LayerState& state = *reinterpret_cast<LayerObject*>(self)->state;
    const bool quantized = state.settings.factors.quantized;
    PyObject* values[] = {nullptr, Py_None, Py_None, Py_None};
    if (!parse(quantized, values, args, nargsf, kwnames)) return nullptr;
    const auto call_with = [&](PyObject* x, PyObject* residual, PyObject* out, PyObject* threads, bool checked) {
      return attempt_call({x, residual, out}, [&](Attempt& attempt) {
        return call(state.settings, *state.weights, x, residual, out, threads, checked, attempt);
      });
    };
    PyObject* result = call_with(values[0], values[1], values[2], values[3], false);
    if (result != Py_NotImplemented) return result;
    Py_DECREF(result);
    const py::object canonical =
        py::module_::import(quantized ? "conv1x1._check_quantized" : "conv1x1._check").attr("call");
    const auto made = py::reinterpret_steal<py::tuple>(outlast_exit([&] {
      return PyObject_CallFunctionObjArgs(canonical.ptr(), state.spec.ptr(), values[0], values[1], values[2], values[3],
                                          nullptr);
    }));
    if (!made) return nullptr;
    result = call_with(py::object(made[0]).ptr(), py::object(made[1]).ptr(), py::object(made[2]).ptr(),
                       py::object(made[3]).ptr(), true);
    if (result == Py_NotImplemented) {
      Py_DECREF(result);
      throw std::logic_error("_check.call let an argument pass that the core does not take; please report this");
    }
    const py::object finish = made[4];
    if (!result || finish.is_none()) return result;
    const auto unfinished = py::reinterpret_steal<py::object>(result);
    return outlast_exit([&] { return PyObject_CallFunctionObjArgs(finish.ptr(), unfinished.ptr(), nullptr); });
  });
}

// layer._spec: the spec with arrays of its own, since whoever sets the shape or type of an array sets the layer's else.
PyObject* layer_spec(PyObject* self, void*) {
  return guarded([&] {
    const py::object& spec = reinterpret_cast<LayerObject*>(self)->state->spec;
    return py::module_::import("conv1x1._check").attr("shown")(spec).release().ptr();
  });
}

const char* order_name(Order order) { return order == Order::chain ? "chain" : "lanes"; }

const char* orientation_name(Orientation o) {
  return o == Orientation::pixels_as_rows ? "pixels_as_rows" : "pixels_as_lanes";
}

std::string plan_kernel(const Plan& plan, DType arithmetic) {
  if (plan.method == Method::multiply) return kernel_name(*plan.family, plan.table->isa, plan.vectors);
  return kernel_name(special_methods[static_cast<size_t>(plan.method) - 1], arithmetic, plan.table->isa);
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
    if (!view(args[0], x) || !locate(s, *state.weights, x, g)) throw py::value_error("x does not fit the layer");
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
    Problem problem = make_problem(types.arithmetic, x, y, adds ? &residual : nullptr, g.axis, s.keep_axis, g.steps,
                                   state.weights->groups, s.out_channels, form, state.weights->has_bias());
    problem.quantized = s.factors.quantized;
    problem.narrow_weights = state.weights->narrow();
    const Plan plan = make_plan(problem, machine(), threads);
    const Isa isa = plan.table->isa;
    py::dict d;
    d["kernel"] = plan_kernel(plan, problem.arithmetic);
    d["isa"] = isa_name(isa);
    d["arithmetic"] = type_name(types.arithmetic);
    d["dtype"] = type_name(ElementType{types.result, is_complex});
    d["orientation"] = plan.method == Method::few_filters    ? "few_filters"
                       : plan.method == Method::few_channels ? "few_channels"
                                                             : orientation_name(plan.orientation);
    d["order"] = order_name(plan.order);
    d["rows"] = static_cast<int>(plan.family->max_rows[plan.vectors - 1]);
    d["lanes"] = plan.vectors * plan.family->width;
    d["tile_pixels"] = plan.tile_pixels;
    d["tiles"] = plan.tiles;
    d["chunk_filters"] = plan.chunk_filters;
    d["channel_block"] = plan.channel_block;
    d["threads"] = plan.threads;
    py::list strided;
    for (int i = 0; i < x.rank; ++i)
      if (g.steps[i] != 1) strided.append(i);
    d["strided_axes"] = py::tuple(strided);
    int axes[max_rank];
    memory_order(y, axes);
    py::list outermost_first;
    for (int i = 0; i < y.rank; ++i) outermost_first.append(axes[i]);
    d["memory_order"] = py::tuple(outermost_first);
    d["stages_x"] = plan.stage_x;
    d["scratches_y"] = plan.scratch_y;
    d["scratch_bytes"] = plan.scratch_bytes;
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

PyType_Spec layer_type = {"conv1x1._conv1x1.Layer", sizeof(LayerObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL, layer_slots};

// Says in words that `inspect` reads how objects of a type are called; a slot's own words are (*args, **kwargs). The
// slot stays as it is: a function of Python's in its place would take twice the time of a small call.
void document_call(const py::type& type, const std::string& arguments, const std::string& summary) {
  const py::object before = type.attr("__call__");
  const auto* slot = reinterpret_cast<PyWrapperDescrObject*>(before.ptr());
  auto* documented = new wrapperbase(*slot->d_base);  // for as long as the type lives, and that is as long as we do
  documented->doc = strdup(("__call__($self, /, " + arguments + ")\n--\n\n" + summary).c_str());
  const auto call = py::reinterpret_steal<py::object>(
      PyDescr_NewWrapper(reinterpret_cast<PyTypeObject*>(type.ptr()), documented, slot->d_wrapped));
  if (!call) throw py::error_already_set();
  type.attr("__call__") = call;
}

// ------------------------------------------------------------------------------------------ the one-shot

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
  if (!view(x.ptr(), o.x, true) || !locate(s, *state->weights, o.x, g) ||
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

// What calls pass through is defined without pybind11: with no memory left, that turns MemoryError into TypeError, and
// its thread-local data, which the C library allocates at a thread's first use, make the process abort.

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

PyMethodDef functions[] = {
    {"conv1x1", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(one_shot)), METH_FASTCALL, nullptr},
    {"in_default_arithmetic", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(in_default_arithmetic)),
     METH_FASTCALL | METH_KEYWORDS, nullptr},
    {"choose_types", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(choose_types_of)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

// -------------------------------------------------------------------------------------------- the listing

// The blocks that set the number of threads and have not ended, in the order in which they began; the GIL guards them.
struct ThreadsBlock {
  long id;
  int before;  // the number to go back to
};
std::vector<ThreadsBlock>& threads_blocks = *new std::vector<ThreadsBlock>;  // never destroyed: see cpu.cpp

long begin_threads(int n) {
  static long id = 0;
  threads_blocks.push_back({++id, get_num_threads()});
  set_num_threads(n);
  return id;
}

// A block that ends before a later one leaves it what to go back to.
void end_threads(long id) {
  const auto block = std::find_if(threads_blocks.begin(), threads_blocks.end(),
                                  [id](const ThreadsBlock& other) { return other.id == id; });
  if (block == threads_blocks.end()) return;
  if (block + 1 == threads_blocks.end())
    set_num_threads(block->before);
  else
    (block + 1)->before = block->before;
  threads_blocks.erase(block);
}

py::list list_kernels() {
  py::list list;
  for (size_t i = 0; i < isa_count; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const KernelTable* table = kernels(isa, cpu());
    if (!table) continue;
    const auto add = [&](const std::string& name, const char* method, DType dtype, Order order, size_t rows,
                         size_t lanes) {
      py::dict d;
      d["name"] = name;
      d["isa"] = isa_name(isa);
      d["method"] = method;
      d["dtype"] = type_name(dtype);
      d["order"] = order_name(order);
      d["rows"] = rows;
      d["lanes"] = lanes;
      d["supported"] = cpu().supports[i];
      list.append(d);
    };
    for (size_t f = 0; f < table->family_count; ++f) {
      const MultiplyFamily& family = table->families[f];
      if (isa_of(family.operand, isa) != isa) continue;
      for (size_t v = 1; v <= family.max_vectors; ++v)
        add(kernel_name(family, isa, v), "multiply", sums_of(family.operand), Order::chain, family.max_rows[v - 1],
            v * family.width);
    }
    if (isa_of(Operand::float32, isa) != isa) continue;
    for (DType dtype : {DType::float32, DType::float64})
      for (const char* method : special_methods)
        add(kernel_name(method, dtype, isa), method, dtype,
            std::strcmp(method, "few_channels") == 0 ? Order::chain : Order::lanes, 1, 4);
  }
  return list;
}

// Plans use this instruction set (none: the best), and this kernel and orientation where type and order fit.
void restrict_to(const std::optional<std::string>& isa, const std::optional<std::string>& kernel,
                 const std::optional<std::string>& orientation) {
  Selection wanted{isa ? isa_from_name(*isa, cpu()) : default_isa(), {}};
  if (orientation) {
    for (Orientation o : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes})
      if (*orientation == orientation_name(o)) wanted.only.orientation = o;
    if (!wanted.only.orientation) throw py::value_error("no orientation '" + *orientation + "'");
  }
  bool found = !kernel;
  for (size_t i = 0; i < isa_count && !found; ++i) {
    const KernelTable* table = cpu().supports[i] ? kernels(static_cast<Isa>(i), cpu()) : nullptr;
    if (!table || (isa && table->isa != wanted.isa)) continue;
    const auto take = [&](const MultiplyFamily* family, size_t vectors) {
      wanted = {table->isa, {family, vectors, wanted.only.orientation}};
      found = true;
    };
    for (size_t f = 0; f < table->family_count; ++f)
      for (size_t v = 1; v <= table->families[f].max_vectors; ++v)
        if (*kernel == kernel_name(table->families[f], table->isa, v)) take(&table->families[f], v);
    for (const char* method : special_methods)
      for (DType dtype : {DType::float32, DType::float64})
        if (*kernel == kernel_name(method, dtype, table->isa)) take(nullptr, 0);
  }
  if (!found) throw py::value_error("no kernel '" + *kernel + "' that this CPU can run; see _conv1x1.kernels()");
  selection() = wanted;
  preparations().clear();
}

py::dict config() {
  py::dict d;
  py::list built, supported;
  for (size_t i = 0; i < isa_count; ++i) {
    if (kernels(static_cast<Isa>(i), cpu())) built.append(isa_name(static_cast<Isa>(i)));
    if (cpu().supports[i]) supported.append(isa_name(static_cast<Isa>(i)));
  }
  d["compiler"] = CONV1X1_COMPILER;
  d["cpu"] = cpu().name;
  d["isas_built"] = built;
  d["isas_supported"] = supported;
  d["isa"] = isa_name(selection().isa);
  d["fused"] = machine().table->fused;
  d["threads"] = get_num_threads();
  return d;
}

// The fastest of some tries of about a millisecond each: the work of one, over its time.
template <class Try>
double fastest(double work, Try once) {
  double best = 0;
  for (int i = 0; i < 12; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const volatile double done = once();
    static_cast<void>(done);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, work / seconds.count());
  }
  return best;
}

// What one thread reaches at most, in 10⁹ operations a second, with the instruction set in use; int8: of the best
// kernel for integers.
double peak_gflops(const std::string& dtype) {
  const KernelTable& table = *machine().table;
  size_t type = static_cast<size_t>(dtype == "float64" ? Operand::float64 : Operand::float32);
  if (dtype == "int8") {
    for (Operand operand : {Operand::int16_pairs, Operand::int8_quads, Operand::signed_quads})
      if (table.multiply_adds[static_cast<size_t>(operand)]) type = static_cast<size_t>(operand);
  } else if (dtype != "float32" && dtype != "float64") {
    throw py::value_error("expected 'float32', 'float64' or 'int8', got '" + dtype + "'");
  }
  const size_t rounds = 100000;
  const WithoutGil without_gil;
  return fastest(1e-9 * static_cast<double>(rounds * table.multiply_adds_flop[type]),
                 [&] { return table.multiply_adds[type](rounds); });
}

// How fast one thread reads an array of so many bytes again and again, in GB/s.
double read_gbs(size_t bytes) {
  bytes = std::max<size_t>(bytes / 1024, 1) * 1024;
  const KernelTable& table = *machine().table;
  const Buffer buffer = allocate(bytes);
  std::memset(buffer.get(), 0, bytes);
  const size_t times = std::max<size_t>((size_t{32} << 20) / bytes, 1);
  const WithoutGil without_gil;
  return fastest(1e-9 * static_cast<double>(bytes * times), [&] {
    double sum = 0;
    for (size_t i = 0; i < times; ++i) sum += table.read_through(buffer.get(), bytes);
    return sum;
  });
}

}  // namespace

PYBIND11_MODULE(_conv1x1, m) {
  m.doc() = "The compiled core of conv1x1.";
  py::object type = py::reinterpret_steal<py::object>(PyType_FromSpec(&layer_type));
  if (!type || PyModule_AddFunctions(m.ptr(), functions) != 0) throw py::error_already_set();
  m.attr("Layer") = type;
  m.def("document_call", document_call, py::arg("type"), py::arg("arguments"), py::arg("summary"));
  m.def("kernels", list_kernels);
  m.def("restrict", restrict_to, py::arg("isa") = py::none(), py::arg("kernel") = py::none(),
        py::arg("orientation") = py::none());
  m.def("config", config);
  m.def(
      "know_bfloat16",
      [](int number) {
        if (std::find(bfloat16_numbers.begin(), bfloat16_numbers.end(), number) == bfloat16_numbers.end())
          bfloat16_numbers.push_back(number);
      },
      py::arg("type_number"));
  m.def("peak_gflops", peak_gflops, py::arg("dtype"));
  m.def("read_gbs", read_gbs, py::arg("bytes"));
  m.def("get_num_threads", get_num_threads);
  m.def("set_num_threads", set_num_threads, py::arg("n"));
  m.def("begin_threads", begin_threads, py::arg("n"));
  m.def("end_threads", end_threads, py::arg("block"));
  m.def("cgroup_cpus", cgroup_cpus, py::arg("root"));
  try {
    selection();
    get_num_threads();
  } catch (const std::invalid_argument& error) {  // an environment variable, which need not be text
    throw py::import_error(py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(error.what(), static_cast<Py_ssize_t>(std::strlen(error.what())), "backslashreplace")));
  }
  make_pool();
}

}  // namespace conv1x1
