// What calls of one shape share: a program, made at the first such call and looked up by all others.
//
// Plans are measured. Where calls of a shape come again and are worth the two looks at a clock, the cost model's best
// few plans take turns until one has shown to be the fastest (plan/trials.h). The GIL guards what they have taken so
// far.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "call/problem.h"
#include "plan/program.h"
#include "plan/trials.h"
#include "run/convolve.h"
#include "settings.h"
#include "weights/weights.h"

namespace conv1x1 {

namespace py = pybind11;

struct Tried {
  std::vector<Program> programs;
  Trials trials;
};

struct Prepared {
  std::vector<ptrdiff_t> key;
  int threads = 1;               // at most
  Program program;               // the cost model's own
  std::vector<Layer> operands;   // of a chain, from its first call on
  bool tunes = false;            // whether others are tried too, from the second call on
  bool called = false;           // once
  std::unique_ptr<Tried> tried;  // from then on

  const Problem& problem() const { return program.steps.front().problem; }

  // The one that calls run with: the model's own until another has shown to be faster.
  const Program& settled_program() const {
    return tried && tried->trials.settled() ? tried->programs[tried->trials.next()] : program;
  }
};

// One call's turn: the program it runs, and, where plans are on trial, what it takes. The GIL is held when it begins
// and when it ends.
class Turn {
 public:
  explicit Turn(Prepared& prepared) : prepared_(prepared), program_(&prepared.program) {
    if (prepared.tunes) take_turn();
  }
  ~Turn() {
    if (nanoseconds_ >= 0) report();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  const Program& program() const { return *program_; }

  // As `convolve`, of a layer with that program. A call that is stopped, or raises, counts for nothing.
  bool run(const Data& data, const Layer& layer, bool (*stop)(void*), void* stop_context) {
    return timed_ ? run_timed(data, layer, stop, stop_context) : convolve(*program_, data, &layer, stop, stop_context);
  }

 private:
  void take_turn();
  void report();
  bool run_timed(const Data&, const Layer&, bool (*stop)(void*), void* stop_context);

  Prepared& prepared_;
  const Program* program_;
  size_t candidate_ = 0;
  bool timed_ = false;
  int64_t nanoseconds_ = -1;
};

// One convolution of real numbers: all that its program depends on. Of the arrays that is types, shapes and
// strides, of the weights what they are for, not their numbers.
struct Asked {
  const Settings& settings;
  const Weights& weights;
  Form form;
  DType arithmetic;
  const Array &x, &y;
  const Array* residual;  // null for none
  const Geometry& geometry;
  int threads;
};

// Of the most recent shapes it is there already. The GIL guards them; a call holds on to what it got.
std::shared_ptr<Prepared> prepare(const Asked&);

// What one program is looked up by: `add` whatever it depends on.
struct Key {
  ptrdiff_t numbers[8 + 5 * max_rank];
  size_t length = 0;
  size_t hash = 0, factor = 1;  // of which a number does not wait for the one before it

  void add(size_t number) {
    numbers[length++] = static_cast<ptrdiff_t>(number);
    hash += number * (factor *= 0x9e3779b97f4a7c15u);
  }
  void add(const ptrdiff_t* values, int count) {
    for (int i = 0; i < count; ++i) add(static_cast<size_t>(values[i]));
  }
  void add_steps(const Array& x, const Geometry& g) {
    for (int i = 0; i < x.rank; ++i) add(static_cast<size_t>(x.strides[i]) * g.steps[i]);
  }
};

// All that tells one type of elements from another.
inline size_t type_of(const Array& a) { return static_cast<size_t>(a.dtype) * 4 + a.swapped * 2 + a.is_complex; }

// Where a program of such a key is, or shall be kept; `there` says which.
std::shared_ptr<Prepared>& slot_of(const Key&, bool& there);

// From here on the kernels that plans choose among are others, or those of every day again, whose plans are still
// there.
void restrict_plans(bool restricts);

// All plans are made anew, and nothing was tried yet.
void forget_plans();

// What was tried for calls of a shape, and what it took: a tuple of dicts, empty where nothing was.
py::tuple trials_of(const Prepared&);

// The same for all shapes that are there, the shapes as dicts.
py::list all_trials();

}  // namespace conv1x1
