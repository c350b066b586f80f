package sim

import "slices"

// maxShrinks bounds how many schedules are played to make one smaller.
const maxShrinks = 3000

// Shrink plays a schedule that fails again and again with fewer mishaps, until
// none of them can be left out without it holding to every invariant, or with
// another one broken. It returns the last that failed, with its trace.
//
// The search is delta debugging (Zeller, Hildebrandt, 2002): halves first, then
// ever smaller parts.
func Shrink(r Result) Result {
	best := r.Mishaps
	for parts, left := 2, maxShrinks; len(best) > 0 && left > 0; {
		size := max(1, len(best)/parts)
		smaller := false
		for from := 0; from < len(best) && left > 0; from += size {
			left--
			without := slices.Delete(slices.Clone(best), from, min(from+size, len(best)))
			if got := Run(r.Seed, without, false); got.Broken == r.Broken {
				best, smaller = got.Mishaps, true
				break
			}
		}
		switch {
		case smaller:
			parts = max(2, parts-1)
		case size == 1:
			left = 0
		default:
			parts *= 2
		}
	}
	return Run(r.Seed, best, true)
}
