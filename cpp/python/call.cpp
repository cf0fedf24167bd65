#include "call.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "prepared.h"
#include "run/convolve.h"
#include "run/largest.h"
#include "selection.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

// One convolution of real numbers, as its arrays lay there when it was planned.
struct Planned {
  Data data;
  Form form;
  std::shared_ptr<Prepared> prepared;
};

// As `compute`.
std::optional<bool> run_planned(const Settings& s, const Weights& weights, const Planned& planned, bool pinned) {
  Prepared& prepared = *planned.prepared;
  // Nothing is packed then, which 2**40 filters of no channels would take long to.
  if (prepared.program.tiles == 0) return true;
  const bool releases = prepared.program.microseconds >= microseconds_worth_releasing;
  if (releases && !pinned) return std::nullopt;
  Turn turn(prepared);
  const MultiplyFamily& family = *turn.program().steps.front().plan.family;
  const Layer layer{&weights.packed(family.operand, family.width, planned.form), s.epilogue};
  if (!releases) return turn.run(planned.data, layer, nullptr, nullptr);
  WithoutGil without_gil;
  Interruption interruption(without_gil);
  return turn.run(planned.data, layer, Interruption::asked, &interruption);
}

}  // namespace

Form form_of(const Weights& weights, const Array& x) {
  return !weights.is_complex() ? Form::plain : x.is_complex ? Form::pairs : Form::doubled;
}

namespace {

// What became of a call: false with a Python error set when a signal handler raised; nothing where pins are missing.
std::optional<bool> compute(const Settings& s, const Weights& weights, DType arithmetic, const Array& x, const Array& y,
                            const Array* residual, const Geometry& g, int threads, bool pinned, Limit* limit) {
  const auto planned = [&](Form form, DType type, const Array& pixels, const Array& sums, const Array* added) {
    return Planned{{pixels.data, sums.data, added ? added->data : nullptr, limit},
                   form,
                   prepare({s, weights, form, type, pixels, sums, added, g, threads})};
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

// The range of the numbers that a call reads of an array. False with a Python error set when a signal handler raised;
// nothing where pins are missing.
std::optional<bool> look_up(const Array& a, int threads, bool pinned, Range& range) {
  size_t count = 1;
  for (int i = 0; i < a.rank; ++i) count *= static_cast<size_t>(a.shape[i]);
  uint64_t found = 0;
  const KernelTable& table = *kernels(selection().isa, cpu());
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

}  // namespace

Refusal choose(const Settings& s, Range x, const Range* residual, const DType* asked, Types& types) {
  const DefaultArithmetic arithmetic_mode;
  return choose_types(x, residual, s.factors, asked, types);
}

std::optional<bool> settle_types(const Settings& s, const Geometry& g, const DType* asked, int threads, bool pinned,
                                 Operands& o, Types& types, Refusal& refusal, std::optional<Limit>* limit) {
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
  if (wide_residual) done = look_up(o.residual, threads, pinned, o.residual_range);
  if (done && *done && wide_x && limit) {
    const DefaultArithmetic arithmetic_mode;
    if (const std::optional<uint64_t> most = most_exact(o.added(), s.factors)) {
      limit->emplace().most = *most;
      refusal = Refusal::none;
      return true;
    }
  }
  if (done && *done && wide_x) {
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
  if (done && *done) refusal = choose(s, o.x_range, o.added(), asked, types);
  return done;
}

PyObject* not_canonical() {
  Py_INCREF(Py_NotImplemented);
  return Py_NotImplemented;
}

bool may_be_complex(const Settings& s, Types& types) {
  if (s.epilogue.activation != Activation::none || s.factors.quantized || s.factors.centered ||
      (s.result && !s.result->is_complex))
    return false;
  if (types.result != DType::float64) types.result = DType::float32;
  return true;
}

bool number_of_threads(PyObject* object, int& threads) {
  threads = get_num_threads();
  if (object == Py_None) return true;
  if (!PyLong_CheckExact(object)) return false;
  const long n = clamped(object);
  threads = static_cast<int>(std::min<long>(n, std::numeric_limits<int>::max()));
  return n >= 1;
}

std::optional<PyObject*> call(const Settings& s, const Weights& weights, PyObject* x_object, PyObject* residual_object,
                              PyObject* out_object, PyObject* threads_object, bool checked, Attempt& attempt) {
  Operands operands;
  Array &x = operands.x, &residual = operands.residual, &out = operands.out;
  Geometry g;
  if (!view(x_object, x) || !locate(s, weights.channels(), x, g) || (s.pixels && x.dtype != *s.pixels))
    return not_canonical();
  const auto fits = [&](const Array& a) { return std::equal(a.shape, a.shape + a.rank, g.shape, g.shape + g.rank); };
  const bool adds = operands.adds = residual_object != Py_None;
  if (adds && (!view(residual_object, residual, checked) || !fits(residual))) return not_canonical();
  int threads;
  if (!number_of_threads(threads_object, threads)) return not_canonical();

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
  std::optional<Limit> limit;  // where the result is this call's own, to be dropped when x turns out to pass it
  const std::optional<bool> settled =
      settle_types(s, g, asked, threads, attempt.pinned, operands, types, refusal, in_place ? nullptr : &limit);
  if (!settled) return std::nullopt;
  if (!*settled) return nullptr;
  if (refusal != Refusal::none) return not_canonical();
  if (is_complex && !may_be_complex(s, types)) return not_canonical();
  const auto run = [&](const Array& y) {
    const std::optional<bool> done = compute(s, weights, types.arithmetic, x, y, adds ? &residual : nullptr, g, threads,
                                             attempt.pinned, limit ? &*limit : nullptr);
    attempt.dropped = limit && limit->passed;
    return done;
  };
  return deliver({x_object, out_object, x, out, in_place}, g, {types.result, is_complex}, s.result_number, attempt,
                 run);
}

}  // namespace conv1x1
