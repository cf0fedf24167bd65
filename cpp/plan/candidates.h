// The ways there are to compute a problem: what multiplies, and what is moved before and after. Each with its cost.
#pragma once

#include <cstddef>
#include <vector>

#include "call/problem.h"
#include "plan/machine.h"

namespace conv1x1 {

struct Candidate {
  Method method = Method::multiply;
  Orientation orientation = Orientation::pixels_as_rows;
  const MultiplyFamily* family = nullptr;  // of every method: weights are packed for it
  size_t vectors = 1;                      // lanes are walked in columns of at most this many vectors
  bool stage_x = false;                    // x is copied into a tile first
  bool scratch_y = false;                  // results go to a tile first, and from there to y
  int unusual = 0;    // in how many points it is not what the planner considers unless it is asked to
  double cycles = 0;  // a forecast, to be compared with those of the same problem; of the special methods, which are
                      // chosen by rule, the moves alone
};

// Of a problem that has pixels and filters: all there are, or those that are usual in every point; at least one is.
std::vector<Candidate> candidates(const Problem&, const Machine&, bool all = true);

// The one that make_plan takes: as the machine's restriction says as far as that fits, then usual, then cheapest.
Candidate choose_candidate(const Problem&, const Machine&);

// Others that may turn out better than that one, the cheapest first: forecast to take little longer, with the same
// panels or with small ones. Of those that move something that is not usual, the cheapest of each kind.
std::vector<Candidate> rivals(const Problem&, const Machine&, const Candidate& chosen);

// The first family whose sums are the problem's.
const MultiplyFamily* any_family(const Problem&, const KernelTable&);

}  // namespace conv1x1
